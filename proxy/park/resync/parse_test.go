package resync

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

func TestParseFetch(t *testing.T) {
	for in, want := range map[string]fetched{
		`(UID 5)`:                            {uid: 5},
		`(uid 5 flags (\Seen a) modseq (7))`: {uid: 5, flags: `\Seen a`, hasFlags: true, modSeq: 7},
		`(FLAGS ())`:                         {hasFlags: true},
		`(BODY[HEADER.FIELDS ("A)" B)]<0> "x\")" UID 5)`:            {uid: 5, others: true},
		`(ENVELOPE ("a" NIL (("b" NIL "c" "d")) ")(") UID 5)`:       {uid: 5, others: true},
		"(BODY[1] {7}\r\n) UID 9 UID 5)":                            {uid: 5, others: true},
		"(BINARY[1] ~{7+}\r\n) UID 9 UID 5)":                        {uid: 5, others: true},
		"(ENVELOPE ({3}\r\n)))) UID 5)":                             {uid: 5, others: true},
		`(INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 3)`: {others: true},
	} {
		got, err := parseFetch([]byte(in))
		if want.hasFlags {
			want.flags, _ = view.ParseFlags([]byte(want.flags))
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "(", ")", "()x", "UID 5", "(UID)", "(UID )", "(UID 5", "(UID 5))", "(UID 0)", "(UID -1)", "(UID 4294967296)", "(UID x)",
		"(FLAGS \\Seen)x", "(FLAGS (a)", "(MODSEQ (x))", "(X \"a)", "(X {9}\r\nabc)", "(X {9}abc)", "( )(", "(X[ UID 5)", "(X a\r\nb)",
	} {
		if got, err := parseFetch([]byte(in)); err == nil {
			t.Errorf("%q is taken for %+v", in, got)
		}
	}
}

func TestParseESearch(t *testing.T) {
	for _, in := range []string{
		"", "UID", `(TAG "a") UID ALL 1`, `(TAG "a") ALL 1 COUNT 1`, `(TAG "a"`, `(TAG a b) UID COUNT 1`, "UID ALL 1:* COUNT 1",
		"UID COUNT x", "UID COUNT 4294967296", "UID ALL 0 COUNT 1", "(X \"a\") UID COUNT 0", "UID COUNT",
	} {
		if f, err := parseESearch([]byte(in)); err == nil {
			t.Errorf("%q is taken for %+v", in, f)
		}
	}
	f, err := parseESearch([]byte(`(tag "a\"b") MIN 1 uid all 1:3 Count 3 MODSEQ 9 X (1 2)`))
	if err != nil || f.tag != `a"b` || f.count != 3 || f.uids.String() != "1:3" {
		t.Errorf("%+v, %v", f, err)
	}
	for in, want := range map[string]string{"": "", "3 1 2": "1:3", "3 (MODSEQ 9)": "3", " 3 ": "3", "2 2": "2"} {
		if u, err := parseSearch([]byte(in)); err != nil || u.String() != want {
			t.Errorf("SEARCH %q: %s, %v", in, u, err)
		}
	}
	for _, in := range []string{"0", "x", "1,2", "-1", "4294967296"} {
		if u, err := parseSearch([]byte(in)); err == nil {
			t.Errorf("SEARCH %q is taken for %s", in, u)
		}
	}
}

// FuzzUntagged gives anything to what reads a backend's untagged responses: they
// may refuse it, and not fall over; what a FETCH is read as is what a FETCH made of that
// is read as.
func FuzzUntagged(f *testing.F) {
	for _, s := range []string{
		`* ESEARCH (TAG "a") UID ALL 1:3,5 COUNT 4`, "* SEARCH 1 2 3", "* VANISHED (EARLIER) 1:3", "* VANISHED 4",
		`* 3 FETCH (UID 5 FLAGS (\Seen $Kw1) MODSEQ (17))`, "* 3 FETCH (BODY[1] {2}\r\n)) UID 7)", "* 3 EXISTS", "* 3 EXPUNGE",
		"* OK [HIGHESTMODSEQ 5] x", "* OK [UIDNEXT 5", `* FLAGS (\Seen \*)`, "* OK [PERMANENTFLAGS (a b)]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		u := imapclient.Untagged{ResponseHead: wire.ParseResponseHead(line)}
		k := Client{messages: 3}
		_ = k.follow(u)
		var s Selected
		_, _ = s.onUntagged(u)
		q, c := qresync{next: 3, uids: view.UIDRange(1, 5)}, comparison{limit: 8}
		c.resize(3)
		q.onUntagged(u)
		c.onUntagged(u)
		if len(c.rows) > 8 {
			t.Fatalf("%d rows", len(c.rows))
		}
		_, _ = parseESearch(u.Rest)
		_, _ = parseSearch(u.Rest)
		got, err := parseFetch(u.Rest)
		if err != nil || got.others {
			return
		}
		var again bytes.Buffer
		if got.uid != 0 {
			fmt.Fprintf(&again, "UID %d ", got.uid)
		}
		if got.hasFlags {
			fmt.Fprintf(&again, "FLAGS %s ", got.flags.AppendTo(nil))
		}
		if got.modSeq != 0 {
			fmt.Fprintf(&again, "MODSEQ (%d) ", got.modSeq)
		}
		back, err := parseFetch([]byte("(" + strings.TrimSpace(again.String()) + ")"))
		if err != nil || back != got {
			t.Fatalf("%q: %+v, again %+v, %v", line, got, back, err)
		}
	})
}
