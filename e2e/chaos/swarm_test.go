package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// How long a client waits: for a connection and its login, before it tries another proxy, and for the answer to a command.
const (
	loginPatience   = 15 * time.Second
	commandPatience = 60 * time.Second
)

// How a client's connection or command ended that it wanted to go on.
const (
	cutOff  = "cut off"       // the connection ended, with or without BYE
	silent  = "no answer"     // none in its patience
	refused = "refused"       // NO to a login
	no      = "NO"            // to a command
	away    = "not connected" // connecting failed, or no login in time
	wrong   = "wrong"         // a client can't accept that
)

// An ending is one of these.
type ending struct {
	at    time.Time
	since time.Time // when the client asked for what it didn't get
	kind  string
	user  string
	proxy string // its address
	text  string
}

func (e ending) String() string {
	return fmt.Sprintf("%s %s: %s at %s: %s (asked at %s)", e.at.Format(clock), e.kind, e.user, e.proxy, e.text, e.since.Format(clock))
}

// A swarm is clients that come and go all the time.
type swarm struct {
	t       testing.TB
	proxies []*proxy
	users   int
	running sync.WaitGroup
	end     context.CancelFunc

	logins, commands, idles atomic.Int64
	expunged                atomic.Int64 // commands answered by NO [EXPUNGEISSUED]
	online                  atomic.Int64

	mu      sync.Mutex
	endings []ending
	waits   []wait
}

// A wait is how long a command or a login took.
type wait struct {
	at   time.Time // when it was answered
	took time.Duration
	what string // the command
}

// startSwarm logs users in, with so many sessions in all.
func startSwarm(t testing.TB, proxies []*proxy, users, sessions int, seed uint64) *swarm {
	ctx, cancel := context.WithCancel(context.Background())
	s := &swarm{t: t, proxies: proxies, users: users, end: cancel}
	for i := range sessions {
		c := &client{swarm: s, user: servers.User(1 + i%users), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		// One in three works, the others idle nearly all of the time.
		c.busy = (i/users+i)%3 == 0
		s.running.Go(func() { c.run(ctx) })
	}
	t.Cleanup(s.stop)
	return s
}

// stop has all clients log out, and waits for that.
func (s *swarm) stop() {
	s.end()
	s.running.Wait()
}

func (s *swarm) note(e ending) {
	e.at = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endings = append(s.endings, e)
}

func (s *swarm) took(since time.Time, what string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = append(s.waits, wait{now, now.Sub(since), what})
}

// noted are the endings up to now.
func (s *swarm) noted() []ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.endings)
}

// waited are the waits that ended in a time, the longest last.
func (s *swarm) waited(from, to time.Time) (found []wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.waits {
		if !w.at.Before(from) && w.at.Before(to) {
			found = append(found, w)
		}
	}
	slices.SortFunc(found, func(a, b wait) int { return int(a.took - b.took) })
	return found
}

// A client has one session at a time.
type client struct {
	swarm *swarm
	user  string
	busy  bool
	rng   *rand.Rand
	avoid *proxy // did not serve it last time

	conn   *imaptest.Conn
	at     *proxy
	tag    int
	exists int
}

