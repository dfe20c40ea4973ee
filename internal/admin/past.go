package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/docs"
	"imapproxy/telemetry"
)

// failingFor is the time of which /v1/failing tells.
const failingFor = 15 * time.Minute

// failingMost is how many addresses, networks and users /v1/failing names.
const failingMost = 20

func (s *Server) pastRoutes(r map[string]route) {
	r["/v1/access"] = route{serve: s.access}
	if s.opts.Past == nil {
		return
	}
	r["/v1/history"] = route{serve: s.history}
	r["/v1/changes"] = route{serve: s.changes}
	r["/v1/ended"] = route{serve: s.ended}
	r["/v1/failing"] = route{serve: s.failing}
	r["/v1/slow"] = route{serve: s.slow}
	r["/v1/commands"] = route{serve: s.lastCommands}
}

// access is GET /v1/access.
func (s *Server) access(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	if s.opts.Token == "" && s.peerToken() == "" {
		reply(w, http.StatusOK, Access{Why: "there is no token: admin { token_file = … } in the configuration names its file"})
		return
	}
	if r.Header.Get("Authorization") == "" { // on loopback, where reading needs none
		reply(w, http.StatusOK, Access{Why: "they need the operator's token", Token: true})
		return
	}
	switch s.authorized(r, true) {
	case accessOperator:
		reply(w, http.StatusOK, Access{Change: true})
	case accessRead:
		reply(w, http.StatusOK, Access{Why: "this token may only read", Token: true})
	default: // likewise on loopback
		reply(w, http.StatusOK, Access{Why: "the token is wrong", Token: true})
	}
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "after")
	if !ok {
		return
	}
	var after time.Time
	if text := q.Get("after"); text != "" {
		var err error
		if after, err = time.Parse(time.RFC3339Nano, text); err != nil {
			fail(w, http.StatusBadRequest, CodeBadRequest, "after: want a time of a sample")
			return
		}
	}
	reply(w, http.StatusOK, s.opts.Past.History(after))
}

func (s *Server) changes(w http.ResponseWriter, r *http.Request) {
	limit, _, ok := latest(w, r)
	if !ok {
		return
	}
	out := Changes{Changes: []Change{}}
	for _, l := range s.opts.Past.Events() {
		if len(out.Changes) == limit {
			break
		}
		c := Change{Time: l.Time, Level: l.Level, Message: l.Message, Fields: []Field{}}
		for _, f := range l.Fields {
			c.Fields = append(c.Fields, Field{f.Key, f.Value})
		}
		out.Changes = append(out.Changes, c)
	}
	reply(w, http.StatusOK, out)
}

func (s *Server) ended(w http.ResponseWriter, r *http.Request) {
	limit, q, ok := latest(w, r, "user", "session")
	if !ok {
		return
	}
	out := EndedSessions{Sessions: []EndedSession{}, Reasons: map[string]string{}}
	words := map[string]string{}
	for _, d := range docs.Reasons() {
		if d.Kind == docs.WhyEnded {
			words[d.Name] = d.What
		}
	}
	for _, l := range s.opts.Past.Ended() {
		if len(out.Sessions) == limit {
			break
		}
		if q.Get("user") != "" && q.Get("user") != l.Get("user") || q.Get("session") != "" && q.Get("session") != l.Get("session") {
			continue
		}
		e := EndedSession{ID: l.Get("session"), Time: l.Time, Reason: l.Get("reason"), User: l.Get("user"), Backend: l.Get("backend"), Client: l.Get("client"),
			Listener: l.Get("listener"), Duration: l.Get("duration"), Commands: l.Get("commands"), BytesIn: l.Get("bytes_in"), BytesOut: l.Get("bytes_out")}
		if text, ok := words[e.Reason]; ok {
			out.Reasons[e.Reason] = text
		}
		out.Sessions = append(out.Sessions, e)
	}
	reply(w, http.StatusOK, out)
}

func (s *Server) slow(w http.ResponseWriter, r *http.Request) {
	limit, q, ok := latest(w, r, "user", "session")
	if !ok {
		return
	}
	out := SlowCommands{Commands: []SlowCommand{}}
	for _, c := range s.opts.Past.SlowCommands() {
		if len(out.Commands) == limit {
			break
		}
		if q.Get("user") != "" && q.Get("user") != c.User || q.Get("session") != "" && q.Get("session") != c.Session {
			continue
		}
		out.Commands = append(out.Commands, s.slowCommand(c))
	}
	reply(w, http.StatusOK, out)
}

// traceURL returns where people look at a trace, "" if that isn't known.
func (s *Server) traceURL(id string) string {
	if id == "" || s.opts.TraceURL == nil {
		return ""
	}
	return strings.ReplaceAll(s.opts.TraceURL(), "{trace_id}", id)
}

