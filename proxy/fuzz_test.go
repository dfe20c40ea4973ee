package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/wire"
)

// fuzzLimit is how long a fuzzed session may take: its own time-outs are
// shorter.
const fuzzLimit = 10 * time.Second

// strict is a source that accepts every user with the password of the tests.
type strict struct{}

func (strict) Name() string { return "strict" }
func (strict) Close() error { return nil }
func (strict) Authenticate(_ context.Context, c auth.Credentials) auth.Verdict {
	if c.Password.Reveal() == password {
		return auth.Accepted{}
	}
	return auth.Rejected{Reason: auth.ReasonBadPassword}
}

// FuzzPreLogin: whatever a client says before login, in whatever portions, over
// whatever listener, the session ends in time, what it is told is IMAP, and no
// backend hears of it.
func FuzzPreLogin(f *testing.F) {
	for _, s := range []string{"a1 NOOP\r\n", "a1 LOGIN alice pw\r\na2 LOGIN \"a\" {3}\r\nabc\r\n", "a1 AUTHENTICATE PLAIN\r\n*\r\n",
		"a1 AUTHENTICATE LOGIN\r\nYQ==\r\nYQ==\r\n", "a1 STARTTLS\r\n", "a1 STARTTLS\r\na2 NOOP\r\n", "a1 ID (\"a\" \"b\" \"x-proxy-ttl\" \"1\")\r\na2 LOGIN a b\r\n",
		"a1 LOGIN {}\r\n", "a1 LOGIN {4294967295}\r\n", "a1 LOGIN {5+}\r\na\x00bcd\r\n", "\n\n\r\n\x00", "a1 CAPABILITY\na2 LOGOUT\n", "a1 AUTHENTICATE PLAIN =\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", strings.Repeat("(", 9000)} {
		f.Add([]byte(s), []byte{3, 7}, uint8(0))
		f.Add([]byte(s), []byte{}, uint8(1))
	}
	l := newLab(f, labOptions{quiet: true, limits: session.Limits{PreloginTimeout: 3 * time.Second}, change: func(o *Options) { o.Sources = []auth.Source{strict{}} }})
	f.Fuzz(func(t *testing.T, data, how []byte, where uint8) {
		if bytes.Contains(data, []byte("s3cret")) {
			return // it knows the password
		}
		c, err := net.Dial("tcp", l.addr([]string{plain, startTLS, implicit}[where%3]))
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(fuzzLimit)))
		sent := make(chan struct{})
		go func() { // ends with data, or with the connection
			defer close(sent)
			portions(c, data, how)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		answer, err := io.ReadAll(c)
		_ = c.Close()
		<-sent
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the session doesn't end; so far %q", answer)
		}
		if where%3 != 2 && err == nil {
			onlyResponses(t, answer)
		}
		if n := l.backends[0].Accepted(); n > 0 {
			t.Fatalf("a backend was reached by %q", data)
		}
	})
}

// portions writes data cut up as how says.
func portions(w io.Writer, data, how []byte) {
	for _, n := range how {
		if n == 0 || int(n) >= len(data) {
			break
		}
		if _, err := w.Write(data[:n]); err != nil {
			return
		}
		data = data[n:]
	}
	_, _ = w.Write(data)
}

// onlyResponses fails unless every line is a response, as a client before login
// may be sent them.
func onlyResponses(t *testing.T, answer []byte) {
	t.Helper()
	if !bytes.HasPrefix(answer, []byte("* OK [CAPABILITY ")) || !bytes.HasSuffix(answer, []byte("\r\n")) {
		t.Fatalf("%q", answer)
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(answer, []byte("\r\n")), []byte("\r\n")) {
		word, rest, _ := strings.Cut(string(line), " ")
		status, _, _ := strings.Cut(rest, " ")
		switch {
		case word == "+":
		case word == "*" && (status == "OK" || status == "BAD" || status == "BYE" || status == "CAPABILITY" || status == "ID"):
		case word != "*" && (status == "OK" || status == "NO" || status == "BAD"):
		default:
			t.Fatalf("a line that is no response: %q", line)
		}
	}
}

