package admin

import (
	"strings"
	"unicode"
)

// actor returns the name that the caller gives itself, for the log. It isn't verified.
func actor(by string) string {
	by = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(by, "?"))
	if len(by) > maxActor {
		by = strings.ToValidUTF8(by[:maxActor], "")
	}
	return by
}

// maxActor bounds the name that a caller gives itself, in bytes.
const maxActor = 100
