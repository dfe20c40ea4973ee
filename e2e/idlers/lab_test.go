package idlers

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/proxy/session"
)

// patience is how long something that must happen may take on a busy machine.
const patience = 60 * time.Second

// A lab is a proxy that parks sessions at a pause, in front of one real server.
type lab struct {
	t        testing.TB
	server   *servers.Server
	srv      *proxy.Server
	TLS      string // the proxy
	Plain    string
	CertFile string
	Cert     imaptest.Cert
	logs     *logs
	restart  *restart // nil: the server isn't restarted
	compress bool     // COMPRESS is offered

	mu    sync.Mutex           // guards what follows
	seen  map[string]*sighting // by session id
	users map[string]*tally
}

// A sighting is a session as it was last seen.
type sighting struct {
	attachment string
	compressed bool
}

// A tally is what was seen of a user's sessions. Both counts are lower bounds: who
// is parked and back between two looks isn't seen.
type tally struct{ sessions, parks, resumes, compressed int }

// forced settings: each session is parked at the first pause, some resumes find a warm connection
// and others don't, and all are told "Still here" all the time.
const (
	lingerFor = 100 * time.Millisecond
	quietFor  = 200 * time.Millisecond
	warmFor   = 1500 * time.Millisecond
	stillHere = 2 * time.Second
	lookEvery = 20 * time.Millisecond
)

// labOptions are a test's settings of a lab.
type labOptions struct {
	watch    string                // how parked sessions are watched
	backend  string                // where the proxy connects to; "": the server
	compress bool                  // COMPRESS is offered
	linger   time.Duration         // before a session is parked; 0: lingerFor
	auth     string                // blocks of the configuration by which users log in; "": the server checks their passwords
	now      func() time.Time      // the proxy's clock; nil: time.Now
	change   func(*apptest.Config) // changes the configuration; nil: nothing does
}

func newLab(t *testing.T, server *servers.Server, o labOptions) *lab {
	t.Helper()
	l := &lab{
		t: t, server: server, compress: o.compress, Cert: imaptest.NewCert(t), logs: &logs{reasons: map[string]int{}},
		seen: map[string]*sighting{}, users: map[string]*tally{},
	}
	l.CertFile = filepath.Join(servers.Folder(t), "cert.pem")
	must(t, os.WriteFile(l.CertFile, l.Cert.CertPEM, 0o644))
	// Registered before the proxy's own clean-up, so it runs after it: the log's end is there, too.
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", l.logs.tail(80))
		}
	})
	quiet := quietFor
	if o.linger == 0 {
		o.linger = lingerFor
	} else {
		quiet = o.linger
	}
	config := apptest.Config{Backend: cmp.Or(o.backend, server.Addr), Cert: l.Cert, Compress: o.compress, Auth: o.auth, Park: apptest.Park{
		"watch": o.watch, "linger": o.linger, "quiet_after": quiet, "keepalive": stillHere, "warm_for": warmFor, "auth_cache_for": time.Minute,
	}}
	if o.change != nil {
		o.change(&config)
	}
	a := apptest.Start(t, config, app.Options{Logs: l.logs, Now: o.now})
	l.srv = a.Server()
	l.Plain, l.TLS = a.Addrs()["plain"], a.Addrs()["imaps"]
	watching := task.Start(func(ctx context.Context) error { l.watch(ctx); return nil })
	t.Cleanup(func() { must(t, watching.Stop()) })
	return l
}

// watch has sessions parked sooner than the server's own sweep would, and counts
// how often they are.
func (l *lab) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.srv.Sweep()
			l.look()
		}
	}
}

func (l *lab) look() {
	page, _ := l.srv.Sessions(proxy.Filter{})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range page {
		if s.User == "" {
			continue
		}
		u := l.users[s.User]
		if u == nil {
			u = &tally{}
			l.users[s.User] = u
		}
		old := l.seen[s.ID]
		if old == nil {
			old = &sighting{}
			l.seen[s.ID] = old
			u.sessions++
		}
		switch {
		case old.attachment != "parked" && s.Attachment == "parked":
			u.parks++
		case old.attachment == "parked" && s.Attachment != "parked":
			u.resumes++
		}
		old.attachment = s.Attachment
		if s.Compressed && !old.compressed {
			old.compressed = true
			u.compressed++
		}
	}
}

// tally has the observations of a user's sessions so far.
func (l *lab) tally(user string) tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.users[user]; u != nil {
		return *u
	}
	return tally{}
}

// nobodySentAway fails when a session ended for a reason that isn't its client's. The clients have ended, so it waits until
// their sessions have.
func (l *lab) nobodySentAway(t testing.TB) {
	t.Helper()
	imaptest.Eventually(t, "all sessions to end", func() bool {
		page, _ := l.srv.Sessions(proxy.Filter{})
		return len(page) == 0
	})
	l.logs.mu.Lock()
	defer l.logs.mu.Unlock()
	t.Logf("sessions ended: %v", l.logs.reasons)
	if len(l.logs.reasons) == 0 {
		t.Error("no session has ended")
	}
	for _, reason := range slices.Sorted(maps.Keys(l.logs.reasons)) {
		switch session.Reason(reason) {
		case session.ReasonLogout, session.ReasonClientClosed, session.ReasonClientLost:
		default:
			t.Errorf("%d sessions ended for %s", l.logs.reasons[reason], reason)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logs is the end of a log, and why sessions ended.
type logs struct {
	mu      sync.Mutex // guards what follows
	lines   []string
	reasons map[string]int
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 2000 {
		l.lines = slices.Delete(l.lines, 0, 1000)
	}
	line := strings.TrimSpace(string(p))
	l.lines = append(l.lines, line)
	if _, rest, ended := strings.Cut(line, `msg="session ended" `); ended {
		_, reason, _ := strings.Cut(rest, " reason=")
		reason, _, _ = strings.Cut(reason, " ")
		l.reasons[reason]++
	}
	return len(p), nil
}

func (l *logs) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-n):], "\n")
}
