package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/events"
	"imapproxy/telemetry"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

const token = "a token with \"quotes\" and 40 octets.."

// patience is how long a hint that must come may take on a busy machine.
const patience = 20 * time.Second

// A listener is a proxy's end of push events.
type listener struct {
	t      testing.TB
	url    string
	events *events.Handler
	queue  *park.HintQueue
	marks  int // how many mailboxes fresh has made

	mu     sync.Mutex // guards what follows
	bodies []string   // of all requests, as they came
	during func()     // runs while the sender waits for the answer
}

func listen(t testing.TB) *listener {
	t.Helper()
	l := &listener{t: t, queue: park.NewHintQueue(park.HintQueueOptions{})}
	var err error
	if l.events, err = events.New(events.Options{Secrets: []telemetry.Secret{token, oxToken}}, l.queue); err != nil {
		t.Fatal(err)
	}
	l.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		l.bodies = append(l.bodies, r.Method+" "+string(body))
		during := l.during
		l.mu.Unlock()
		if during != nil {
			during()
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		l.events.ServeHTTP(w, r)
	})) + "/v1/events"
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("events that came:\n%s\n%+v", strings.Join(l.bodies, "\n"), l.events.Stats())
		}
	})
	return l
}

// serve runs a handler on a loopback port and gives its URL.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }() // ends with Close below
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// expect waits for hints until each of these was among them: "user mailbox", or
// "user" for all of the user's mailboxes. Others may come too: a server
// makes mailboxes at a first login.
func (l *listener) expect(what string, hints ...string) {
	l.t.Helper()
	missing := map[string]bool{}
	for _, h := range hints {
		missing[h] = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var got []string
	for len(missing) > 0 {
		h, err := l.queue.Next(ctx)
		if err != nil {
			l.t.Fatalf("%s: no hint for %v; there were %q", what, missing, got)
		}
		text := strings.TrimSpace(h.User + " " + h.Mailbox)
		got = append(got, text)
		delete(missing, text)
	}
}

// fresh forgets what came so far, so that what follows is only told of what
// follows. It makes a mailbox that is told last, on c, the user's connection.
func (l *listener) fresh(c *imaptest.Client, user, prefix string) {
	l.t.Helper()
	l.marks++
	mark := fmt.Sprintf("%smark%d", prefix, l.marks)
	c.MustOK(`CREATE "%s"`, mark)
	l.expect("CREATE "+mark, user+" "+mark)
	for l.queue.Stats().Waiting > 0 {
		if _, err := l.queue.Next(context.Background()); err != nil {
			l.t.Fatal(err)
		}
	}
}

// requests is how many have come.
func (l *listener) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bodies)
}

// repository is a file of this repository.
func repository(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// login opens a connection as the i-th user.
func login(t testing.TB, s *servers.Server, i int) *imaptest.Client {
	t.Helper()
	c := imaptest.Dial(t, s.Addr)
	c.Login(servers.User(i), servers.Password)
	return c
}

// appendTo appends a small message and says how long it took.
func appendTo(c *imaptest.Client, mailbox string) time.Duration {
	started := time.Now()
	c.Literal(fmt.Sprintf(`APPEND "%s" `, mailbox), imaptest.GeneratedMessage(300, 1), "")
	return time.Since(started)
}

// whileAnEventWaits runs change, and at the moment of its first event look, which
// says what another connection sees.
func (l *listener) whileAnEventWaits(change func(), look func() string) string {
	l.t.Helper()
	seen := make(chan string, 1)
	l.mu.Lock()
	l.during = sync.OnceFunc(func() { seen <- look() })
	l.mu.Unlock()
	change()
	select {
	case s := <-seen:
		l.mu.Lock()
		l.during = nil
		l.mu.Unlock()
		return s
	case <-time.After(patience):
		l.t.Fatal("no event")
		return ""
	}
}

// changesAreSeen checks that an event never comes before its change can be
// seen: a resync that begins with it finds what it was told of.
func changesAreSeen(t *testing.T, l *listener, s *servers.Server) {
	t.Helper()
	c, other := login(t, s, 1), login(t, s, 1)
	c.MustOK("SELECT INBOX") // a server may make it only now, and tell of that
	c.MustOK("UNSELECT")
	l.fresh(c, servers.User(1), "")
	look := func() string {
		a := other.MustOK("EXAMINE INBOX")
		exists, _ := a.Find("EXISTS")
		f := other.Cmd("FETCH 1 (FLAGS)")
		flags, _ := f.Find("FETCH")
		other.MustOK("UNSELECT")
		return fmt.Sprint(exists, " ", flags)
	}
	for i := range 5 {
		if got := l.whileAnEventWaits(func() { appendTo(c, "INBOX") }, look); !strings.Contains(got, fmt.Sprintf("* %d EXISTS", i+1)) {
			t.Errorf("at the event of the %dth APPEND: %s", i+1, got)
		}
		l.fresh(c, servers.User(1), "")
	}
	c.MustOK("SELECT INBOX")
	l.fresh(c, servers.User(1), "")
	if got := l.whileAnEventWaits(func() { c.MustOK(`STORE 1 +FLAGS (\Deleted $Kw)`) }, look); !strings.Contains(got, `\Deleted`) || !strings.Contains(got, "$Kw") {
		t.Errorf("at the event of STORE: %s", got)
	}
	l.fresh(c, servers.User(1), "")
	if got := l.whileAnEventWaits(func() { c.MustOK(`EXPUNGE`) }, look); !strings.Contains(got, "* 4 EXISTS") {
		t.Errorf("at the event of EXPUNGE: %s", got)
	}
}
