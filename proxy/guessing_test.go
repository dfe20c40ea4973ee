package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
)

// aLogin is a login that waits.
type aLogin struct {
	wait time.Duration
	on   chan struct{} // closed: it goes on
}

// longestGuess is the longest delay in these tests. Nothing goes by its length, since the test ends each delay.
const longestGuess = 15 * time.Nanosecond

// guessed is a lab in which delays last until the test ends them.
func guessed(t *testing.T, limits session.Limits) (*lab, chan aLogin) {
	t.Helper()
	waiting := make(chan aLogin, 100)
	limits.AuthFailureDelay = time.Nanosecond
	return newLab(t, labOptions{limits: limits, change: func(o *Options) {
		o.Guessing.Longest = longestGuess
		o.Guard = guessing.New(guessing.Options{Sleep: func(ctx context.Context, d time.Duration) error {
			l := aLogin{d, make(chan struct{})}
			waiting <- l
			select {
			case <-l.on:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
	}}), waiting
}

// guesser connects from an address of a network of documentation, 192.0.2.0/24.
func guesser(t *testing.T, l *lab, host int) *imaptest.Conn {
	t.Helper()
	c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.2.%d 198.51.100.2 4711 143\r\n", host))
	must(t, err)
	return c
}

// exhaust guesses wrong, and lets each guess that waits go on, until one waits for the longest time. Then it takes minutes
// until a login from the address, or for the user, waits no more.
func exhaust(t *testing.T, l *lab, waiting chan aLogin, host int, user string) {
	t.Helper()
	for i := range 50 {
		c := guesser(t, l, host)
		must(t, c.SendRaw(fmt.Sprintf("a1 LOGIN %s wrong-%d-%d\r\n", user, host, i)))
		answered := make(chan error, 1)
		go func() { // ends with the answer
			r, err := c.Next()
			if err == nil && r.Code() != "AUTHENTICATIONFAILED" {
				err = fmt.Errorf("%s", r)
			}
			answered <- err
		}()
		var waited aLogin
		select {
		case waited = <-waiting:
			close(waited.on)
			must(t, <-answered)
		case err := <-answered:
			must(t, err)
		}
		_ = c.Close()
		if waited.wait == longestGuess {
			return
		}
	}
	t.Fatal("50 guesses don't wait")
}

// A login that waits takes no place that others need: neither the connections before login nor the logins at the
// backend; and the right password logs in after the wait.
func TestALoginThatWaitsKeepsNoOneElseWaiting(t *testing.T) {
	l, waiting := guessed(t, session.Limits{Prelogin: 2, UnprovedLogins: 1})
	exhaust(t, l, waiting, 7, "mallory")
	eventually(t, "the places of the guesses are free", func() bool { return l.srv.Status().Sessions == 0 })
	before := l.metric("imapproxy_login_delays_total", `by="address"`)
	var guessers [2]*imaptest.Conn
	var all [2]aLogin
	for i := range guessers {
		guessers[i] = guesser(t, l, 7)
		must(t, guessers[i].SendRaw("a1 LOGIN alice "+password+"\r\n"))
		all[i] = <-waiting
	}
	l.login("bob") // from elsewhere, while both wait: one of them has lost its place
	if r, err := guessers[0].Next(); err != nil || r.Status() != "BYE" || r.Code() != "LIMIT" {
		t.Errorf("the guesser that lost its place hears %s, %v", r, err)
	}
	close(all[1].on)
	if r, err := guessers[1].Next(); err != nil || r.Tag() != "a1" || r.Status() != "OK" {
		t.Errorf("the right password after the wait: %s, %v", r, err)
	}
	if n := l.metric("imapproxy_login_delays_total", `by="address"`); n != before+2 {
		t.Errorf("%v delays are counted", n-before)
	}
	if line := l.logs.wait(t, `login delayed`); !strings.Contains(line, "by=address") {
		t.Error(line)
	}
}

// A client that has many logins wait at the same time makes no more guesses for it. A login that can't wait is refused, and not
// as a wrong password; one from elsewhere goes through.
func TestFewLoginsOfAnAddressWait(t *testing.T) {
	l, waiting := guessed(t, session.Limits{})
	exhaust(t, l, waiting, 7, "mallory")
	var all []*imaptest.Conn
	for range 16 {
		c := guesser(t, l, 7)
		must(t, c.SendRaw("a1 LOGIN alice guess\r\n"))
		all = append(all, c)
	}
	var on []aLogin
	for range all {
		on = append(on, <-waiting)
	}
	c := guesser(t, l, 7)
	if _, r, err := c.Command("a1", "LOGIN alice "+password); err != nil || r.Status() != "NO" || r.Code() != "LIMIT" {
		t.Errorf("one too many hears %s, %v", r, err)
	}
	if n := l.metric("imapproxy_connections_refused_total", `reason="guesses"`); n != 1 {
		t.Errorf("%v are counted as refused", n)
	}
	l.login("alice")
	close(on[0].on)
	for {
		// The login that goes on makes room.
		must(t, c.SendRaw("a2 LOGIN alice "+password+"\r\n"))
		answered := make(chan string, 1)
		go func() {
			r, err := c.Next()
			answered <- fmt.Sprint(r.Status(), " ", err)
		}()
		select {
		case w := <-waiting:
			close(w.on)
			if got := <-answered; got != "OK <nil>" {
				t.Error(got)
			}
			return
		case got := <-answered: // it hasn't gone yet
			if got != "NO <nil>" {
				t.Fatal(got)
			}
			c = guesser(t, l, 7)
		}
	}
}

// A reload while a login waits holds for the login.
func TestALoginThatWaitsGoesByTheSettingsOfItsEnd(t *testing.T) {
	l, waiting := guessed(t, session.Limits{})
	exhaust(t, l, waiting, 7, "mallory")
	c := guesser(t, l, 7)
	must(t, c.SendRaw("a1 LOGIN alice "+password+"\r\n"))
	waits := <-waiting
	o := l.opts
	o.Sources = []auth.Source{lockedOut{}}
	must(t, l.srv.Reload(o))
	close(waits.on)
	if r, err := c.Next(); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("%s, %v", r, err)
	}
}

// lockedOut is a source whose users are all locked.
type lockedOut struct{}

func (lockedOut) Name() string { return "passwd_file" }
func (lockedOut) Authenticate(context.Context, auth.Credentials) auth.Verdict {
	return auth.Rejected{Reason: auth.ReasonAccountDisabled}
}
func (lockedOut) Close() error { return nil }

// What isn't a guess doesn't count: right passwords, the same wrong password again, a backend that is down.
func TestWhatIsNoGuessDelaysNothing(t *testing.T) {
	l, waiting := guessed(t, session.Limits{})
	login := func(secret, want string) {
		t.Helper()
		c := guesser(t, l, 7)
		if _, r, err := c.Command("a1", "LOGIN alice "+secret); err != nil || r.Status() != want && r.Code() != want {
			t.Fatal(r, err)
		}
		_ = c.Close()
	}
	for range 10 {
		login("the-old-one", "AUTHENTICATIONFAILED")
		login(password, "OK")
	}
	l.backends[0].Close()
	for i := range 10 {
		login(fmt.Sprint("unavailable", i), "UNAVAILABLE")
	}
	if len(waiting) != 0 {
		t.Errorf("%d logins waited", len(waiting))
	}
}

// A shutdown doesn't wait for a login that waits.
func TestALoginThatWaitsEndsWithTheServer(t *testing.T) {
	l, waiting := guessed(t, session.Limits{})
	exhaust(t, l, waiting, 7, "mallory")
	c := guesser(t, l, 7)
	must(t, c.SendRaw("a1 LOGIN alice "+password+"\r\n"))
	<-waiting
	l.stop()
	if r, err := c.Next(); err != nil || r.Status() != "BYE" {
		t.Errorf("%s, %v", r, err)
	}
}

// Many guess at one user, from many addresses: the user's own address doesn't wait, a new one does.
func TestGuessersDelayNoAddressOfTheUser(t *testing.T) {
	l, waiting := guessed(t, session.Limits{})
	login := func(host int) *imaptest.Conn {
		t.Helper()
		c := guesser(t, l, host)
		must(t, c.SendRaw("a1 LOGIN alice "+password+"\r\n"))
		return c
	}
	ok := func(c *imaptest.Conn) {
		t.Helper()
		if r, err := c.Next(); err != nil || r.Status() != "OK" {
			t.Fatal(r, err)
		}
	}
	ok(login(9))
	for host := range 4 {
		exhaust(t, l, waiting, 20+host, "alice")
	}
	ok(login(9))
	if len(waiting) != 0 {
		t.Error("the user's own address waits")
	}
	fresh := login(10)
	w := <-waiting
	close(w.on)
	ok(fresh)
}
