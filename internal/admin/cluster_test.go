package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/peers"
	"imapproxy/proxy"
	"imapproxy/telemetry"
)

// member is one proxy of several, which know of each other.
func member(t *testing.T, id string, change func(*admin.Options)) (addr string, fleet *peers.Fleet) {
	t.Helper()
	fleet = peers.New(peers.Options{Self: id, Token: "of-all"})
	t.Cleanup(fleet.Close)
	o := options(&fake{})
	o.Token, o.ID, o.Fleet, o.Name = telemetry.Secret("of-"+id), id, fleet, func() string { return "proxy-" + id }
	o.PeerToken = func() telemetry.Secret { return "of-all" }
	if change != nil {
		change(&o)
	}
	addr, stop := serve(t, o)
	t.Cleanup(func() { _ = stop() })
	return addr, fleet
}

func TestEachProxyShowsAllOfThem(t *testing.T) {
	one, of1 := member(t, "p1", nil)
	two, of2 := member(t, "p2", nil)
	gone := httptest.NewServer(nil)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(other.Close)
	all := []peers.Peer{{Name: "proxy-p1", Address: one}, {Name: "proxy-p2", Address: two}, {Name: "gone", Address: gone.Listener.Addr().String(), Down: true},
		{Name: "old", Address: other.Listener.Addr().String()}}
	gone.Close()
	of1.Found(all)
	of2.Found(all)
	for n, addr := range []string{one, two} {
		c := &admin.Client{Address: addr, Token: telemetry.Secret(fmt.Sprintf("of-p%d", n+1))}
		st, err := c.ClusterStatus(t.Context())
		if err != nil || len(st.Proxies) != 4 {
			t.Fatalf("%+v, %v", st, err)
		}
		own, peer := st.Proxies[0], st.Proxies[1]
		if !own.Own || own.Proxy != fmt.Sprintf("proxy-p%d", n+1) || own.Address != addr || own.Answer.Proxy.ID != fmt.Sprintf("p%d", n+1) {
			t.Errorf("the one that was asked: %+v", own)
		}
		if peer.Own || peer.Proxy != fmt.Sprintf("proxy-p%d", 2-n) || peer.Answer == nil || peer.Answer.Version != "1.2" {
			t.Errorf("the other: %+v", peer)
		}
		if said := st.Failed(); len(said) != 2 || !strings.Contains(said[0], "refused (its check fails in Consul)") || !strings.Contains(said[1], "another release") {
			t.Errorf("those that don't answer: %q", said)
		}
		if b, err := c.ClusterBackends(t.Context()); err != nil || len(b.Proxies[1].Answer.Backends) != 2 {
			t.Errorf("%+v, %v", b, err)
		}
	}
	// A proxy's token opens its own API, and not another's.
	c := &admin.Client{Address: two, Token: "of-p1"}
	if _, err := c.ClusterStatus(t.Context()); err == nil || !strings.Contains(err.Error(), admin.CodeUnauthorized) {
		t.Errorf("another proxy's token: %v", err)
	}
	of1.Reload(peers.Options{Self: "p1", Token: "another"})
	c = &admin.Client{Address: one, Token: "of-p1"}
	if st, err := c.ClusterStatus(t.Context()); err != nil || !strings.Contains(st.Failed()[0], "cluster.token_file differs") {
		t.Errorf("a token that the others don't know: %+v, %v", st, err)
	}
}

