package proxy

import (
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

func TestALiteralBehindACommandWithoutArgumentsIsRefused(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.login("alice")
	must(t, c.Conn.SendRaw("a NOOP {16+}\r\ns SELECT INBOX\r\n\r\nb CHECK x {3+}\r\nabc\r\nc CAPABILITY {3}\r\nd NOOP\r\n"))
	c.Expect("a BAD NOOP takes no arguments")
	c.Expect("b BAD CHECK takes no arguments")
	c.Expect("c BAD CAPABILITY takes no arguments")
	c.Expect("d OK {*}")
	for _, cmd := range l.backends[0].Commands() {
		if cmd.Name == "SELECT" || cmd.Name == "CHECK" {
			t.Errorf("the backend was told %s", cmd)
		}
	}
}

func TestDisputedLiterals(t *testing.T) {
	for line, want := range map[string]bool{
		"a APPEND INBOX (\\Seen) {3}\r\n":     false,
		"a APPEND INBOX ~{3+}\r\n":            false,
		"a SEARCH CHARSET UTF-8 TEXT {3}\r\n": false,
		"a STATUS \"x\\\"y\" {3}\r\n":         false,
		"a LIST (\"a\" {3+}\r\n":              false,
		"a LIST ({3+}\r\n":                    false,
		"a STATUS \"x {3+}\r\n":               true,
		"a STATUS \"x\\\" {3+}\r\n":           true,
		"a LIST x{3+}\r\n":                    true,
		"a FETCH 1 {3+}\r\n":                  true,
		"a ID {3+}\r\n":                       true,
		"a XYZZY {3+}\r\n":                    true,
	} {
		h := wire.ParseCommandHead([]byte(line))
		var q quoting
		q.text([]byte(line[:7])) // however it is cut up
		q.text([]byte(line[7:]))
		if got := disputed(h.Verb.Rule(), q, []byte(line)); got != want {
			t.Errorf("%q: disputed %t", line, got)
		}
	}
}

// A backend that answers what the proxy took for a literal's content has a state that the
// proxy doesn't know.
func TestAnAnswerThatWasntAskedForKeepsAConnectionFromOthers(t *testing.T) {
	f := flight{parks: true}
	f.init()
	f.begin(wire.ParseCommandHead([]byte("a CREATE x\r\n")), true, time.Time{})
	if _, why := f.canPark(); why != keptCommand {
		t.Fatal(why)
	}
	if _, ok := f.answered(wire.ParseResponseHead([]byte("s OK SELECT completed\r\n"))); ok {
		t.Fatal("an answer to what nobody asked")
	}
	if _, ok := f.answered(wire.ParseResponseHead([]byte("a OK CREATE completed\r\n"))); !ok {
		t.Fatal("an answer isn't known")
	}
	if how, why := f.canPark(); how != wayNone || why != keptDisputed {
		t.Fatal(how, why)
	}
}
