package auth

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FailureMessage is the message of the failure line. Programs look for it.
const FailureMessage = "login failed"

// Failure has the fields of the failure line about one failed login.
type Failure struct {
	// Client is the client's own address (behind a trusted PROXY header, the
	// header's), with its port.
	Client netip.AddrPort
	// User is the canonical name, or what the client sent if it has none. Any
	// bytes are safe.
	User string
	// Mechanism is one of the Mechanism constants; anything else is logged as
	// "other".
	Mechanism string
	// Reason is the reason of the failure.
	Reason Reason
}

// LogFailure writes the failure line: one record for each failed login, at level WARN, with the message
// FailureMessage and the attributes client, port, mechanism, reason and user, in this order and last of all.
// Attributes that log already has (session, trace) precede them. Its form is an interface:
// docs/authentication.md describes it and contrib/fail2ban reads it.
//
// A name can't forge a field or a line: the address comes before the name, unprintable characters are escaped
// here, and slog quotes the rest.
func LogFailure(ctx context.Context, log *slog.Logger, f Failure) {
	if !f.Reason.known() {
		f.Reason = ReasonUnavailable
	}
	if f.Mechanism != MechanismCommand && !slices.Contains(Mechanisms(), f.Mechanism) {
		f.Mechanism = "other"
	}
	client := "unknown"
	if a := f.Client.Addr(); a.IsValid() {
		// A v4 client on a v6 socket is one client, and a ban has no use for a zone.
		client = a.Unmap().WithZone("").String()
	}
	log.LogAttrs(ctx, slog.LevelWarn, FailureMessage,
		slog.String("client", client),
		slog.Int("port", int(f.Client.Port())),
		slog.String("mechanism", f.Mechanism),
		slog.String("reason", string(f.Reason)),
		slog.String("user", printable(f.User)),
	)
}

// printable returns s in at most MaxName bytes (and "…" for the rest). Unprintable characters are escaped as
// in Go, and backslashes doubled, so that an escape can't be imitated. slog's JSON doesn't escape DEL and the
// C1 controls, which terminals execute.
func printable(s string) string {
	if isPrintable(s) && len(s) <= MaxName {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case r == '\\':
			piece = `\\`
		case !unicode.IsPrint(r) && r < utf8.RuneSelf:
			piece = fmt.Sprintf(`\x%02x`, r)
		case !unicode.IsPrint(r):
			piece = fmt.Sprintf(`\u{%x}`, r)
		}
		if b.Len()+len(piece) > MaxName {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

// isPrintable says whether printable has nothing to escape.
func isPrintable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == '\\' || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
