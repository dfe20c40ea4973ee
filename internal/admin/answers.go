package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/proxy"
	"imapproxy/routing"
)

// defaultPage is the default number of sessions in a page.
const defaultPage = 100

// healthz says only that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, Health{OK: true})
}

// readyz says whether clients should be sent here.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Agreement != nil {
		if _, isolated := s.opts.Agreement(); isolated == "hold" {
			reply(w, http.StatusServiceUnavailable, Health{Reason: "isolated: the proxy is cut off from the others, and its logins wait"})
			return
		}
	}
	switch s.state() {
	case StateLameDuck:
		reply(w, http.StatusServiceUnavailable, Health{Reason: "lame_duck: the proxy stops soon, and accepts clients until then"})
	case StateDraining:
		reply(w, http.StatusServiceUnavailable, Health{Reason: "draining: the proxy is stopping"})
	case StateStarting:
		reply(w, http.StatusServiceUnavailable, Health{Reason: "starting: no set of backends was learnt yet"})
	default:
		reply(w, http.StatusOK, Health{OK: true})
	}
}

func (s *Server) state() string {
	switch {
	case s.opts.Proxy.Status().Draining:
		return StateDraining
	case s.opts.LameDuck != nil && s.opts.LameDuck():
		return StateLameDuck
	case !s.opts.Router.Ready():
		return StateStarting
	}
	return StateReady
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	p, now := s.opts.Proxy.Status(), s.opts.Now()
	st := Status{
		Problems: []Problem{},
		Proxy:    Proxying{ID: s.opts.ID, Name: s.name()},
		Version:  p.Version, Hostname: p.Hostname, State: s.state(), Time: now, Started: p.Started,
		UptimeSeconds: int64(now.Sub(p.Started) / time.Second), Listeners: []Listener{},
		Sessions: p.Sessions, Attachments: p.Attachments, BackendConnections: p.BackendConns,
		Backends: map[string]int{routing.Up.String(): 0, routing.Draining.String(): 0, routing.Down.String(): 0},
	}
	for name, addr := range p.Listeners {
		st.Listeners = append(st.Listeners, Listener{Name: name, Address: addr})
	}
	slices.SortFunc(st.Listeners, func(a, b Listener) int { return cmp.Compare(a.Name, b.Name) })
	for _, b := range s.opts.Router.Backends() {
		st.Backends[b.State.String()]++
	}
	if good := s.opts.Router.LastGood(); !good.IsZero() {
		age := int64(now.Sub(good) / time.Second)
		st.Discovery = Discovery{LastGood: &good, AgeSeconds: &age, Saved: s.opts.Router.FromSaved()}
	}
	if s.opts.Agreement != nil {
		a, isolated := s.opts.Agreement()
		st.Agreement, st.Proxy.Epoch, st.Proxy.Isolated = &a, new(int64(a.Acked)), isolated
	}
	if s.opts.Digest != nil {
		st.Proxy.Config = s.opts.Digest()
	}
	if s.opts.Parking != nil {
		st.Parking = s.opts.Parking()
	}
	st.Shortages = []Shortage{}
	if s.opts.Shortages != nil {
		st.Shortages = append(st.Shortages, s.opts.Shortages()...)
	}
	if s.opts.Problems != nil {
		st.Problems = append(st.Problems, s.opts.Problems()...)
	}
	st.Certificates, st.Resources = []CertificateEnd{}, []Resource{}
	if s.opts.Process != nil {
		p := s.opts.Process()
		st.Certificates, st.Resources = append(st.Certificates, p.Certificates...), append(st.Resources, p.Resources...)
		slices.SortStableFunc(st.Certificates, func(a, b CertificateEnd) int { return a.Ends.Compare(b.Ends) })
	}
	st.Leaving = s.leaving()
	if s.opts.Reload != nil {
		st.Reload = s.opts.Reload()
	}
	reply(w, http.StatusOK, st)
}

