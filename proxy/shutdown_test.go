package proxy

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// flood writes the same for as long as it is taken, in portions of some bytes;
// the count is of the bytes.
func flood(w io.Writer, what string, portion int) (sent *atomic.Int64, ended <-chan struct{}) {
	sent = new(atomic.Int64)
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		b := bytes.Repeat([]byte(what), portion/len(what))
		for {
			n, err := w.Write(b)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return sent, done
}

func TestAFloodOfWhatTheProxyTakesOverEndsWithTheSession(t *testing.T) {
	for name, c := range map[string]struct{ first, more string }{
		"commands":  {"", "a STARTTLS\r\n"},
		"a literal": {"a LOGIN {99999999999999+}\r\n", "x"},
		"no tags":   {"", "* x\r\n"},
	} {
		for _, listener := range []string{plain, implicit} {
			t.Run(name+" "+listener, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, labOptions{quiet: true})
				client := l.dial(listener)
				client.Login("alice", password)
				must(t, client.SendRaw(c.first))
				sent, ended := flood(client.Conn.Conn, c.more, 256<<10)
				read := make(chan struct{})
				go func() { // ends with the connection
					defer close(read)
					_, _ = io.Copy(io.Discard, client.Conn.Conn)
				}()
				eventually(t, "the flood", func() bool { return sent.Load() > 1<<20 })
				l.stop()
				<-ended
				<-read
			})
		}
	}
}

func TestAClientThatReadsNothingBeforeLoginHoldsUpNoShutdown(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: time.Hour}})
	c := l.raw(plain)
	must(t, c.SetDeadline(time.Time{}))
	must(t, c.(*net.TCPConn).SetReadBuffer(4<<10))
	_, ended := flood(c, "a CAPABILITY\r\n", 64<<10)
	eventually(t, "a session", func() bool { n := 0; l.srv.reg.Each(func(*session.Session) { n++ }); return n == 1 })
	s := l.only()
	last, since := time.Time{}, time.Now()
	eventually(t, "the proxy to be held up", func() bool { // it notes when it has last read a command
		if seen := s.LastSeen(); seen != last {
			last, since = seen, time.Now()
		}
		return last.After(s.Info().Started) && time.Since(since) > 200*time.Millisecond
	})
	l.stop()
	// The proxy has closed its socket. The kernel may try for a minute and more to send what the client doesn't read, and the client's
	// write ends only then.
	must(t, c.Close())
	<-ended
}

func TestATrustedAddressThatSaysNothingHoldsUpNoShutdown(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{})
	silent := l.raw(behind)
	// Connections are taken in their order: once this one is served, the silent
	// one is waited for.
	next, err := proxied(t, l, "PROXY UNKNOWN\r\n")
	must(t, err)
	must(t, next.Close())
	begun := time.Now()
	l.stop()
	if took := time.Since(begun); took > proxyHeaderTimeout/2 {
		t.Errorf("it took %s", took)
	}
	if n, err := silent.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("it was told something")
	}
}

func TestEveryClientHearsThatItsTimeBeforeLoginIsOver(t *testing.T) {
	t.Parallel()
	const n = 100
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: 500 * time.Millisecond}})
	var all []*imaptest.Client
	for range n {
		all = append(all, l.dial(plain))
	}
	for _, c := range all {
		c.Expect("* BYE [LIMIT] Login timed out")
		c.ExpectEOF()
	}
	l.stop()
	if got := l.closed(session.ReasonLoginTimeout); got != n {
		t.Errorf("%d ended for their time-out: %s", got, grep(l.metrics(), "sessions_closed_total{"))
	}
}

func TestEveryClientBeforeLoginHearsOfTheShutdown(t *testing.T) {
	t.Parallel()
	const n = 20
	l := newLab(t, labOptions{limits: session.Limits{AuthFailureDelay: time.Hour}})
	var all []*imaptest.Client
	for i := range n {
		c := l.dial(plain)
		if i%2 == 0 {
			c.Write("a1 LOGIN alice wrong") // and waits for the answer
		}
		all = append(all, c)
	}
	eventually(t, "the failures", func() bool { return l.metric("imapproxy_login_failures_total") == n/2 })
	l.end()
	for _, c := range all {
		c.Expect("* BYE [UNAVAILABLE] {*}")
		c.ExpectEOF()
	}
}
