package session

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"imapproxy/proxy/track"
)

// Filter chooses sessions.
type Filter struct {
	User    string // canonical name; "" is all
	Backend string // id or name of the backend; "" is all
	After   string // id of the last session of the previous page
	Limit   int    // at most; 0 or more than MaxPage is MaxPage
}

// MaxPage is how many sessions one page has at most.
const MaxPage = 1000

// Info is a session as the admin API shows it.
type Info struct {
	ID           string
	User         string // "" before login
	Backend      string // "" before login
	Why          string // the rule that chose the backend
	Client       netip.AddrPort
	Listener     string
	TLS          bool
	Compressed   bool
	State        string // the IMAP state: "not authenticated", "authenticated", "selected", "logout"
	Attachment   string
	NotParked    string // what keeps it from being parked; "" if nothing does, or if it isn't attached
	Idle         bool   // in IDLE
	InFlight     int    // commands that wait for their answers
	Started      time.Time
	LastActivity time.Time
	BytesIn      int64
	BytesOut     int64
	Commands     int64
}

// Page returns the chosen sessions ordered by id, and the After of the next page, "" if this is the last one.
// ids are the ids of the backends that f.Backend means.
func (r *Registry) Page(f Filter, ids []string) ([]Info, string) {
	limit := f.Limit
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	var found []*Session
	r.Each(func(s *Session) {
		user, backend := "", ""
		if s.loggedIn.Load() {
			user, backend = s.user, s.picked().Backend.ID
		}
		if s.id > f.After && (f.User == "" || f.User == user) && (f.Backend == "" || slices.Contains(ids, backend)) {
			found = append(found, s)
		}
	})
	slices.SortFunc(found, func(a, b *Session) int { return strings.Compare(a.id, b.id) })
	next := ""
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].id
	}
	out := make([]Info, len(found))
	for i, s := range found {
		out[i] = s.Info()
	}
	return out, next
}

// Info returns the session as the admin API shows it.
func (s *Session) Info() Info {
	i := Info{
		ID: s.id, Client: s.peer, Listener: s.lis.Name, TLS: s.secure.Load(),
		State: "not authenticated", Attachment: Attachment(s.attachment.Load()).String(),
		Started: s.started, LastActivity: time.Unix(0, s.lastSeen.Load()),
		BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(), Commands: s.commands.Load(),
	}
	if i.Attachment == Attached.String() {
		i.NotParked = track.Blocker(s.park.blocker.Load()).String()
	}
	if s.loggedIn.Load() {
		i.Client = s.addr
		i.User, i.Backend, i.Why = s.user, s.picked().Current().Shown(), string(s.picked().Why)
		i.State, i.Idle = s.inFlight.State()
		i.InFlight, i.Compressed = s.inFlight.Waiting(), s.out.compresses()
	}
	return i
}
