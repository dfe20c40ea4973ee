package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// bystander is a session that continues its work while another client misbehaves. Calling what is
// returned ends it and says whether it noticed.
func (l *lab) bystander() (done func()) {
	l.t.Helper()
	c := l.login("bystander")
	stop, ended := make(chan struct{}), make(chan error, 1)
	var worst time.Duration
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			begun := time.Now()
			if _, r, err := c.Conn.Command(fmt.Sprintf("n%d", i), "NOOP"); err != nil || r.Status() != "OK" {
				ended <- fmt.Errorf("NOOP %d: %v %w", i, r, err)
				return
			}
			worst = max(worst, time.Since(begun))
		}
	}()
	return func() {
		l.t.Helper()
		close(stop)
		if err := <-ended; err != nil {
			l.t.Fatalf("the bystander noticed: %v", err)
		}
		if worst > 5*time.Second { // generous: the machine is busy, and the race detector slow
			l.t.Fatalf("the bystander waited %s", worst)
		}
		must(l.t, c.Conn.Close())
	}
}

// raw is a client that says what it likes.
func (l *lab) raw(listener string) net.Conn {
	l.t.Helper()
	c, err := net.Dial("tcp", l.addr(listener))
	must(l.t, err)
	l.t.Cleanup(func() { _ = c.Close() })
	must(l.t, c.SetDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	return c
}

// says sends text to a listener, in a goroutine since it may not be taken, and
// returns all that is answered until the proxy closes.
func (l *lab) says(listener string, text string) string {
	l.t.Helper()
	c := l.raw(listener)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("after %.60q the connection stays open (%q)", text, answer)
	}
	_ = c.Close()
	<-sent
	return string(answer)
}

func TestBeforeLoginNothingIsTooStrange(t *testing.T) {
	l := newLab(t, labOptions{})
	done := l.bystander()
	backends := l.backends[0].Accepted()
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for name, c := range map[string]struct{ in, answer string }{
		"a long line":                {"a1 LOGIN " + strings.Repeat("x", 13_000) + "\r\na2 NOOP\r\n", "* BYE "},
		"a line without end":         {strings.Repeat("x", 5<<20), "* BYE "},
		"a long line of parentheses": {"a1 ID " + strings.Repeat("(", 100_000), "* BYE "},
		"deep parentheses":           {"a1 ID " + strings.Repeat("(", 4000) + strings.Repeat(")", 4000) + "\r\n", "a1 BAD "},
		"NUL":                        {"a1 LOGIN al\x00ice pw\r\na2 NOOP\r\n", "* BYE [CLIENTBUG] NUL"},
		"NUL in a quoted string":     {"a1 LOGIN \"alice\" \"" + password + "\x00x\"\r\n", "* BYE [CLIENTBUG] NUL"},
		"NUL in a literal password":  {fmt.Sprintf("a1 LOGIN alice {%d+}\r\n%s\x00x\r\n", len(password)+2, password), "* BYE [CLIENTBUG] NUL"},
		"NUL in a base64 password":   {"a1 AUTHENTICATE PLAIN " + imaptest.PlainInitial("", "alice", password+"\x00x") + "\r\n", "a1 NO [AUTHENTICATIONFAILED]"},
		"an empty literal's braces":  {"a1 LOGIN {}\r\na2 LOGIN {} {}\r\na3 NOOP\r\n", "a1 BAD "},
		"a literal of 4 GiB":         {"a1 LOGIN {4294967295}\r\na2 NOOP\r\n", "a1 BAD [TOOBIG]"},
		"a literal of 4 GiB, sent":   {"a1 LOGIN {4294967295+}\r\n" + strings.Repeat("x", 1<<20), "* BYE [TOOBIG]"},
		"a literal beyond counting":  {"a1 LOGIN {99999999999999999999}\r\na2 NOOP\r\n", "a1 BAD "},
		"many literals":              {"a1 LOGIN" + strings.Repeat(" {1+}\r\nx", 10_000) + "\r\n", "* BYE "},
		"a negative literal":         {"a1 LOGIN {-1}\r\na2 NOOP\r\n", "a1 BAD "},
		"bare LF":                    {"a1 NOOP\na2 NOOP\n", "a1 OK Noop completed\r\na2 OK "},
		"bare CR":                    {"a1 NOOP\ra2 NOOP\r\n", "a1 BAD "},
		"only line ends":             {strings.Repeat("\r\n", 50_000) + "a1 NOOP\r\n", "a1 OK "},
		"a tag that is none":         {"a+1 NOOP\r\n", "* BAD "},
		"a long tag":                 {strings.Repeat("t", 4000) + " NOOP\r\n", strings.Repeat("t", 4000) + " OK "},
		"noise":                      {string(noise), "* B"},
		"noise in lines":             {strings.ReplaceAll(string(noise[:5000]), "\x00", "\r\n"), "* BAD "},
		"a TLS handshake":            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(noise[:600]), ""},
		"HTTP":                       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET BAD "},
		"a long SASL response":       {"a1 AUTHENTICATE PLAIN\r\n" + strings.Repeat("QUFB", 20_000) + "\r\n", "+ "},
		"a long initial response":    {"a1 AUTHENTICATE PLAIN " + strings.Repeat("QUFB", 3020) + "\r\n", "a1 BAD "},
		"DONE":                       {"DONE\r\n", "DONE BAD "},
		"the end at once":            {"", ""},
		"the end in a line":          {"a1 LOGIN alice", ""},
		"the end in a literal":       {"a1 LOGIN {5+}\r\nali", ""},
		"the end in an exchange":     {"a1 AUTHENTICATE LOGIN\r\n", "+ VXNlcm5hbWU6"},
	} {
		answer := l.says(plain, c.in)
		greeting, answer, _ := strings.Cut(answer, "\r\n")
		if !strings.HasPrefix(greeting, "* OK ") || !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s: %q is answered %.200q", name, c.answer, answer)
		}
		if c.answer == "" && answer != "" {
			t.Errorf("%s: %.200q", name, answer)
		}
	}
	for name, in := range map[string]string{
		"IMAP":             "a1 NOOP\r\n",
		"noise":            string(noise),
		"the end at once":  "",
		"half a handshake": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"zeros":            strings.Repeat("\x00", 10_000),
	} {
		if answer := l.says(implicit, in); strings.Contains(answer, "OK") {
			t.Errorf("%s to a TLS port is answered %q", name, answer)
		}
	}
	if n := l.backends[0].Accepted() - backends; n != 0 {
		t.Errorf("a backend was bothered %d times", n)
	}
	done()
}