// FuzzRelay: what each side says reaches the other as it was, unless a rewrite
// is named: commands that are taken over, capability lists, and the tail of a
// response that never came to be one.
func FuzzRelay(f *testing.F) {
	for _, s := range [][2]string{
		{"a1 NOOP\r\n", "a1 OK\r\n"},
		{"a1 APPEND x {6+}\r\na9 NO {\r\na2 NOOP\r\n", "+ go\r\na1 OK\r\na2 OK done\r\n"},
		{"a1 APPEND x {0+}\r\n\r\n", "a1 NO [TRYCREATE] x\r\n"},
		{"a1 FETCH 1 BODY[]\r\n", "* 1 FETCH (BODY[] {10}\r\n0123456789)\r\na1 OK {3}\r\n"},
		{"a1 LOGOUT\r\n", "* BYE\r\na1 OK\r\n"},
		{"a1 \x00\xff\n\n", "\r\n\n* \n+\n"},
		{strings.Repeat("x ", 200), "* 1 FETCH (BODY[] {100}\r\nhalf"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte{1, 2, 3}, []byte{4, 1})
	}
	var mu sync.Mutex
	var say, how []byte // the backend's part in the run that goes on
	heard := make(chan []byte, 1)
	l := newLab(f, labOptions{quiet: true, handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		if err := letIn(c); err != nil {
			return err
		}
		mu.Lock()
		say, how := say, how
		mu.Unlock()
		said := make(chan struct{})
		go func() { // ends with what is to be said, or with the connection
			defer close(said)
			portions(c.Conn, say, how)
		}()
		b, _ := io.ReadAll(c)
		<-said
		heard <- b
		return nil
	}}})
	f.Fuzz(func(t *testing.T, up, down, howUp, howDown []byte) {
		if rewritten(up, down) {
			return
		}
		mu.Lock()
		say, how = down, howDown
		mu.Unlock()
		c, err := net.Dial("tcp", l.addr(plain))
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(fuzzLimit)))
		_, err = fmt.Fprintf(c, "login LOGIN alice %s\r\n", password)
		must(t, err)
		var greeted bytes.Buffer
		for !bytes.Contains(greeted.Bytes(), []byte("] Logged in\r\n")) {
			var b [1]byte
			_, err := io.ReadFull(c, b[:])
			must(t, err)
			greeted.Write(b[:])
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			portions(c, up, howUp)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		_ = c.Close()
		<-sent
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the session doesn't end; so far %q", got)
		}
		if h := <-heard; !bytes.Equal(h, up) {
			t.Fatalf("the backend has heard %q, the client said %q", h, up)
		}
		if missing := down[min(len(got), len(down)):]; !bytes.HasPrefix(down, got) || bytes.ContainsRune(missing, '\n') || len(missing) >= 192 {
			t.Fatalf("the client has heard %q, the backend said %q", got, down)
		}
	})
}

var synchronising = regexp.MustCompile(`\{[0-9]+\}\r?\n`)

// rewritten says whether the bytes may hold what the proxy takes over, or what
// ends a session.
func rewritten(up, down []byte) bool {
	for _, word := range []string{"LOGIN", "AUTHENTICATE", "STARTTLS", "COMPRESS", "UNAUTHENTICATE"} {
		if bytes.Contains(bytes.ToUpper(up), []byte(word)) {
			return true
		}
	}
	if synchronising.Match(up) {
		return true // what follows waits for the backend's word, which needn't come here
	}
	if bytes.Contains(bytes.ReplaceAll(bytes.ToUpper(up), []byte(" IDLE\r\nDONE\r\n"), nil), []byte("IDLE")) {
		return true // so does what follows IDLE, but for DONE
	}
	for line := range bytes.Lines(up) {
		// Without a tag it is answered by the proxy.
		if tag, rest, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" ")); !wire.IsEmpty(line) && (!wire.ValidTag(tag) || len(rest) == 0 || rest[0] == ' ') {
			return true
		}
	}
	for word := range bytes.FieldsFuncSeq(up, func(r rune) bool { return r == ' ' }) {
		if len(word) > longestTag {
			return true
		}
	}
	return bytes.Contains(bytes.ToUpper(down), []byte("CAPABILITY")) || bytes.Count(up, []byte("\n")) >= mostInFlight || len(down) > 64<<10 || len(up) > 64<<10
}