func (s *Server) backends(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	out := Backends{Backends: []Backend{}, Drains: []Drain{}, Pauses: []Pause{}}
	if s.opts.Mover != nil {
		out.Drains = append(out.Drains, s.opts.Mover.Drains()...)
	}
	if s.opts.Pauser != nil {
		out.Pauses = append(out.Pauses, s.opts.Pauser.Pauses()...)
	}
	fleet := s.opts.Router.Backends()
	share := sharesOf(fleet)
	var sessions map[string]proxy.SessionsAt
	if s.opts.SessionsOn != nil {
		ids := make([]string, len(fleet))
		for i, b := range fleet {
			ids[i] = b.ID
		}
		sessions = s.opts.SessionsOn(ids...)
	}
	for _, b := range fleet {
		row := Backend{
			ID: b.Shown(), StableID: b.ID, Address: b.Address, State: b.State.String(), Reason: b.Reason, Since: b.Since, Weight: b.Weight,
			Tags: b.Tags, TLS: b.TLS, ServerName: b.ServerName, Datacenter: b.Datacenter, Node: b.Node,
			Pins: b.Pins, Sessions: b.Sessions, Kept: b.Kept, Damped: b.Damped, Flaps: b.Flaps, Gone: b.Gone, Suspect: b.Suspect,
			Failures: b.Failures, LastError: b.LastError,
		}
		row.UserShare, row.WeightShare = share(&b)
		if row.Attachments = sessions[b.ID].Attachments; row.Attachments == nil {
			row.Attachments = map[string]int{}
		}
		if s.opts.Lately != nil {
			row.Lately = s.opts.Lately(row.ID)
		}
		if s.opts.Room != nil {
			row.Connections, row.Bound = s.opts.Room(b.ID)
		}
		row.Capabilities = []string{}
		if s.opts.Capabilities != nil {
			caps, login := s.opts.Capabilities(b.ID)
			switch row.Capabilities = append(row.Capabilities, caps...); {
			case login:
				row.CapabilitiesFrom = FromLogin
			case len(caps) > 0:
				row.CapabilitiesFrom = FromGreeting
			}
		}
		if row.Tags == nil {
			row.Tags = []string{}
		}
		if !b.LastFailure.IsZero() {
			row.LastFailure = &b.LastFailure
		}
		out.Backends = append(out.Backends, row)
	}
	out.Differences = Differences(out.Backends)
	reply(w, http.StatusOK, out)
}

// sharesOf returns a function that returns a backend's part of all users and of the weights of the backends that are up, 0 to 1.
func sharesOf(fleet []routing.BackendStatus) func(*routing.BackendStatus) (users, weight float64) {
	pins, weights := 0, 0
	for i := range fleet {
		pins += fleet[i].Pins
		if fleet[i].State == routing.Up {
			weights += fleet[i].Weight
		}
	}
	return func(b *routing.BackendStatus) (users, weight float64) {
		if pins > 0 {
			users = float64(b.Pins) / float64(pins)
		}
		if weights > 0 && b.State == routing.Up {
			weight = float64(b.Weight) / float64(weights)
		}
		return users, weight
	}
}

func (s *Server) sessions(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "id", "user", "backend", "client", "attachment", "not_parked", "active", "sort", "limit", "after")
	if !ok {
		return
	}
	f := proxy.Filter{ID: q.Get("id"), User: q.Get("user"), Backend: q.Get("backend"), After: q.Get("after"), Limit: defaultPage}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > proxy.MaxPage {
			fail(w, http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("limit: want a number from 1 to %d", proxy.MaxPage))
			return
		}
		f.Limit = n
	}
	if what := choose(&f, q, s.opts.Now()); what != "" {
		fail(w, http.StatusBadRequest, CodeBadRequest, what)
		return
	}
	found, next := s.opts.Proxy.Sessions(f)
	out := Sessions{Sessions: make([]Session, 0, len(found)), Reasons: map[string]string{}, Next: next, Leaving: s.leaving()}
	words := map[string]string{}
	for _, k := range proxy.ParkBlockers() {
		words[k.Reason] = k.Words
	}
	for _, i := range found {
		if text, ok := words[i.NotParked]; ok {
			out.Reasons[i.NotParked] = text
		}
		out.Sessions = append(out.Sessions, s.session(i))
	}
	reply(w, http.StatusOK, out)
}

// choose reads the further parameters of a query for sessions. It returns what is wrong with them.
func choose(f *proxy.Filter, q url.Values, now time.Time) string {
	f.Attachment, f.NotParked, f.Sort = q.Get("attachment"), q.Get("not_parked"), q.Get("sort")
	if text := q.Get("client"); text != "" {
		var err error
		if f.Client, err = netip.ParsePrefix(text); err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return "client: want an address or a network, such as 192.0.2.7 or 192.0.2.0/24"
			}
			f.Client = netip.PrefixFrom(address.Unmap().WithZone(""), address.Unmap().BitLen())
		}
	}
	if text := q.Get("active"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return "active: want a duration, such as 10s"
		}
		f.Active = now.Add(-d)
	}
	if f.Sort != "" && !slices.Contains(proxy.Orders(), f.Sort) {
		return "sort: want one of " + strings.Join(proxy.Orders(), ", ")
	}
	if f.Sort != "" && f.After != "" {
		return "with sort there is no next page: leave after out"
	}
	return ""
}

// leaving returns the older processes of this proxy.
func (s *Server) leaving() []Leaving {
	if s.opts.Leaving == nil {
		return []Leaving{}
	}
	return append([]Leaving{}, s.opts.Leaving()...)
}

// session converts a session for the API.
func (s *Server) session(i proxy.SessionInfo) Session {
	return Session{
		ID: i.ID, User: i.User, Backend: i.Backend, Why: i.Why, Client: i.Client.String(), Listener: i.Listener, TLS: i.TLS, Compressed: i.Compressed,
		State: i.State, Attachment: i.Attachment, NotParked: i.NotParked, Idle: i.Idle, InFlight: i.InFlight,
		Started: i.Started, LastActivity: i.LastActivity, BytesIn: i.BytesIn, BytesOut: i.BytesOut, Commands: i.Commands,
		TraceID: i.TraceID, TraceURL: s.traceURL(i.TraceID),
	}
}
