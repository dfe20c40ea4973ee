package shared

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"imapproxy/proxy/wire"
)

// FuzzNames: what stands between the names of a command is as the client sent it, and the names that replace others are
// read back as they were written.
func FuzzNames(f *testing.F) {
	for _, cmd := range []string{"a SELECT shared/alice/x (CONDSTORE)\r\n", "a RENAME {3}\r\na b {1+}\r\nc\r\n", "a UID COPY 1:* \"a\\\"b\"\r\n", "a GETMETADATA (DEPTH 1) x /y\r\n", "a APPEND x {3}\r\n"} {
		f.Add([]byte(cmd), "team")
	}
	f.Fuzz(func(t *testing.T, cmd []byte, to string) {
		all, err := Names(cmd)
		if err != nil {
			return
		}
		if len(all) > 0 && !bytes.HasSuffix(cmd, []byte("\n")) {
			return // the line isn't whole
		}
		out := slices.Clone(cmd)
		for _, n := range slices.Backward(all) {
			if n.From > n.To || n.To > len(cmd) {
				t.Fatalf("%q: [%d, %d)", cmd, n.From, n.To)
			}
			out = Replace(out, n, to)
		}
		if !CanSend(to) {
			return
		}
		again, err := Names(out)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%q is written as %q: %v", cmd, out, err)
		}
		for _, n := range again {
			if n.Value != to {
				t.Fatalf("%q is read as %q", to, n.Value)
			}
		}
	})
}

// FuzzResponse: an owner's response has one line end at least and no name of the owner's without the prefix.
func FuzzResponse(f *testing.F) {
	for _, r := range []string{"* LIST (\\HasNoChildren) \"/\" team\r\n", "* LIST () NIL {4}\r\nteam\r\n", "* STATUS team (MESSAGES 3)\r\n", "* ACL \"team\" bob lr\r\n", "* 3 FETCH (FLAGS ())\r\n"} {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := space.Response(b, "alice")
		h := wire.ParseResponseHead(b)
		if out == nil || h.Kind != wire.Untagged || h.Status != wire.NoStatus || !wire.Is(h.Name, "LIST") {
			return
		}
		rest := wire.ParseResponseHead(out).Rest
		e, err := ListEntry(rest)
		if err != nil || !strings.HasPrefix(e.Name, "shared/alice/") && e.Name != "shared/alice" {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
	})
}

// FuzzMatches compares with a matcher that follows the definition.
func FuzzMatches(f *testing.F) {
	f.Add("shared/%/t*m", "shared/alice/team")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 20 {
			return
		}
		if got, want := Matches(pattern, name, '/'), slow(pattern, name); got != want {
			t.Fatalf("%q, %q: %t", pattern, name, got)
		}
	})
}

func slow(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch c := pattern[0]; c {
	case '*', '%':
		for i := 0; i <= len(name); i++ {
			if slow(pattern[1:], name[i:]) {
				return true
			}
			if i < len(name) && c == '%' && name[i] == '/' {
				return false
			}
		}
		return false
	default:
		return name != "" && name[0] == c && slow(pattern[1:], name[1:])
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("a LIST (SUBSCRIBED) \"\" (% shared/*) RETURN (STATUS (MESSAGES))\r\n"))
	f.Fuzz(func(t *testing.T, cmd []byte) {
		if l, err := ParseList(cmd); err == nil && len(l.Patterns) == 0 {
			t.Fatalf("%q has no pattern", cmd)
		}
	})
}
