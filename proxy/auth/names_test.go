package auth

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestNormalize(t *testing.T) {
	plain := Names{}
	folded := Names{Lowercase: true}
	domain := Names{Lowercase: true, DefaultDomain: "Example.ORG"}
	for _, c := range []struct {
		names    Names
		in, want string // want "" = refused
	}{
		{plain, "alice", "alice"},
		{plain, "Alice@Example.ORG", "Alice@Example.ORG"},
		{folded, "Alice@Example.ORG", "alice@example.org"},
		{folded, "ÉMILE", "émile"},
		{plain, "e\u0301mile", "émile"},
		{folded, "E\u0301MILE", "émile"},
		{folded, "\u212bngström", "ångström"}, // the Ångström sign folds to a letter
		{domain, "Alice", "alice@example.org"},
		{domain, "alice@other.net", "alice@other.net"},
		{Names{DefaultDomain: "Example.ORG"}, "Alice", "Alice@Example.ORG"},

		// No special meaning.
		{plain, "alice*proxy", "alice*proxy"},
		{domain, "alice*Proxy", "alice*proxy@example.org"},
		{plain, `DOM\alice+tag/../%u$x"'{}`, `DOM\alice+tag/../%u$x"'{}`},
		{plain, "a@b@c", "a@b@c"},
		{plain, "用户@例え.jp", "用户@例え.jp"},

		{plain, "", ""},
		{domain, "", ""},
		{plain, "@", ""},
		{plain, "@example.org", ""},
		{plain, "alice@", ""},
		{domain, "alice@", ""},
		{plain, " alice", ""},
		{plain, "alice ", ""},
		{plain, "al ice", ""},
		{plain, "al\u00a0ice", ""},
		{plain, "al\u3000ice", ""},
		{plain, "alice\x00", ""},
		{plain, "\x00", ""},
		{plain, "al\tice", ""},
		{plain, "alice\r\nA2 LOGOUT", ""},
		{plain, "al\x7fice", ""},
		{plain, "al\u0085ice", ""},
		{plain, "al\u009bice", ""},
		{plain, "al\u2028ice", ""},
		{plain, "al\u200bice", ""},
		{plain, "al\u202eice", ""},
		{plain, "\ufeffalice", ""},
		{plain, "al\ufffdice", ""},
		{plain, "al\xffice", ""},
		{plain, "al\xc0\x80ice", ""},     // overlong NUL
		{plain, "al\xed\xa0\x80ice", ""}, // a surrogate
		{plain, "\ue000", ""},            // private use
		{plain, strings.Repeat("x", 255), strings.Repeat("x", 255)},
		{plain, strings.Repeat("x", 256), ""},
		{plain, strings.Repeat("é", 128), ""},
		{domain, strings.Repeat("x", 255-len("@example.org")), strings.Repeat("x", 255-len("@example.org")) + "@example.org"},
		{domain, strings.Repeat("x", 255-len("example.org")), ""},
		{Names{DefaultDomain: "bad domain"}, "alice", ""},
	} {
		got, err := c.names.Normalize(c.in)
		switch {
		case c.want == "" && (err == nil || got != ""):
			t.Errorf("%+v %q: got %q, want a refusal", c.names, c.in, got)
		case c.want == "" && !errors.Is(err, ErrName):
			t.Errorf("%q: %v isn't ErrName", c.in, err)
		case c.want != "" && (err != nil || got != c.want):
			t.Errorf("%+v %q: got %q, %v, want %q", c.names, c.in, got, err, c.want)
		}
		if err != nil && len(c.in) > 2 && strings.Contains(err.Error(), c.in) {
			t.Errorf("the error quotes the name: %v", err)
		}
	}
}

func TestNamesValidate(t *testing.T) {
	for domain, ok := range map[string]bool{"": true, "example.org": true, "例え.jp": true,
		"@example.org": false, "a@b": false, "exa mple": false, "x\x00": false, strings.Repeat("d", 254): false} {
		if err := (Names{DefaultDomain: domain}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

// Every character there is, alone and before a combining accent: what is
// normalised once must be the same normalised again, or one user is two.
func TestNormalizeIsIdempotentForEveryCharacter(t *testing.T) {
	for _, names := range []Names{{}, {Lowercase: true}} {
		for r := rune(0); r <= unicode.MaxRune; r++ {
			// Of the planes above the second only these have letters that change.
			if !utf8.ValidRune(r) || r > 0x1ffff && (r < 0x2f800 || r > 0x2fa1f) && r&0xfff != 0 {
				continue
			}
			checkNormal(t, names, "x"+string(r))
			if unicode.ToLower(r) == r && norm.NFD.IsNormalString(string(r)) && r > unicode.MaxLatin1 {
				continue // neither case nor parts: nothing to come out differently
			}
			for _, tail := range []string{"\u0301", "\u0307", "\u0345"} {
				checkNormal(t, names, "x"+string(r)+tail)
			}
		}
	}
}

// checkNormal checks what is true of every name that is accepted.
func checkNormal(t *testing.T, names Names, in string) {
	t.Helper()
	once, err := names.Normalize(in)
	if err != nil {
		if once != "" || !errors.Is(err, ErrName) {
			t.Errorf("%q: %q, %v", in, once, err)
		}
		return
	}
	twice, err := names.Normalize(once)
	if err != nil || twice != once {
		t.Errorf("%+v %+q: %+q, then %+q, %v", names, in, once, twice, err)
	}
	if once == "" || len(once) > MaxName || !utf8.ValidString(once) || strings.ContainsAny(once, "\x00\r\n\t \x7f\x1b") {
		t.Errorf("%+q accepted as %+q", in, once)
	}
	for _, r := range once {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) {
			t.Errorf("%+q accepted as %+q", in, once)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, name := range hostileNames() {
		f.Add(name, "example.org", true)
		f.Add(name, "", false)
	}
	f.Add("\u0130stanbul", "\u212a.ORG", true)
	f.Fuzz(func(t *testing.T, in, domain string, lower bool) {
		names := Names{DefaultDomain: domain, Lowercase: lower}
		if names.Validate() != nil {
			return
		}
		checkNormal(t, names, in)
	})
}