func TestAClientThatResetsAtAnyMomentIsForgotten(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{AuthFailureDelay: time.Hour}})
	done := l.bystander()
	begun := l.srv.reg.Total()
	for _, said := range []string{"", "a1 LO", "a1 LOGIN {5}\r\n", "a1 LOGIN {5+}\r\nal", "a1 AUTHENTICATE PLAIN\r\n", "a1 LOGIN alice wrong\r\n",
		"a1 LOGIN alice " + password + "\r\n", "a1 LOGIN alice " + password + "\r\na2 IDLE\r\n", "a1 LOGIN alice " + password + "\r\na2 APPEND x {500000+}\r\nabc",
		"a1 STARTTLS\r\n"} {
		for _, listener := range []string{plain, startTLS, implicit} {
			c := l.raw(listener)
			_, err := io.WriteString(c, said)
			must(t, err)
			if listener != implicit {
				must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
				_, err = c.Read(make([]byte, 10))
				must(t, err)
			}
			must(t, c.(*net.TCPConn).SetLinger(0))
			must(t, c.Close())
		}
	}
	// One of them is in the delay of a wrong password, which isn't cut short.
	eventually(t, "all but one to be gone", func() bool { return l.srv.reg.Total() <= begun+1 })
	done()
}

func TestAByteAtATimeBuysNoTime(t *testing.T) {
	const limit = 500 * time.Millisecond
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: limit}})
	done := l.bystander()
	var g sync.WaitGroup
	for _, listener := range []string{plain, startTLS, implicit} {
		g.Go(func() {
			c := l.raw(listener)
			begun := time.Now()
			go func() {
				tick := time.NewTicker(limit / 20)
				defer tick.Stop()
				for _, b := range []byte("a1 LOGIN " + strings.Repeat("x", 1000)) {
					<-tick.C
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
				}
			}()
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: still open", listener)
			}
			if took := time.Since(begun); took > limit+20*time.Second {
				t.Errorf("%s: it took %s", listener, took)
			}
			_ = c.Close()
		})
	}
	g.Wait()
	done()
}

