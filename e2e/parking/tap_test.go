//go:build parking

package parking

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A tap stands between the proxy and its backend: a test can do things just
// before a command of the proxy's goes on, or cut everybody off.
type tap struct {
	t       testing.TB
	Addr    string
	backend string
	ln      net.Listener
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[*tapped]bool
	before func(c *tapped, line string) bool
	refuse bool
	lines  []string // that went to the backend, the last 400
	opened int
}

// tapped is one connection through the tap.
type tapped struct {
	n              int // from 1, in the order in which they were opened
	proxy, backend net.Conn
}

func (c *tapped) cut() {
	_ = c.proxy.Close()
	_ = c.backend.Close()
}

func newTap(t testing.TB, backend string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{t: t, Addr: ln.Addr().String(), backend: backend, ln: ln, conns: map[*tapped]bool{}}
	tp.wg.Go(tp.accept) // ends with Close below
	t.Cleanup(func() {
		_ = ln.Close()
		tp.cutAll()
		tp.wg.Wait()
		if t.Failed() {
			t.Logf("what the proxy sent, in the end:\n%s", strings.Join(tp.sent(), "\n"))
		}
	})
	return tp
}

func (tp *tap) accept() {
	for {
		c, err := tp.ln.Accept()
		if err != nil {
			return
		}
		tp.mu.Lock()
		refuse := tp.refuse
		tp.opened++
		n := tp.opened
		tp.mu.Unlock()
		if refuse {
			_ = c.Close()
			continue
		}
		b, err := net.Dial("tcp", tp.backend)
		if err != nil {
			_ = c.Close()
			continue
		}
		tc := &tapped{n: n, proxy: c, backend: b}
		tp.mu.Lock()
		tp.conns[tc] = true
		tp.mu.Unlock()
		tp.wg.Go(func() { tp.up(tc) }) // each ends when its side does, or cut
		tp.wg.Go(func() {
			_, _ = io.Copy(c, b)
			tc.cut()
		})
	}
}

// up carries what the proxy says, line by line.
func (tp *tap) up(c *tapped) {
	defer func() {
		c.cut()
		tp.mu.Lock()
		delete(tp.conns, c)
		tp.mu.Unlock()
	}()
	r := bufio.NewReader(c.proxy)
	for {
		line, err := r.ReadString('\n')
		tp.mu.Lock()
		before := tp.before
		if len(tp.lines) == 400 {
			tp.lines = tp.lines[1:]
		}
		shown := strings.TrimSpace(line)
		if strings.Contains(shown, "AUTHENTICATE") || strings.Contains(shown, "LOGIN") {
			shown = "(login)"
		}
		tp.lines = append(tp.lines, string(rune('a'+(c.n-1)%26))+" "+shown)
		tp.mu.Unlock()
		if line != "" && before != nil && !before(c, strings.TrimSpace(line)) {
			return
		}
		if _, werr := io.WriteString(c.backend, line); errors.Join(err, werr) != nil {
			return
		}
	}
}

// onLine has f called before each line goes on. It runs while the line waits;
// false cuts the connection instead.
func (tp *tap) onLine(f func(c *tapped, line string) bool) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.before = f
}

// once has f called before the next line that contains the words, and returns a
// channel that is closed after it.
func (tp *tap) once(words string, f func()) <-chan struct{} {
	done := make(chan struct{})
	var first sync.Once
	tp.onLine(func(_ *tapped, line string) bool {
		if strings.Contains(line, words) {
			first.Do(func() {
				f()
				close(done)
			})
		}
		return true
	})
	return done
}

// down says whether new connections are refused; those there are are cut.
func (tp *tap) down(down bool) {
	tp.mu.Lock()
	tp.refuse = down
	tp.mu.Unlock()
	if down {
		tp.cutAll()
	}
}

func (tp *tap) cutAll() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for c := range tp.conns {
		c.cut()
	}
}

// now is how many connections there are.
func (tp *tap) now() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return len(tp.conns)
}

func (tp *tap) sent() []string {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return append([]string(nil), tp.lines...)
}