// lastCommands is GET /v1/commands.
func (s *Server) lastCommands(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "session")
	if !ok {
		return
	}
	id := q.Get("session")
	if id == "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, "session is missing")
		return
	}
	out := SessionCommands{Session: id, Commands: []SessionCommand{}, Attachments: []AttachmentChange{}}
	for _, c := range s.opts.Past.Commands(id) {
		out.Commands = append(out.Commands, s.command(c))
	}
	for _, c := range s.opts.Past.Attachments(id) {
		out.Attachments = append(out.Attachments, AttachmentChange{Time: c.Time, From: c.From, To: c.To})
	}
	reply(w, http.StatusOK, out)
}

// latest reads the query of a list whose first element is the latest. If it returns false, it has answered the request.
func latest(w http.ResponseWriter, r *http.Request, names ...string) (limit int, q url.Values, ok bool) {
	q, ok = parameters(w, r, append(names, "limit")...)
	if !ok {
		return 0, nil, false
	}
	limit = 1000
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			fail(w, http.StatusBadRequest, CodeBadRequest, "limit: want a number from 1 to 1000")
			return 0, nil, false
		}
		limit = n
	}
	return limit, q, true
}

func (s *Server) failing(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	reply(w, http.StatusOK, countFailing(s.opts.Past.FailedLogins(), s.opts.Now(), s.opts.Proxy.Status().Started))
}

// countFailing counts failed logins, of which the latest is the first. started is when the proxy has begun to remember them.
func countFailing(all []telemetry.FailedLogin, now, started time.Time) Failing {
	out := Failing{Since: now.Add(-failingFor)}
	if started.After(out.Since) {
		out.Since = started
	}
	if len(all) == telemetry.KeptFailures && all[len(all)-1].Time.After(out.Since) {
		out.Since = all[len(all)-1].Time // earlier ones are forgotten
	}
	addresses, networks, users, reasons := failingCounts{}, failingCounts{}, failingCounts{}, failingCounts{}
	for _, f := range all {
		if f.Time.Before(out.Since) {
			break
		}
		out.Failures++
		address, network := "unknown", "unknown"
		if f.Client.IsValid() {
			bits := 24
			if f.Client.Is6() {
				bits = 64
			}
			address, network = f.Client.String(), netip.PrefixFrom(f.Client, bits).Masked().String()
		}
		addresses.add(address, f)
		networks.add(network, f)
		users.add(f.User, f)
		reasons.add(f.Reason, f)
	}
	out.Addresses, out.Networks, out.Users, out.Reasons = addresses.top(), networks.top(), users.top(), reasons.top()
	return out
}

// failingCounts counts by name.
type failingCounts map[string]*FailingCount

func (c failingCounts) add(name string, f telemetry.FailedLogin) {
	if c[name] == nil {
		c[name] = &FailingCount{Name: name, Last: f.Time, Reason: f.Reason}
	}
	c[name].Failures++
}

func (c failingCounts) top() []FailingCount {
	all := []FailingCount{}
	for _, one := range c {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b FailingCount) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), failingMost)]
}

// PastQuery chooses from what the proxy remembers.
type PastQuery struct {
	User, Session string
	Limit         int // 0: all
}

func (q PastQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"user": q.User, "session": q.Session} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", fmt.Sprint(q.Limit))
	}
	return v
}

// GetPast asks one proxy for one of /v1/history, /v1/changes, /v1/ended, /v1/failing, /v1/slow and /v1/commands.
func GetPast[T any](ctx context.Context, c *Client, path string, q PastQuery) (answer T, err error) {
	return answer, c.get(ctx, path, q.values(), &answer)
}

// GetPastOfAll asks all proxies of the service for it.
func GetPastOfAll[T any](ctx context.Context, c *Client, path string, q PastQuery) (Cluster[T], error) {
	return ofAll[T](ctx, c, path, q.values())
}

func (s *Server) command(c telemetry.SessionCommand) SessionCommand {
	return SessionCommand{Time: c.Time, Command: c.Verb, Status: c.Status, Took: c.Took.Seconds(), Client: c.ClientWait.Seconds(), Proxy: c.Forward.Seconds(),
		Waited: c.BackendWait.Seconds(), Resume: c.ResumeWait.Seconds(), TraceID: c.TraceID, TraceURL: s.traceURL(c.TraceID)}
}

func (s *Server) slowCommand(c telemetry.SlowCommand) SlowCommand {
	return SlowCommand{Session: c.Session, User: c.User, Backend: c.Backend, SessionCommand: s.command(c.SessionCommand)}
}
