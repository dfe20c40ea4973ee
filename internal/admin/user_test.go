package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/peers"
)

// knowsUsers is an API whose proxy knows one user, by the name Alice.
func knowsUsers() (o admin.Options, flushed *[]string) {
	o, flushed = options(&fake{}), new([]string)
	o.Token = "s3cret"
	o.User = func(_ context.Context, user string) admin.User {
		return admin.User{User: strings.ToLower(user), Goes: "b1", Why: "pin", Pin: &admin.Pin{Backend: "b1", Since: now(), Sessions: 1}, WarmConnections: 2}
	}
	o.Flush = func(user string) admin.FlushAnswer {
		*flushed = append(*flushed, user)
		return admin.FlushAnswer{User: user, Pin: "at_end", WarmConnections: 2}
	}
	return o, flushed
}

// A user is shown under the canonical name, with their own sessions.
func TestAUserIsShownWithTheirSessions(t *testing.T) {
	o, _ := knowsUsers()
	h := handler(t, o)
	w := ask(h, "/v1/user?user=Alice", "Authorization: Bearer s3cret")
	u := decode[admin.User](t, w)
	if w.Code != http.StatusOK || u.User != "alice" || u.Goes != "b1" || u.Pin == nil || u.Pin.Sessions != 1 || u.WarmConnections != 2 || u.More {
		t.Errorf("%d %+v", w.Code, u)
	}
	if len(u.Sessions) != 1 || u.Sessions[0].ID != "s1" || u.Failures == nil || u.Stay != nil {
		t.Errorf("%+v", u)
	}
	// One who isn't here has empty lists, not null.
	w = ask(h, "/v1/user?user=zoe", "Authorization: Bearer s3cret")
	for _, part := range []string{`"sessions":[]`, `"failures":[]`, `"more":false`} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("%s isn't in %s", part, w.Body)
		}
	}
	// Of very many sessions some are shown, and that there are more.
	o.Proxy = many(101)
	if u := decode[admin.User](t, ask(handler(t, o), "/v1/user?user=alice", "Authorization: Bearer s3cret")); len(u.Sessions) != 100 || !u.More {
		t.Errorf("%d sessions, more: %v", len(u.Sessions), u.More)
	}
}

// many is a proxy on which a user has so many sessions.
func many(n int) *paged {
	p := &paged{}
	for i := range n {
		p.ids = append(p.ids, fmt.Sprintf("s%03d", i))
	}
	return p
}

func TestAUserIsAskedForProperly(t *testing.T) {
	o, _ := knowsUsers()
	none := options(&fake{})
	none.Token = "s3cret"
	for _, c := range []struct {
		name, path, method, token string
		o                         admin.Options
		want                      int
		code                      string
	}{
		{"no token", "/v1/user?user=alice", "GET", "", o, 401, admin.CodeUnauthorized},
		{"another token", "/v1/user?user=alice", "GET", "other", o, 401, admin.CodeUnauthorized},
		{"no user", "/v1/user", "GET", "s3cret", o, 400, admin.CodeBadRequest},
		{"an empty user", "/v1/user?user=", "GET", "s3cret", o, 400, admin.CodeBadRequest},
		{"a mistyped name", "/v1/user?usr=alice", "GET", "s3cret", o, 400, admin.CodeBadRequest},
		{"POST", "/v1/user?user=alice", "POST", "s3cret", o, 405, admin.CodeMethod},
		{"a proxy that knows none", "/v1/user?user=alice", "GET", "s3cret", none, 404, admin.CodeNotFound},
	} {
		w := ask(handler(t, c.o), c.path, "Method: "+c.method, "Authorization: Bearer "+c.token)
		if e := decode[admin.Error](t, w); w.Code != c.want || e.Error.Code != c.code {
			t.Errorf("%s: %d %+v", c.name, w.Code, e)
		}
	}
}

// What is remembered of a user is forgotten by a POST with the token, which is logged, and by nothing else.
func TestFlushNeedsATokenAndIsLogged(t *testing.T) {
	o, flushed := knowsUsers()
	var logs bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&logs, nil))
	open, none := o, o
	open.Token, none.Flush = "", nil
	const body, kind = `{"user":"alice","by":"root\nat=night"}`, "application/json"
	for _, c := range []struct {
		name, method, token, kind, body string
		o                               admin.Options
		want                            int
		code                            string
	}{
		{"no token_file", "POST", "", kind, body, open, 403, admin.CodeNoToken},
		{"no token", "POST", "", kind, body, o, 401, admin.CodeUnauthorized},
		{"another token", "POST", "other", kind, body, o, 401, admin.CodeUnauthorized},
		{"GET", "GET", "s3cret", "", "", o, 405, admin.CodeMethod},
		{"a form, as a web page can send", "POST", "s3cret", "application/x-www-form-urlencoded", body, o, 400, admin.CodeBadRequest},
		{"no kind", "POST", "s3cret", "", body, o, 400, admin.CodeBadRequest},
		{"no user", "POST", "s3cret", kind, `{"by":"root"}`, o, 400, admin.CodeBadRequest},
		{"a mistyped name", "POST", "s3cret", kind, `{"user":"alice","forget":true}`, o, 400, admin.CodeBadRequest},
		{"two bodies", "POST", "s3cret", kind, body + body, o, 400, admin.CodeBadRequest},
		{"too long", "POST", "s3cret", kind, `{"user":"` + strings.Repeat("a", 4096) + `"}`, o, 400, admin.CodeBadRequest},
		{"a proxy that can't", "POST", "s3cret", kind, body, none, 404, admin.CodeNotFound},
	} {
		w := post(t, c.o, c.method, "/v1/flush", c.token, c.kind, c.body)
		if e := decode[admin.Error](t, w); w.Code != c.want || e.Error.Code != c.code {
			t.Errorf("%s: %d %+v", c.name, w.Code, e)
		}
	}
	if len(*flushed) != 0 || strings.Contains(logs.String(), "admin: flush") {
		t.Fatalf("%v were forgotten:\n%s", *flushed, logs.String())
	}
	w := post(t, o, "POST", "/v1/flush", "s3cret", kind, body)
	if a := decode[admin.FlushAnswer](t, w); w.Code != 200 || a != (admin.FlushAnswer{User: "alice", Pin: "at_end", WarmConnections: 2}) {
		t.Errorf("%d %+v", w.Code, a)
	}
	if !slices.Equal(*flushed, []string{"alice"}) {
		t.Errorf("%v", *flushed)
	}
	for _, part := range []string{`msg="admin: flush"`, "client=", `by="root?at=night"`, "user=alice", "pin=at_end", "warm=2"} {
		if !strings.Contains(logs.String(), part) {
			t.Errorf("%s isn't in %s", part, logs.String())
		}
	}
}