func (c *client) run(ctx context.Context) {
	pause(ctx, time.Duration(c.rng.IntN(5000))*time.Millisecond)
	for ctx.Err() == nil {
		ok := c.session(ctx)
		if !ok {
			c.avoid = c.at
			pause(ctx, time.Duration(200+c.rng.IntN(1500))*time.Millisecond)
			continue
		}
		c.avoid = nil
		pause(ctx, time.Duration(c.rng.IntN(3000))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// choose chooses a proxy, another one than the last where that failed.
func (c *client) choose() *proxy {
	for {
		p := c.swarm.proxies[c.rng.IntN(len(c.swarm.proxies))]
		if p != c.avoid || len(c.swarm.proxies) == 1 {
			return p
		}
	}
}

// session is one session, from connecting to logging out. It reports whether that went as the client wanted.
func (c *client) session(ctx context.Context) bool {
	c.at = c.choose()
	since := time.Now()
	failed := func(kind, text string) bool {
		if ctx.Err() == nil {
			c.swarm.note(ending{since: since, kind: kind, user: c.user, proxy: c.at.peer(), text: text})
		}
		return false
	}
	dial, cancel := context.WithTimeout(ctx, loginPatience)
	conn, err := imaptest.DialConn(dial, c.at.addr, imaptest.DialOptions{})
	cancel()
	if err != nil {
		return failed(away, err.Error())
	}
	c.conn, c.exists = conn, 0
	conn.Timeout = loginPatience
	defer conn.Close()
	// The end of the test ends a read. A client that idles doesn't log out then: this is no fault of the proxy.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()

	greeting, err := conn.Next()
	switch {
	case err != nil:
		return failed(away, "greeting: "+err.Error())
	case greeting.Status() == "BYE":
		return failed(away, greeting.Text)
	}
	_, tagged, err := conn.Command("login", fmt.Sprintf("LOGIN %s %s", c.user, servers.Password))
	switch {
	case err != nil:
		return failed(away, "login: "+err.Error())
	case tagged.Status() == "NO" && tagged.Code() == "UNAVAILABLE":
		return failed(refused, tagged.Text)
	case tagged.Status() != "OK":
		return failed(wrong, tagged.Text)
	}
	c.swarm.took(since, "login")
	c.swarm.logins.Add(1)
	c.swarm.online.Add(1)
	defer c.swarm.online.Add(-1)
	conn.Timeout = commandPatience

	rounds := 3 + c.rng.IntN(12)
	err = c.do("SELECT INBOX")
	for i := 0; i < rounds && err == nil && ctx.Err() == nil; i++ {
		since = time.Now()
		if c.busy {
			pause(ctx, time.Duration(c.rng.IntN(1500))*time.Millisecond)
			err = c.work()
		} else {
			err = c.idle(ctx)
		}
	}
	if err == nil && ctx.Err() == nil {
		since = time.Now()
		err = c.do("LOGOUT")
	}
	switch {
	case err == nil:
		return true
	case ctx.Err() != nil:
		return false
	case errors.Is(err, errWrong):
		return failed(wrong, err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failed(silent, err.Error())
	default:
		return failed(cutOff, err.Error())
	}
}

var errWrong = errors.New("a client can't accept")

// do makes a command. A NO is noted, and the client goes on.
func (c *client) do(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	return c.send(line, line+"\r\n")
}

func (c *client) send(what, text string) error {
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	since := time.Now()
	if err := c.conn.SendRaw(tag + " " + text); err != nil {
		return err
	}
	verb, _, _ := strings.Cut(what, " ")
	bye := ""
	for {
		r, err := c.conn.Next()
		if err != nil {
			if bye != "" {
				return fmt.Errorf("%s: %s", what, bye)
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		switch {
		case r.Tag() == tag && r.Status() == "NO" && r.Code() == "EXPUNGEISSUED": // another session of the user has expunged some (RFC 5530)
			c.swarm.expunged.Add(1)
			return nil
		case r.Tag() == tag && r.Status() == "OK":
			c.swarm.took(since, verb)
			c.swarm.commands.Add(1)
			return nil
		case r.Tag() == tag && r.Status() == "NO":
			c.swarm.note(ending{since: since, kind: no, user: c.user, proxy: c.at.peer(), text: what + ": " + r.Text})
			return nil
		case r.Tag() == "*" && r.Status() == "BYE":
			bye = r.Text
		case r.Tag() == "*":
			if err := c.untagged(what, r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: %w %q", what, errWrong, r.Text)
		}
	}
}

// untagged follows the number of messages, and checks numbers by it.
func (c *client) untagged(what string, r imaptest.Response) error {
	n, err := strconv.Atoi(r.Word(1))
	if err != nil {
		return nil //nolint:nilerr // a response without a number
	}
	switch r.Word(2) {
	case "EXISTS":
		if n < c.exists && !strings.HasPrefix(what, "SELECT") {
			return fmt.Errorf("%s: %w %q after %d messages", what, errWrong, r.Text, c.exists)
		}
		c.exists = n
	case "EXPUNGE":
		if n < 1 || n > c.exists {
			return fmt.Errorf("%s: %w %q of %d messages", what, errWrong, r.Text, c.exists)
		}
		if strings.HasPrefix(what, "FETCH") || strings.HasPrefix(what, "STORE") || strings.HasPrefix(what, "SEARCH") { // RFC 9051 §7.5.1
			return fmt.Errorf("%s: %w %q during this command", what, errWrong, r.Text)
		}
		c.exists--
	case "FETCH":
		if n < 1 || n > c.exists {
			return fmt.Errorf("%s: %w %q of %d messages", what, errWrong, r.Text, c.exists)
		}
	}
	return nil
}

// idle idles for a while, and looks around.
func (c *client) idle(ctx context.Context) error {
	if err := c.do("NOOP"); err != nil {
		return err
	}
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	if err := c.conn.Send(tag + " IDLE"); err != nil {
		return err
	}
	begun := false
	bye := ""
	over := time.Now().Add(time.Duration(2000+c.rng.IntN(15000)) * time.Millisecond)
	for left := time.Until(over); left > 0 || !begun; left = time.Until(over) {
		if !begun {
			left = commandPatience
		}
		r, err := c.conn.NextWithin(left)
		if errors.Is(err, os.ErrDeadlineExceeded) && begun {
			break
		}
		switch {
		case err != nil && bye != "":
			return fmt.Errorf("IDLE: %s", bye)
		case err != nil:
			return fmt.Errorf("IDLE: %w", err)
		case r.Tag() == "+":
			begun = true
		case r.Tag() == tag && r.Status() == "NO":
			c.swarm.note(ending{since: time.Now(), kind: no, user: c.user, proxy: c.at.peer(), text: "IDLE: " + r.Text})
			return nil
		case r.Tag() == "*" && r.Status() == "BYE":
			bye = r.Text
		case r.Tag() == "*":
			if err := c.untagged("IDLE", r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("IDLE: %w %q", errWrong, r.Text)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.swarm.idles.Add(1)
	since := time.Now()
	if err := c.conn.Send("DONE"); err != nil {
		return err
	}
	for {
		r, err := c.conn.Next()
		switch {
		case err != nil && bye != "":
			return fmt.Errorf("DONE: %s", bye)
		case err != nil:
			return fmt.Errorf("DONE: %w", err)
		case r.Tag() == tag && r.Status() == "OK":
			c.swarm.took(since, "DONE")
			return nil
		case r.Tag() == tag && r.Status() == "NO":
			c.swarm.note(ending{since: since, kind: no, user: c.user, proxy: c.at.peer(), text: "DONE: " + r.Text})
			return nil
		case r.Tag() == "*" && r.Status() == "BYE":
			bye = r.Text
		case r.Tag() == "*":
			if err := c.untagged("DONE", r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("DONE: %w %q", errWrong, r.Text)
		}
	}
}

const message = "From: a@example.org\r\nSubject: of a busy client\r\n\r\ntext\r\n"

// work makes one command of those that mail programs make.
func (c *client) work() error {
	// Messages that only others have seen come and go don't count: numbers are this session's.
	if c.exists > 20 && c.rng.IntN(4) == 0 {
		if err := c.do("STORE 1:5 +FLAGS.SILENT (\\Deleted)"); err != nil {
			return err
		}
		return c.do("EXPUNGE")
	}
	switch n := c.rng.IntN(7); {
	case n == 0 || c.exists == 0:
		return c.send("APPEND INBOX", fmt.Sprintf("APPEND INBOX {%d+}\r\n%s\r\n", len(message), message))
	case n == 1:
		return c.do("STORE %d +FLAGS (\\Seen)", 1+c.rng.IntN(c.exists))
	case n == 2:
		return c.do("UID FETCH 1:* (FLAGS)")
	case n == 3:
		return c.do("FETCH 1:* (UID FLAGS)")
	case n == 4:
		return c.do("SEARCH ALL")
	case n == 5:
		return c.do("STATUS Sent (MESSAGES)")
	default:
		return c.do("NOOP")
	}
}

// direct logs in at a backend, past all proxies, for a while: two of these at a time are what the verdict must see.
func direct(t testing.TB, b *backend, user string) io.Closer {
	t.Helper()
	c := imaptest.Dial(t, b.Addr)
	c.Login(user, servers.Password)
	return c
}
