package postfix

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// lookup is the table of these tests.
func lookup(_ context.Context, key string) (string, error) {
	switch key {
	case "alice@example.org", "a b%@example.org":
		return "lmtp:inet:[127.0.0.1]:24", nil
	case "odd@example.org":
		return "a b%c", nil
	case "later@example.org":
		return "", errors.New("no backend is up")
	}
	return "", ErrNotFound
}

// started is a server, and a way to talk to it.
func started(t *testing.T) (say func(string) (answers string)) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	serving := task.Start(New(Options{Listener: l, Lookup: lookup}).Serve)
	t.Cleanup(func() {
		if err := serving.Stop(); err != nil {
			t.Error(err)
		}
	})
	return func(text string) string {
		t.Helper()
		c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		// A server that refuses a request closes the connection with the rest of it unread:
		// then this write, or the read, may see a reset.
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		return string(b)
	}
}

func TestTheProtocols(t *testing.T) {
	say := started(t)
	for name, c := range map[string]struct{ say, want string }{
		"tcp_table":                {"get alice@example.org\n", "200 lmtp:inet:[127.0.0.1]:24\n"},
		"several":                  {"get alice@example.org\nget x@example.org\n", "200 lmtp:inet:[127.0.0.1]:24\n500 not%20found\n"},
		"escapes":                  {"get a%20b%25@example.org\n", "200 lmtp:inet:[127.0.0.1]:24\n"},
		"escapes in the answer":    {"get odd@example.org\n", "200 a%20b%25c\n"},
		"wrong escapes":            {"get a%2@example.org\n", "500 refused:%20the%20key's%20escapes%20can't%20be%20read\n"},
		"temporary":                {"get later@example.org\n", "400 no%20backend%20is%20up\n"},
		"put":                      {"put alice@example.org x\n", "500 refused:%20this%20table%20can't%20be%20changed\n"},
		"another protocol":         {"GET / HTTP/1.0\r\n\r\n", ""},
		"a line without an end":    {"get alice@example.org", ""},
		"a line that is too long":  {"get " + strings.Repeat("a", 1<<20) + "\n", ""},
		"socketmap":                {"27:transport alice@example.org,", "27:OK lmtp:inet:[127.0.0.1]:24,"},
		"several netstrings":       {"27:transport alice@example.org,23:transport x@example.org,", "27:OK lmtp:inet:[127.0.0.1]:24,9:NOTFOUND ,"},
		"temporary, socketmap":     {"27:transport later@example.org,", "21:TEMP no backend is up,"},
		"another map":              {"15:virtual a@b.org,", "41:PERM refused: ask for the map \"transport\","},
		"a netstring without end":  {"27:transport alice@example.org;", ""},
		"a netstring that is long": {"99999999999:", ""},
		"no length":                {":transport a,", ""},
	} {
		if got := say(c.say); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A connection that says nothing, or half a request, ends with the server.
func TestTheServersEndEndsItsConnections(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	serving := task.Start(New(Options{Listener: l, Lookup: lookup}).Serve)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "get x\nget "); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := serving.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection lives on: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"get a\n", "27:transport alice@example.org,", "put x y\n", "9:,", "0:,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := bufio.NewReaderSize(strings.NewReader(s), maxRequest+16)
		for {
			p, key, err := read(r)
			if len(key) > maxRequest {
				t.Fatalf("a key of %d bytes", len(key))
			}
			if err != nil && !errors.Is(err, errRefused) {
				return
			}
			if a := p.answer(outcome{text: key}); len(a) == 0 || p == tcpTable && strings.Count(string(a), "\n") != 1 {
				t.Fatalf("%q", a)
			}
		}
	})
}