func TestAHundredBadLogins(t *testing.T) {
	l := newLab(t, labOptions{})
	done := l.bystander()
	var g sync.WaitGroup
	for i := range 10 {
		g.Go(func() {
			c, err := imaptest.DialConn(context.Background(), l.addr(plain), imaptest.DialOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Next()
			for j := range mostAttempts {
				if _, r, err := c.Command(fmt.Sprint("a", j), fmt.Sprintf("LOGIN user%d wrong%d", i, j)); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
					t.Error(r, err)
				}
			}
			if r, err := c.Next(); err != nil || r.Status() != "BYE" {
				t.Error(r, err)
			}
			if _, err := c.Next(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	g.Wait()
	l.login("alice").MustOK("NOOP")
	done()
	l.stop()
	if n := strings.Count(l.logs.String(), `msg="login failed"`); n != 100 {
		t.Errorf("%d lines tell of 100 failures", n)
	}
	if n := l.closed(session.ReasonAttempts); n != 10 {
		t.Errorf("%d were sent away", n)
	}
	if n := strings.Count(l.logs.String(), `msg="session ended before login"`); n != 10 || strings.Contains(l.logs.String(), "<nil>") {
		t.Errorf("%d lines tell of their end, or an error that there isn't", n)
	}
}

func TestTwoHundredSlowOpeners(t *testing.T) {
	// Long enough for all to be there at a time, on a busy machine too.
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: 5 * time.Second}})
	done := l.bystander()
	var open []net.Conn
	for i := range 200 {
		c := l.raw([]string{plain, startTLS, implicit}[i%3])
		_, _ = io.WriteString(c, []string{"", "a1 LOGIN {10}\r\n", "a1 NO", "a1 AUTHENTICATE PLAIN\r\n"}[i%4])
		open = append(open, c)
	}
	eventually(t, "all to be counted", func() bool { return l.srv.reg.Total() >= 150 })
	l.login("alice").MustOK("NOOP")
	for i, c := range open {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("number %d is still open", i)
		}
		_ = c.Close()
	}
	eventually(t, "all to be gone", func() bool { return l.srv.reg.Total() <= 2 })
	l.login("bob").MustOK("NOOP")
	done()
}

// heap is what the process holds in its heap, after a collection. No goroutine may work meanwhile: a collection keeps
// what is allocated while it runs, which is much on a busy machine. What the backends have recorded isn't counted.
func (l *lab) heap() int64 {
	for _, b := range l.backends {
		b.ForgetCommands() // a bystander's: the longer the test takes, the more there are
	}
	runtime.GC() // twice: what pools hold outlives one
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAClientThatNeverReadsHoldsUpItsBackendAndNothingElse(t *testing.T) {
	const clients, each = 6, 1 << 30
	for _, listener := range []string{plain, implicit} {
		for name, response := range map[string]string{
			"lines":     strings.Repeat("* 1 FETCH (FLAGS (\\Seen) UID 1234567 MODSEQ (1234567))\r\n", 1000),
			"a literal": "* 1 FETCH (BODY[] {16777216}\r\n" + strings.Repeat("x", 16<<20) + ")\r\n",
		} {
			t.Run(listener+" "+name, func(t *testing.T) {
				var sent atomic.Int64
				octets := []byte(response) // writing allocates nothing then: it would be counted
				l := politeWith(t, commands{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
					must(t, c.SetWriteDeadline(time.Time{}))
					for n := 0; n < each; n += len(octets) {
						for rest := octets; len(rest) > 0; {
							m, err := c.Conn.Write(rest[:min(len(rest), 64<<10)])
							sent.Add(int64(m))
							if err != nil {
								return err
							}
							rest = rest[m:]
						}
					}
					return c.Send(cmd.Tag() + " OK all of it")
				}}, labOptions{quiet: true}) // no telemetry kept: it would be counted
				before := l.heap()
				done := l.bystander()
				for i := range clients {
					c := l.dial(listener)
					c.Login(fmt.Sprintf("user%d", i), password)
					c.Write("a1 FETCH 1:* FLAGS")
				}
				last, since := int64(0), time.Now()
				eventually(t, "the backend to be held up", func() bool {
					if now := sent.Load(); now != last {
						last, since = now, time.Now()
					}
					return last > 0 && time.Since(since) > 300*time.Millisecond
				})
				done()
				// What it has written is in the kernel's buffers; ours hold a chunk each.
				if grown := l.heap() - before; grown > clients*(3<<20) { // the test's own sides are in it
					t.Errorf("the heap has grown by %d KB for %d clients", grown>>10, clients)
				}
				if n := sent.Load(); n > clients*(40<<20) {
					t.Errorf("the backend could send %d MB", n>>20)
				}
			})
		}
	}
}

func TestAClientThatReadsNoneOfTheProxysOwnAnswersIsLetGo(t *testing.T) {
	l := politeWith(t, commands{"FETCH": bigLiteral(1 << 10)}, labOptions{})
	done := l.bystander()
	c := l.login("alice")
	c.Write("a1 FETCH 1 BODY[]") // its answer doesn't come to an end
	readBytes(t, c, 512)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range 100_000 {
			if _, err := fmt.Fprintf(c.Conn.Conn, "x%d COMPRESS DEFLATE\r\n", i); err != nil {
				return
			}
		}
	}()
	l.ended(session.ReasonClientUnread)
	<-sent
	done()
}