// A page has what stands before the end of the shortest, so that none is missed or shown twice.
func TestThePagesOfAllProxiesFitTogether(t *testing.T) {
	of := func(ids ...string) *paged { return &paged{ids: ids} }
	one, of1 := member(t, "p1", func(o *admin.Options) { o.Proxy = of("a", "c", "g") })
	two, _ := member(t, "p2", func(o *admin.Options) { o.Proxy = of("b", "d", "e", "f", "h") })
	of1.Found([]peers.Peer{{Name: "two", Address: two}})
	c := &admin.Client{Address: one, Token: "of-p1"}
	var seen []string
	q := admin.SessionsQuery{Limit: 2}
	for pages := 0; ; pages++ {
		all, next, err := c.ClusterSessions(t.Context(), q)
		if err != nil || pages > 8 {
			t.Fatal(pages, err)
		}
		for _, p := range all.Proxies {
			for _, s := range p.Answer.Sessions {
				seen = append(seen, s.ID)
			}
		}
		if q.After = next; next == "" {
			break
		}
	}
	slices.Sort(seen)
	if got := strings.Join(seen, ""); got != "abcdefgh" {
		t.Errorf("seen are %s", got)
	}
}

// paged is a proxy with sessions of these ids.
type paged struct {
	fake
	ids []string
}

func (p *paged) Sessions(f proxy.Filter) (page []proxy.SessionInfo, next string) {
	for _, id := range p.ids {
		if id > f.After {
			page = append(page, proxy.SessionInfo{ID: id})
		}
	}
	if len(page) > f.Limit {
		return page[:f.Limit], page[f.Limit-1].ID
	}
	return page, ""
}

// Each proxy carries out a change once, whichever proxy receives the request, and logs it.
func TestAVerbIsDoneByEachProxyOnce(t *testing.T) {
	var kicked [2]atomic.Int32
	var logs [2]bytes.Buffer
	kicks := func(n int) func(*admin.Options) {
		return func(o *admin.Options) {
			o.Log = slog.New(slog.NewTextHandler(&logs[n], nil))
			o.Kick = func(_ context.Context, k proxy.Kick) proxy.Kicked {
				kicked[n].Add(1)
				return proxy.Kicked{Sessions: []string{fmt.Sprint(k.User, n)}}
			}
			if n == 1 {
				o.Token = "" // on loopback, where the peers' token is enough to change something
			}
		}
	}
	one, of1 := member(t, "p1", kicks(0))
	two, _ := member(t, "p2", kicks(1))
	of1.Found([]peers.Peer{{Name: "one", Address: one}, {Name: "two", Address: two}})
	c := &admin.Client{Address: one, Token: "of-p1"}
	a, err := c.ClusterKick(t.Context(), admin.KickRequest{User: "alice", By: "jane"})
	if err != nil || len(a.Proxies) != 2 || a.Proxies[0].Answer.Sessions[0] != "alice0" || a.Proxies[1].Answer.Sessions[0] != "alice1" {
		t.Fatalf("%+v, %v", a, err)
	}
	if kicked[0].Load() != 1 || kicked[1].Load() != 1 {
		t.Errorf("kicked %d and %d times", kicked[0].Load(), kicked[1].Load())
	}
	for n := range logs {
		if !strings.Contains(logs[n].String(), `msg="admin: kick"`) || !strings.Contains(logs[n].String(), "by=jane") {
			t.Errorf("the log of %d: %s", n, logs[n].String())
		}
	}
	// What this proxy finds wrong isn't asked of others for an answer.
	if _, err := c.ClusterKick(t.Context(), admin.KickRequest{}); err == nil || !strings.Contains(err.Error(), admin.CodeBadRequest) {
		t.Errorf("nobody: %v", err)
	}
	// Without a token nothing is changed, on loopback either.
	open := &admin.Client{Address: two}
	if _, err := open.Kick(t.Context(), admin.KickRequest{User: "alice"}); err == nil || !strings.Contains(err.Error(), admin.CodeUnauthorized) {
		t.Errorf("without a token: %v", err)
	}
	if _, err := open.Status(t.Context()); err != nil {
		t.Errorf("reading on loopback: %v", err)
	}
}

func TestAProxyThatAsksItselfSaysSo(t *testing.T) {
	addr, _ := member(t, "p1", nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, (&url.URL{Scheme: "http", Host: addr, Path: "/v1/status"}).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer of-all")
	r.Header.Set(peers.HeaderFrom, "p1")
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != peers.StatusSelf {
		t.Errorf("status %d", res.StatusCode)
	}
}
