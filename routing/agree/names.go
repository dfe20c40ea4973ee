package agree

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// validName checks a user's name or an id.
func validName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("%q is neither a name nor an id", clip(name))
	}
	return nil
}

// goodName reports whether a record can carry the user's name unchanged.
func goodName(user string) bool {
	if user == "" || len(user) > maxName {
		return false
	}
	for i := range len(user) {
		if c := user[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(user)
}

// clean returns text in a form that a record can carry.
func clean(text string) string {
	text = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text), "?")
	if len(text) > maxBy {
		text = strings.ToValidUTF8(text[:maxBy], "")
	}
	return text
}