// A proxy asks another with the token that all of them know, and gets what the other knows.
func TestUsersAndFlushGoToAllProxies(t *testing.T) {
	change := func(o *admin.Options) {
		known, _ := knowsUsers()
		o.User, o.Flush = known.User, known.Flush
	}
	one, of1 := member(t, "p1", change)
	two, _ := member(t, "p2", change)
	of1.Found([]peers.Peer{{Name: "two", Address: two}})
	c := &admin.Client{Address: one, Token: "of-p1"}
	users, err := c.ClusterUser(t.Context(), "Alice")
	if err != nil || len(users.Proxies) != 2 || len(users.Failed()) != 0 {
		t.Fatalf("%+v, %v", users, err)
	}
	flushed, err := c.ClusterFlush(t.Context(), admin.FlushRequest{User: "alice"})
	if err != nil || len(flushed.Proxies) != 2 || len(flushed.Failed()) != 0 {
		t.Fatalf("%+v, %v", flushed, err)
	}
	for n := range 2 {
		if u := users.Proxies[n].Answer; u.User != "alice" || len(u.Sessions) != 1 {
			t.Errorf("%+v", u)
		}
		if a := flushed.Proxies[n].Answer; a.Pin != "at_end" {
			t.Errorf("%+v", a)
		}
	}
	if u, err := c.User(t.Context(), "ALICE"); err != nil || u.User != "alice" {
		t.Errorf("%+v, %v", u, err)
	}
	if a, err := c.Flush(t.Context(), admin.FlushRequest{User: "bob"}); err != nil || a.User != "bob" {
		t.Errorf("%+v, %v", a, err)
	}
}

// Hints come from proxies alone, in the form in which Outbox sends them.
func TestHintsAreTakenFromProxies(t *testing.T) {
	taken := make(chan []peers.Hint, 10)
	change := func(o *admin.Options) { o.Hints = func(all []peers.Hint) { taken <- all } }
	two, _ := member(t, "p2", change)
	fleet := peers.New(peers.Options{Self: "p1", Token: "of-all"})
	t.Cleanup(fleet.Close)
	b := peers.NewOutbox(fleet, peers.OutboxOptions{})
	b.Found([]peers.Peer{{Name: "two", Address: two}})
	// The longest names that there are, each octet of them six in JSON: the body is bounded for these, too.
	const batch = 40
	for n := range batch {
		b.Add(fmt.Sprintf("%03d", n)+strings.Repeat("<", 509), strings.Repeat("&", 1024))
	}
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan struct{})
	go func() { b.Run(ctx); close(sent) }() // ends with stop
	for total := 0; total < batch; {
		select {
		case all := <-taken:
			total += len(all)
		case <-time.After(10 * time.Second):
			t.Fatalf("%+v", b.Stats())
		}
	}
	stop()
	<-sent

	o := options(&fake{})
	o.Token = "s3cret"
	change(&o)
	none := o
	none.Hints = nil
	const kind, body = "application/json", `{"hints":[{"user":"ann","mailbox":"INBOX"},{"user":"bob"}]}`
	for _, c := range []struct {
		name, method, path, token, body string
		o                               admin.Options
		want                            int
	}{
		{"no token", "POST", peers.HintsPath, "", body, o, 401},
		{"GET", "GET", peers.HintsPath, "s3cret", "", o, 405},
		{"no user", "POST", peers.HintsPath, "s3cret", `{"hints":[{"mailbox":"INBOX"}]}`, o, 400},
		{"an event", "POST", peers.HintsPath, "s3cret", `{"user":"ann"}`, o, 400},
		{"too many", "POST", peers.HintsPath, "s3cret", `{"hints":[` + strings.Repeat(`{"user":"ann"},`, 500) + `{"user":"ann"}]}`, o, 400},
		{"too long", "POST", peers.HintsPath, "s3cret", `{"hints":[` + strings.Repeat(" ", peers.MaxHintBytes) + `]}`, o, 400},
		{"to all proxies", "POST", "/v1/cluster/hints", "s3cret", body, o, 404},
		{"a proxy that takes none", "POST", peers.HintsPath, "s3cret", body, none, 404},
	} {
		if w := post(t, c.o, c.method, c.path, c.token, kind, c.body); w.Code != c.want {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	if len(taken) != 0 {
		t.Errorf("taken: %v", <-taken)
	}
	if w := post(t, o, "POST", peers.HintsPath, "s3cret", kind, body); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if all := <-taken; !slices.Equal(all, []peers.Hint{{User: "ann", Mailbox: "INBOX"}, {User: "bob"}}) {
		t.Errorf("%v", all)
	}
}
