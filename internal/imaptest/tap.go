package imaptest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// tapLines is how much of what went to the backend a Tap keeps.
const tapLines = 400

// A Tap stands between a proxy and its backend: a test can do things just before
// a line goes on, keep it back, or cut all connections. Literals go by line by line
// as well.
type Tap struct {
	Addr string // where the proxy connects to

	t  testing.TB
	ln net.Listener
	wg sync.WaitGroup // accept and two goroutines a connection; the clean-up waits

	mu       sync.Mutex // guards what follows
	conns    map[*Tapped]bool
	up, down TapFunc
	backend  string
	refuse   bool
	sent     []string
	opened   int
}

// Tapped is one connection through a Tap.
type Tapped struct {
	N              int // from 1, in the order in which they were opened
	proxy, backend net.Conn
}

// A TapFunc is called before a line goes on, which waits for it; false cuts the
// connection instead. The line is without its end.
type TapFunc func(c *Tapped, line string) bool

// Cut ends both sides.
func (c *Tapped) Cut() {
	_ = c.proxy.Close()
	_ = c.backend.Close()
}

// NewTap listens on a loopback port before the backend at an address. A test that
// has failed shows what the proxy sent.
func NewTap(t testing.TB, backend string) *Tap {
	t.Helper()
	return NewTapAt(t, "127.0.0.1:0", backend)
}

// NewTapAt is NewTap at an address of one's own.
func NewTapAt(t testing.TB, address, backend string) *Tap {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tp := &Tap{t: t, Addr: ln.Addr().String(), backend: backend, ln: ln, conns: map[*Tapped]bool{}}
	tp.wg.Go(tp.accept) // ends with Close below
	t.Cleanup(func() {
		_ = ln.Close()
		tp.CutAll()
		tp.wg.Wait()
		if t.Failed() {
			t.Logf("what the proxy sent, in the end:\n%s", strings.Join(tp.Sent(), "\n"))
		}
	})
	return tp
}

func (tp *Tap) accept() {
	for {
		c, err := tp.ln.Accept()
		if err != nil {
			return
		}
		tp.mu.Lock()
		refuse, backend := tp.refuse, tp.backend
		tp.opened++
		n := tp.opened
		tp.mu.Unlock()
		if refuse {
			_ = c.Close()
			continue
		}
		b, err := net.Dial("tcp", backend)
		if err != nil {
			_ = c.Close()
			continue
		}
		tc := &Tapped{N: n, proxy: c, backend: b}
		tp.mu.Lock()
		tp.conns[tc] = true
		tp.mu.Unlock()
		tp.wg.Go(func() { // each ends when its side does, or is cut
			tp.carry(tc, b, c, func(line string) bool {
				tp.mu.Lock()
				f := tp.up
				tp.keepLocked(tc, line)
				tp.mu.Unlock()
				return f == nil || f(tc, line)
			})
			tp.mu.Lock()
			delete(tp.conns, tc)
			tp.mu.Unlock()
		})
		tp.wg.Go(func() {
			tp.carry(tc, c, b, func(line string) bool {
				tp.mu.Lock()
				f := tp.down
				tp.mu.Unlock()
				return f == nil || f(tc, line)
			})
		})
	}
}

// carry carries one direction line by line, until it ends or may not go on.
func (tp *Tap) carry(c *Tapped, to, from net.Conn, may func(line string) bool) {
	defer c.Cut()
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		if line != "" && !may(strings.TrimSpace(line)) {
			return
		}
		if _, werr := io.WriteString(to, line); werr != nil || err != nil {
			return
		}
	}
}

// keepLocked keeps a line for people, without passwords.
func (tp *Tap) keepLocked(c *Tapped, line string) {
	if len(tp.sent) == tapLines {
		tp.sent = tp.sent[1:]
	}
	if strings.Contains(line, "AUTHENTICATE") || strings.Contains(line, "LOGIN") {
		line = "(login)"
	}
	tp.sent = append(tp.sent, string(rune('a'+(c.N-1)%26))+" "+line)
}

// OnUp has f called before each line of the proxy's; nil: nothing any more.
func (tp *Tap) OnUp(f TapFunc) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.up = f
}

// OnDown is OnUp for lines of the backend's.
func (tp *Tap) OnDown(f TapFunc) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.down = f
}

// Once has f called before the next line of the proxy's that contains the words, and returns a channel that is closed
// after it. Words are whole ones: a line with UNSELECT doesn't contain SELECT.
func (tp *Tap) Once(words string, f func()) <-chan struct{} {
	done := make(chan struct{})
	var first sync.Once
	tp.OnUp(func(_ *Tapped, line string) bool {
		if containsWords(line, words) {
			first.Do(func() {
				f()
				close(done)
			})
		}
		return true
	})
	return done
}

// containsWords says whether a line contains words that begin and end where words of the line do.
func containsWords(line, words string) bool {
	return strings.Contains(" "+line+" ", " "+words+" ")
}

// Down says whether new connections are refused; those there are are cut.
func (tp *Tap) Down(down bool) {
	tp.mu.Lock()
	tp.refuse = down
	tp.mu.Unlock()
	if down {
		tp.CutAll()
	}
}

// CutAll cuts all connections.
func (tp *Tap) CutAll() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for c := range tp.conns {
		c.Cut()
	}
}

// Move has new connections go to another backend.
func (tp *Tap) Move(backend string) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.backend = backend
}

// Now is how many connections there are.
func (tp *Tap) Now() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return len(tp.conns)
}

// Opened is how many connections there have been.
func (tp *Tap) Opened() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.opened
}

// Sent are the last lines that went to the backend, each behind a letter for its
// connection.
func (tp *Tap) Sent() []string {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return append([]string(nil), tp.sent...)
}
