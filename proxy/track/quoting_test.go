package track

import (
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

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
		var q Quoting
		q.Text([]byte(line[:7])) // however it is cut up
		q.Text([]byte(line[7:]))
		if got := Disputed(h.Verb.Rule(), q, []byte(line)); got != want {
			t.Errorf("%q: disputed %t", line, got)
		}
	}
}

// A backend that answers what the proxy took for a literal's content has a state that the
// proxy doesn't know.
func TestAnAnswerThatWasntAskedForKeepsAConnectionFromOthers(t *testing.T) {
	var f InFlight
	f.Init(true, false)
	f.Texts = &Texts{}
	f.Begin(wire.ParseCommandHead([]byte("a CREATE x\r\n")), true, time.Time{})
	if _, why := f.CanPark(); why != BlockerCommand {
		t.Fatal(why)
	}
	if _, ok := f.Answered(wire.ParseResponseHead([]byte("s OK SELECT completed\r\n"))); ok {
		t.Fatal("an answer to what nobody asked")
	}
	if _, ok := f.Answered(wire.ParseResponseHead([]byte("a OK CREATE completed\r\n"))); !ok {
		t.Fatal("an answer isn't known")
	}
	if how, why := f.CanPark(); how != ModeNone || why != BlockerDisputed {
		t.Fatal(how, why)
	}
}
