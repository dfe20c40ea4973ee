package guessing

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// alike is the same for names that many databases and directories don't tell apart: those that differ in case, accents or width, as álice
// and ALICE. Otherwise a guesser would have as many free guesses at a user as there are ways to write the name.
func alike(user string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(user))
}
