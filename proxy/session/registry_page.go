package session

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/track"
)

// Filter chooses sessions.
type Filter struct {
	ID      string // of one session; "" is all
	User    string // canonical name; "" is all
	Backend string // id or name of the backend; "" is all
	// Client is the network of the client's address; the zero value is all.
	Client     netip.Prefix
	Attachment string    // "" is all
	NotParked  string    // what keeps it from being parked; "" is all
	Active     time.Time // those that have read or written since then; the zero value is all
	After      string    // id of the last session of the previous page
	Limit      int       // at most; 0 or more than MaxPage is MaxPage
	// Sort is one of Orders, by which the first are returned; there is no next page then. "": by id.
	Sort string
}

// Orders returns the values of Filter.Sort: the oldest, the quietest, those with the most commands or bytes come first.
func Orders() []string { return []string{"age", "quiet", "commands", "bytes_in", "bytes_out"} }

// order returns what a session is sorted by, the least first.
func (s *Session) order(by string) int64 {
	switch by {
	case "age":
		return clock.Of(s.started)
	case "quiet":
		return s.lastSeen.Load()
	case "commands":
		return -s.commands.Load()
	case "bytes_in":
		return -s.bytesIn.Load()
	case "bytes_out":
		return -s.bytesOut.Load()
	}
	return 0
}

// matches says whether the filter chooses a session, but for its id.
func (f *Filter) matches(s *Session, ids []string) bool {
	user, backend := "", ""
	if s.loggedIn.Load() {
		user, backend = s.user, s.picked().Backend.ID
	}
	attachment := Attachment(s.attachment.Load())
	return (f.ID == "" || f.ID == s.id) && (f.User == "" || f.User == user) && (f.Backend == "" || slices.Contains(ids, backend)) &&
		(!f.Client.IsValid() || f.Client.Contains(s.addr.Addr().Unmap().WithZone(""))) &&
		(f.Attachment == "" || f.Attachment == attachment.String()) &&
		(f.NotParked == "" || attachment == Attached && f.NotParked == track.Blocker(s.park.blocker.Load()).String()) &&
		(f.Active.IsZero() || s.lastSeen.Load() >= clock.Of(f.Active))
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
	TraceID      string // of its login, if that trace was kept
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
		if s.id > f.After && f.matches(s, ids) {
			found = append(found, s)
		}
	})
	next := ""
	if f.Sort != "" {
		found = first(found, f.Sort, limit)
	} else {
		slices.SortFunc(found, func(a, b *Session) int { return strings.Compare(a.id, b.id) })
	}
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

// first returns the first sessions in an order. What they are sorted by changes meanwhile, so it is read once.
func first(found []*Session, by string, limit int) []*Session {
	type at struct {
		s *Session
		n int64
	}
	all := make([]at, len(found))
	for i, s := range found {
		all[i] = at{s, s.order(by)}
	}
	slices.SortFunc(all, func(a, b at) int { return cmp.Or(cmp.Compare(a.n, b.n), strings.Compare(a.s.id, b.s.id)) })
	all = all[:min(len(all), limit)]
	for i, one := range all {
		found[i] = one.s
	}
	return found[:len(all)]
}

// Info returns the session as the admin API shows it.
func (s *Session) Info() Info {
	now := s.env.Now()
	i := Info{
		ID: s.id, Client: s.peer, Listener: s.lis.Name, TLS: s.secure.Load(),
		State: "not authenticated", Attachment: Attachment(s.attachment.Load()).String(),
		Started: s.started, LastActivity: now.Add(clock.At(s.lastSeen.Load()).Sub(now)), // by the wall clock of now
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
		if s.link != nil {
			i.TraceID = s.link.TraceID().String()
		}
	}
	return i
}
