package model

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
	"imapproxy/proxy/park/view"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// sweepEvery is how often the hub looks without a hint: what was lost is found then.
const sweepEvery = 700 * time.Millisecond

// labOptions describe the server and the proxy.
type labOptions struct {
	start func(t testing.TB, l *lab) *servers.Server
	// pair starts two servers with the same mail instead: users are moved from one to the other and back.
	pair    func(t testing.TB, l *lab) (first, second *servers.Server)
	linger  time.Duration // of pair's proxy; 0: 1 ms
	watch   string        // of the hub; "" no proxy: the clients talk to the server
	events  bool          // the server posts push events
	plain   bool          // the server has neither CONDSTORE nor QRESYNC
	calm    bool          // only one client acts at a time: Courier's sessions lock each other out for minutes
	maildir bool          // Dovecot's, which has ways of its own: see reborn
	tls     bool          // the clients' side has TLS
	// compress: the clients compress. The proxy's connections to the server aren't compressed.
	compress bool
	shared   bool // the mailbox belongs to another user than the clients'
	// across: it does, and that user's mail is at another server than the clients' users' (docs/shared.md). Users share with each other:
	// the first with the second, whose mail is at the other server, the second with the first, and so on.
	across func(t testing.TB, l *lab) (first, second *servers.Server)
	// slowIdle: in IDLE the server reports changes of other clients after a minute (Courier without FAM).
	slowIdle bool
	// staleFlags: the server may tell older flags after newer ones (mox, which queues what others
	// change for each connection, and doesn't empty the queue at SELECT or STORE). So clients ask
	// for flags, and no client resynchronises from what was told.
	staleFlags bool
	sweep      time.Duration // 0: sweepEvery
	patience   time.Duration // for an answer; 0: defaultPatience
	settle     time.Duration // how long it may take until all clients know all changes; 0: 20 s
	lose       int           // of ten events so many are lost; and others come late, or twice
	// plant, if any, is a fault of the hub's.
	plant   func(mailbox string, s *view.State) *view.State
	packets packets // another, of the proxy's
	breaks  bool    // connections to the server are cut
}

// lab is a real server and, mostly, a proxy before it.
type lab struct {
	labOptions
	t       testing.TB
	server  *servers.Server
	second  *servers.Server // of across
	addr    string          // the clients'
	network *network        // between the server and the proxy, for push events; nil: there are none
	breaker *breaker        // between the proxy and the server; nil: there is none
	app     *app.App        // nil without a proxy
	proxy   *proxy.Server
	moving  *moving // nil: users stay where they are
	log     *tail
	tls     *tls.Config // the clients', nil in the clear
	has     traits

	withheld sync.Map // the mailboxes of which the hub's resyncs tell nothing now

	mu    sync.Mutex
	users int
	boxes int
}

func newLab(t *testing.T, o labOptions) *lab {
	t.Helper()
	l := &lab{labOptions: o, t: t, log: &tail{}}
	l.patience = cmp.Or(l.patience, defaultPatience)
	l.sweep, l.settle = cmp.Or(l.sweep, sweepEvery), cmp.Or(l.settle, 20*time.Second)
	if o.events {
		l.network = newNetwork(t, o.lose)
	}
	if o.pair != nil {
		var second *servers.Server
		l.server, second = o.pair(t, l)
		l.startMoving(second, cmp.Or(o.linger, time.Millisecond))
		return l
	}
	if o.across != nil {
		l.server, l.second = o.across(t, l)
		l.startAcross()
		return l
	}
	l.server = o.start(t, l)
	l.addr = l.server.Addr
	if o.watch != "" {
		l.startProxy()
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startProxy runs a proxy in this process. It ends with the test.
func (l *lab) startProxy() {
	warm := 5 * time.Second
	if l.server.Kind == "mox" {
		// 0.0.15 tells a connection of messages that came between its login and its SELECT as if
		// they came afterwards, and then closes it ("uid already present").
		warm = 0
	}
	cert := imaptest.NewCert(l.t)
	backend := l.server.Addr
	if l.breaks {
		l.breaker = newBreaker(l.t, backend)
		backend = l.breaker.addr
	}
	l.app = apptest.Start(l.t, apptest.Config{
		Backend: backend, Cert: cert, Events: l.labOptions.events, Compress: l.compress, Drain: time.Second,
		Park: apptest.Park{
			"watch": l.watch, "linger": time.Millisecond, "quiet_after": 3 * time.Millisecond, "warm_for": warm, "auth_cache_for": time.Duration(0),
		},
	}, app.Options{Logs: l.log, Park: app.ParkOptions{SweepEvery: l.sweep, PollEvery: l.sweep, Plant: l.found}})
	l.proxy, l.addr = l.app.Server(), l.app.Addrs()["plain"]
	if l.labOptions.tls {
		l.addr, l.tls = l.app.Addrs()["imaps"], cert.Client
	}
	if l.network != nil {
		l.network.reach(l.app.EventsAddr())
	}
}

// found changes the state that a resync of the hub has found, before parked sessions are told.
func (l *lab) found(mailbox string, s *view.State) *view.State {
	if _, withheld := l.withheld.Load(mailbox); withheld {
		return nil
	}
	if l.plant != nil {
		return l.plant(mailbox, s)
	}
	return s
}

// user returns a user that no case has used yet.
func (l *lab) user() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	return l.server.User(l.users)
}

func (l *lab) box() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boxes++
	return fmt.Sprintf("%sm%d", l.has.prefix, l.boxes)
}

// as returns the user name with which the clients of a user's mailbox log in.
func (l *lab) as(user string) string {
	switch {
	case l.across != nil:
		n := number(user)
		return l.server.User(n + 1 - 2*((n+1)%2))
	case l.shared:
		return l.server.User(servers.Users)
	}
	return user
}

// boxAs returns the name of the mailbox for these clients.
func (l *lab) boxAs(user, box string) string {
	switch {
	case l.across != nil:
		return acrossPrefix + user + "/" + box
	case l.shared:
		return l.server.OtherUsers + user + "/" + box
	}
	return box
}

// attachment of a client's session.
func (l *lab) attachment(c *client) proxy.SessionInfo {
	if l.proxy != nil {
		page, _ := l.proxy.Sessions(proxy.Filter{User: c.user})
		for _, s := range page {
			if s.Client.String() == c.local {
				return s
			}
		}
	}
	return proxy.SessionInfo{}
}

// tail keeps the end of a log.
type tail struct {
	mu   sync.Mutex
	b    []byte
	ends map[string]int // sessions that have ended, by reason
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.b) > 1<<20 {
		w.b = append([]byte(nil), w.b[len(w.b)/2:]...)
	}
	w.b = append(w.b, p...)
	if _, reason, ok := strings.Cut(string(p), " reason="); ok && strings.Contains(string(p), `msg="session ended"`) {
		reason, _, _ = strings.Cut(reason, " ")
		if w.ends == nil {
			w.ends = map[string]int{}
		}
		w.ends[reason]++
	}
	return len(p), nil
}

// reasons are why sessions have ended so far.
func (w *tail) reasons() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.ends)
}

// last are the last lines about a user's sessions.
func (w *tail) last(n int, user string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sessions := map[string]bool{}
	var found []string
	for line := range strings.Lines(string(w.b)) {
		_, id, _ := strings.Cut(line, " session=")
		id, _, _ = strings.Cut(strings.TrimSpace(id), " ")
		if strings.Contains(line, "user="+user) {
			sessions[id] = true
			found = append(found, line)
		} else if sessions[id] {
			found = append(found, line)
		}
	}
	return strings.Join(found[max(0, len(found)-n):], "")
}
