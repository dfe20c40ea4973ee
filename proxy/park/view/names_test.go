package view

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestMailboxNames(t *testing.T) {
	for wire, want := range map[string]string{
		"inbox":                           "INBOX",
		"InBoX":                           "INBOX",
		"Inbox/Kid":                       "Inbox/Kid",
		"Sent Items":                      "Sent Items",
		"A&-B":                            "A&B",
		"&-&-":                            "&&",
		"Entw&APw-rfe":                    "Entwürfe",
		"~peter/mail/&U,BTFw-/&ZeVnLIqe-": "~peter/mail/台北/日本語", // RFC 3501 §5.1.3
		"&2D3eAA-":                        "😀",
		"&AAk-":                           "\t",
		"&AOk-&-":                         "é&",
	} {
		got, err := DecodeMailbox(wire, false)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", wire, got, err, want)
		}
		if back := EncodeMailbox(got, false); got != "INBOX" && back != wire {
			t.Errorf("%q: %s, want %s", got, back, wire)
		}
	}
	for what, wire := range map[string]string{
		"empty":                          "",
		"no end":                         "a&AOk",
		"lone &":                         "a&b",
		"printable in base64":            "&AGE-",
		"a space in base64":              "&ACA-",
		"& in base64":                    "&ACY-",
		"shift left and entered again":   "&U,BTFw-&ZeVnLIqe-",
		"eight bits":                     "Entw\xc3\xbcrfe",
		"a control character":            "a\tb",
		"half a character":               "&AA-",
		"three bytes":                    "&AOkA-",
		"a high surrogate alone":         "&2D0-",
		"a low surrogate alone":          "&3gA-",
		"surrogates the wrong way round": "&3gDYPQ-",
		"bits left over":                 "&AOl-",
		"padding":                        "&AOk=-",
		"/ in base64":                    "&U/BTFw-",
		"NUL in base64":                  "&AAA-",
		"newline in base64":              "&AAo-",
		"newline within base64":          "&AO\nk-",
		"too long":                       strings.Repeat("x", MaxMailboxName+1),
	} {
		if got, err := DecodeMailbox(wire, false); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
	if got, err := DecodeMailbox("Entwürfe &AOk-", true); err != nil || got != "Entwürfe &AOk-" {
		t.Errorf("under UTF8=ACCEPT: %q, %v", got, err)
	}
	for _, name := range []string{"", "\xff", "a\x00", "a\nb"} {
		if got, err := DecodeMailbox(name, true); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
	// U+212A and U+017F fold to letters, but IMAP folds ASCII only.
	if got, _ := CanonicalMailbox("ınbox"); got == "INBOX" {
		t.Error("a dotless i makes an INBOX")
	}
}

func TestMailboxNamesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		canonical, err := CanonicalMailbox(name)
		if err != nil {
			return
		}
		for _, utf8Names := range []bool{false, true} {
			wire := EncodeMailbox(canonical, utf8Names)
			back, err := DecodeMailbox(wire, utf8Names)
			if len(wire) <= MaxMailboxName && (err != nil || back != canonical) {
				t.Fatalf("%q is %q, and that %q, %v", canonical, wire, back, err)
			}
		}
	})
}

func FuzzDecodeMailbox(f *testing.F) {
	for _, s := range []string{"INBOX", "A&-B", "&U,BTFw-/&ZeVnLIqe-", "&2D3eAA-", "&AGE-", "&", "&-", "&AAA-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, wire string) {
		name, err := DecodeMailbox(wire, false)
		if err != nil {
			return
		}
		if !utf8.ValidString(name) || name == "" {
			t.Fatalf("%q is %q", wire, name)
		}
		if again := EncodeMailbox(name, false); again != wire && name != "INBOX" {
			t.Fatalf("%q is %q, and that %q: two names for one mailbox", wire, name, again)
		}
	})
}

func TestFlags(t *testing.T) {
	for in, want := range map[string]Flags{
		"()":                      "",
		"":                        "",
		`(\Seen)`:                 `\Seen`,
		`(\SEEN \answered)`:       `\Answered \Seen`,
		`(\Seen \Recent $Kw b A)`: `$Kw \Seen A b`,
		`\*`:                      `\*`,
		`(a A a)`:                 `A`,
		`(\XFancy Non]Junk)`:      `\XFancy Non]Junk`,
		`(\Seen \Seen)`:           `\Seen`,
	} {
		if got, err := ParseFlags([]byte(in)); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"(a  b)", "( a)", "(a )", `(a\b)`, `(\)`, "(a", "a)", "(a\r\n)", `("a")`, "(a(b))"} {
		if got, err := ParseFlags([]byte(in)); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
	a := Flags(`$Kw \Seen`)
	if !a.Equal(`$KW \Seen`) || a.Equal(`\Seen`) || !a.Has(`\seen`) || a.Has("Kw") || a.Lacks(`\Seen`) || !a.Lacks("b") || a.Lacks("") {
		t.Error("comparing flags")
	}
}

func FuzzParseFlags(f *testing.F) {
	f.Add([]byte(`(\Seen $Kw)`))
	f.Add([]byte(`\* a A`))
	f.Fuzz(func(t *testing.T, b []byte) {
		flags, err := ParseFlags(b)
		if err != nil {
			return
		}
		again, err := ParseFlags(flags.AppendTo(nil))
		if err != nil || again != flags {
			t.Fatalf("%q is %q, and that %q, %v", b, flags, again, err)
		}
	})
}
