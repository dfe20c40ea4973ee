package app

import (
	"cmp"
	"slices"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/telemetry"
)

// topMost is how many users and commands Latest returns.
const topMost = 50

// Latest implements admin.Past.
func (p past) Latest(since time.Time) admin.Latest {
	type known struct{ session, user, backend string }
	sessions := map[uint64]known{}
	for _, l := range p.tel.Ended() {
		sessions[p.tel.SessionKey(l.Get("session"))] = known{l.Get("session"), l.Get("user"), l.Get("backend")}
	}
	p.server.EachSeen(since, func(session, user, backend string) {
		sessions[p.tel.SessionKey(session)] = known{session, user, backend}
	})

	var out admin.Latest
	users, sent := map[string]*admin.TopUser{}, map[uint64]bool{}
	from := p.tel.LatestCommands(since, func(key uint64, c telemetry.SessionCommand) {
		if c.Verb == "IDLE" { // it lasts as long as the client wants
			return
		}
		out.Commands++
		s := sessions[key]
		u := users[s.user]
		if u == nil {
			u = &admin.TopUser{User: s.user, Backend: s.backend}
			users[s.user] = u
		}
		if !sent[key] {
			sent[key] = true
			u.Sessions++
		}
		u.Commands++
		u.Took += c.Took.Seconds()
		u.Waited += c.BackendWait.Seconds()
		u.Slowest = max(u.Slowest, c.Took.Seconds())
		out.Slowest = append(out.Slowest, telemetry.SlowCommand{Session: s.session, User: s.user, Backend: s.backend, SessionCommand: c})
	})
	out.For = p.now().Sub(from)
	for _, u := range users {
		out.Users = append(out.Users, *u)
	}
	slices.SortFunc(out.Users, func(a, b admin.TopUser) int {
		return cmp.Or(cmp.Compare(b.Commands, a.Commands), cmp.Compare(b.Took, a.Took), cmp.Compare(a.User, b.User))
	})
	slices.SortStableFunc(out.Slowest, func(a, b telemetry.SlowCommand) int { return cmp.Compare(b.Took, a.Took) })
	out.Users, out.Slowest = out.Users[:min(len(out.Users), topMost)], out.Slowest[:min(len(out.Slowest), topMost)]
	return out
}
