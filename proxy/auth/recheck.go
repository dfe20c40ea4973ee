package auth

import "context"

// Recheck asks the sources again about a logged-in user, as First does, unless Holds is true. It spends no
// time on unknown users: it isn't a login, and no client sees how long it takes.
func Recheck(ctx context.Context, sources []Source, c Credentials, stamp any) Verdict {
	if Holds(sources, c.User, stamp) {
		return Accepted{Stamp: stamp}
	}
	if OfScram(c.Mechanism) {
		return recheckKeys(ctx, sources, c)
	}
	sources = Asked(sources, c.Mechanism)
	for _, s := range sources {
		switch v := ask(ctx, s, c).(type) {
		case Unknown:
		case nil:
			return Unavailable{errNoVerdict}
		default:
			return v
		}
	}
	if len(sources) == 0 {
		return Unavailable{errNoSource}
	}
	return Rejected{Reason: c.notKnown()}
}