func TestAfterLoginNothingIsTooStrange(t *testing.T) {
	received := make(chan string, 1)
	l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		if err := letIn(c); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		received <- string(b)
		return err
	}}})
	rng := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	// The proxy itself answers lines without a tag, since no answer could be matched to them.
	less := map[string]string{
		"NUL":                  "a1 X \x00\r\na2 Y {3+}\r\n\x00\x00\x00\r\n",
		"DONE out of the blue": "a1 NOOP\r\n",
		"no tag":               "\r\n",
	}
	for name, in := range map[string]string{
		"a line of 5 MB":       "a1 SEARCH " + strings.Repeat("x ", 5<<19) + "\r\n",
		"a line without end":   "a1 SEARCH " + strings.Repeat("x", 100_000),
		"deep parentheses":     "a1 SEARCH " + strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000) + "\r\n",
		"NUL":                  "a1 X \x00\r\n\x00\x00\r\na2 Y {3+}\r\n\x00\x00\x00\r\n",
		"bare LF":              "a1 NOOP\na2 NOOP\n\n\n",
		"bare CR":              "a1 NOOP\ra2 NOOP\r\r\r\n",
		"4 GiB announced":      "a1 APPEND x {4294967295+}\r\nnot so many\r\na2 NOOP\r\n",
		"beyond counting":      "a1 APPEND x {99999999999999999999}\r\na2 NOOP\r\n",
		"many small literals":  "a1 X" + strings.Repeat(" {1+}\r\nx", 50_000) + "\r\n",
		"DONE out of the blue": "DONE\r\nDONE\r\na1 NOOP\r\n",
		"no tag":               " NOOP\r\n\r\n NOOP x\r\n",
		"noise":                strings.ReplaceAll(string(noise), "\n", "") + "\r\n",
		"the end in a head":    "a1 NOO",
		"the end in a literal": "a1 APPEND x {100+}\r\nabc",
	} {
		for _, listener := range []string{plain, implicit} {
			c := l.dial(listener)
			c.Login("alice", password)
			go func() {
				_, _ = io.WriteString(c.Conn.Conn, in)
				_ = c.CloseWrite()
			}()
			want := in
			if w, ok := less[name]; ok {
				want = w
			}
			if got := <-received; got != want {
				if name == "noise" { // one unit of it may look like a long tag, which ends the session
					continue
				}
				t.Errorf("%s %s: the backend has got %d bytes %.100q, not %d", listener, name, len(got), got, len(want))
			}
			_ = c.Conn.Close()
		}
	}
}

// letIn is the backend's side of a login.
func letIn(c *imaptest.BackendConn) error {
	if err := c.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready"); err != nil {
		return err
	}
	cmd, err := c.ReadCommand()
	if err != nil {
		return err
	}
	return c.Send(cmd.Tag() + " OK [CAPABILITY IMAP4rev1] logged in")
}

func TestABackendThatIsOutOfItsMindHarmsItsOwnSessionsOnly(t *testing.T) {
	for name, say := range map[string]func(*imaptest.BackendConn) error{
		"noise": func(c *imaptest.BackendConn) error { return c.Garbage(1<<20, 5) },
		"a capability list too long": func(c *imaptest.BackendConn) error {
			return c.SendRaw("* CAPABILITY " + strings.Repeat("X ", 100_000) + "\r\n")
		},
		"answers without a command": func(c *imaptest.BackendConn) error { return c.Send(strings.Repeat("x OK\r\n+ go\r\n", 10_000)) },
		"no line ends":              func(c *imaptest.BackendConn) error { return c.SendRaw(strings.Repeat("x", 3<<20)) },
		"NUL":                       func(c *imaptest.BackendConn) error { return c.SendRaw(strings.Repeat("\x00", 1<<20)) },
		"a literal without end":     func(c *imaptest.BackendConn) error { return c.SendRaw("* 1 FETCH (X {9223372036854775807}\r\nabc") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
				if c.Index == 0 {
					return polite().Serve(c)
				}
				if err := letIn(c); err != nil {
					return err
				}
				return say(c)
			}}})
			done := l.bystander()
			c := l.login("alice")
			if _, err := readAll(t, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the session goes on")
			}
			_ = c.Conn.Close()
			done()
		})
	}
}
