package auth

import "context"

// Recheck asks the sources again about a logged-in user, as First does, unless Holds is true. It spends no
// time on unknown users: it isn't a login, and no client sees how long it takes. If none of the sources has the mechanism by which the
// user has logged in, as after a reload, the user isn't let in any more.
func Recheck(ctx context.Context, sources []Source, c Credentials, stamp any) Verdict {
	if Holds(sources, c.User, stamp) {
		return Accepted{Stamp: stamp}
	}
	asked := Asked(sources, c.Mechanism)
	if OfScram(c.Mechanism) && len(asked) > 0 {
		return recheckKeys(ctx, sources, c)
	}
	for _, s := range asked {
		switch v := ask(ctx, s, c).(type) {
		case Unknown:
		case nil:
			return Unavailable{errNoVerdict}
		default:
			return v
		}
	}
	return Rejected{Reason: c.notKnown()}
}
