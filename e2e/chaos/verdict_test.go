package chaos

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A session is one login at a backend, up to its end, as the backend's log has it.
type session struct {
	backend, user string
	peer          string // the proxy's address, as the backend sees it
	id            string
	pid           int // of the process that serves it
	from, to      time.Time
	open          bool // not ended; to isn't set
}

func (s session) String() string {
	end := "open"
	if !s.open {
		end = s.to.Format(clock)
	}
	return fmt.Sprintf("%s at %s through %s <%s> %s to %s", s.user, s.backend, s.peer, s.id, s.from.Format(clock), end)
}

const (
	clock = "15:04:05.000000"
	// stamp is how the backends write times (log_timestamp), in this process's zone.
	stamp = "2006-01-02 15:04:05.000000"
)

// resolution is by how much the times in a backend's log may differ from those of what is logged: a login is logged once the
// process has the connection, an end before it is closed.
const resolution = 100 * time.Millisecond

// A backendLog reads the log of one backend, line by line.
type backendLog struct {
	backend  string
	sessions []*session
	open     map[string]*session // by id
	early    map[string]time.Time
	nameless []time.Time // when sessions ended whose last lines don't say which they are
	troubles []string    // what a sound backend doesn't log
}

func newBackendLog(backend string) *backendLog {
	return &backendLog{backend: backend, open: map[string]*session{}, early: map[string]time.Time{}}
}

var (
	// Dovecot 2.3 has "Login:", 2.4 "Logged in:".
	loggedIn = regexp.MustCompile(`^imap-login: (?:Info: )?(?:Login|Logged in): user=<([^>]*)>.* rip=([^,]+),.* mpid=(\d+),.* session=<([^>]+)>`)
	// The last line of a session has its octets (imap_logout_format), but for a process that dies.
	loggedOut = regexp.MustCompile(`^imap\([^)]*\)<\d+><([^>]+)>: (?:Info: .* in=\d+ out=\d+|Fatal: )`)
	// Where a process has the id of an earlier one, Dovecot's log process may forget the user and the session of its lines.
	ended   = regexp.MustCompile(`^imap: (?:Info: )?.* in=\d+ out=\d+`)
	trouble = regexp.MustCompile(`: (?:Panic|Fatal): |[Cc]orrupt|[Ff]ixed|Expunged message reappeared|UIDVALIDITY changed|Broken`)
)

// line takes one line of the log.
func (l *backendLog) line(text string) error {
	if len(text) < len(stamp)+1 {
		return nil
	}
	at, err := time.ParseInLocation(stamp, text[:len(stamp)], time.Local)
	if err != nil {
		return fmt.Errorf("%s: a line without a time: %q", l.backend, text)
	}
	rest := text[len(stamp)+1:]
	if trouble.MatchString(rest) {
		l.troubles = append(l.troubles, l.backend+": "+text)
	}
	switch {
	case strings.HasPrefix(rest, "imap-login: "):
		m := loggedIn.FindStringSubmatch(rest)
		if m == nil {
			return nil // a login that failed, or ended before it
		}
		pid, _ := strconv.Atoi(m[3])
		s := &session{backend: l.backend, user: m[1], peer: m[2], pid: pid, id: m[4], from: at, open: true}
		l.sessions = append(l.sessions, s)
		if to, ended := l.early[s.id]; ended { // two processes write: the end may come first
			delete(l.early, s.id)
			s.open, s.to = false, at
			s.from = to
			return nil
		}
		l.open[s.id] = s
	case strings.HasPrefix(rest, "imap("):
		m := loggedOut.FindStringSubmatch(rest)
		if m == nil {
			return nil
		}
		if s := l.open[m[1]]; s != nil {
			s.open, s.to = false, at
			delete(l.open, m[1])
		} else {
			l.early[m[1]] = at
		}
	case ended.MatchString(rest):
		l.nameless = append(l.nameless, at)
	}
	return nil
}

// name finds the sessions whose last lines don't say which they are. lives says whether the process of a session still runs.
func (l *backendLog) name(lives func(*session) bool) {
	l.nameless = slices.DeleteFunc(l.nameless, func(at time.Time) bool {
		for id, s := range l.open {
			if s.from.Before(at) && !lives(s) {
				s.open, s.to = false, at
				delete(l.open, id)
				return true
			}
		}
		return false // its process is about to end, or was killed
	})
}

// killed ends all sessions: the backend's processes were killed then.
func (l *backendLog) killed(at time.Time) {
	for id, s := range l.open {
		s.open, s.to = false, at
		if s.to.Before(s.from) {
			s.to = s.from
		}
		delete(l.open, id)
	}
}

// An overlap is a time in which a user was on two backends.
type overlap struct {
	a, b     session
	from, to time.Time
}

func (o overlap) length() time.Duration { return o.to.Sub(o.from) }

func (o overlap) String() string {
	return fmt.Sprintf("%v:\n    %v\n    %v", o.length(), o.a, o.b)
}

// overlaps finds all of them. Sessions that are open end at the time given.
func overlaps(sessions []session, end time.Time) (found []overlap) {
	byUser := map[string][]session{}
	for _, s := range sessions {
		if s.open {
			s.to = end
		}
		byUser[s.user] = append(byUser[s.user], s)
	}
	for _, all := range byUser {
		slices.SortFunc(all, func(a, b session) int { return a.from.Compare(b.from) })
		var active []session
		for _, s := range all {
			active = slices.DeleteFunc(active, func(a session) bool { return !a.to.After(s.from) })
			for _, a := range active {
				if a.backend == s.backend {
					continue
				}
				to := a.to
				if s.to.Before(to) {
					to = s.to
				}
				if to.After(s.from) {
					found = append(found, overlap{a: a, b: s, from: s.from, to: to})
				}
			}
			active = append(active, s)
		}
	}
	slices.SortFunc(found, func(a, b overlap) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.a.id, b.a.id)) })
	return found
}

// An excuse is a time in which a proxy's connections may be at other backends than the others' (docs/cluster.md, "What is promised").
type excuse struct {
	peer     string
	from, to time.Time
	serves   bool // the proxy goes on meanwhile (isolated = "serve")
	// again is when a stopped proxy runs again: a backend may answer a login after its proxy was stopped. Zero: it wasn't stopped.
	again time.Time
}

// unexcused is how much of an overlap no excuse covers. An excuse is for the sessions that its proxy had when it
// began: those that are made later are made by a proxy that runs, and are excused only where it serves meanwhile.
func unexcused(o overlap, excuses []excuse) time.Duration {
	pieces := [][2]time.Time{{o.from, o.to}}
	for _, e := range excuses {
		if !e.covers(o.a) && !e.covers(o.b) {
			continue
		}
		var rest [][2]time.Time
		for _, p := range pieces {
			if p[0].Before(e.from) {
				rest = append(rest, [2]time.Time{p[0], earlier(p[1], e.from)})
			}
			if p[1].After(e.to) {
				rest = append(rest, [2]time.Time{later(p[0], e.to), p[1]})
			}
		}
		pieces = rest
	}
	var sum time.Duration
	for _, p := range pieces {
		sum += p[1].Sub(p[0])
	}
	return sum
}

func (e excuse) covers(s session) bool {
	return s.peer == e.peer && (e.serves || s.from.Before(later(e.from, e.again)))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// userSeconds is the time, over all users, in which a user was on two backends: overlaps of more sessions of one user count once.
func userSeconds(found []overlap) time.Duration {
	byUser := map[string][]overlap{}
	for _, o := range found {
		byUser[o.a.user] = append(byUser[o.a.user], o)
	}
	var sum time.Duration
	for _, all := range byUser {
		var until time.Time
		for _, o := range all { // in the order of from
			if from := later(o.from, until); o.to.After(from) {
				sum += o.to.Sub(from)
			}
			until = later(until, o.to)
		}
	}
	return sum
}

// A stopped proxy: when it was stopped and when it ran again.
type stopped struct {
	peer        string
	from, again time.Time
}

// A tally is how many sessions a proxy had when it was stopped, and how many of them were open when it ran again.
type tally struct{ stopped, again int }

// ended says how many sessions the proxy had, and how long after it ran again the last one ended.
func (p stopped) ended(sessions []session) (n tally, last time.Duration) {
	for _, s := range sessions {
		if s.peer != p.peer || !s.from.Before(p.from) || !s.open && s.to.Before(p.from) {
			continue
		}
		n.stopped++
		if s.open || !s.to.Before(p.again) {
			n.again++
		}
		if !s.open {
			last = max(last, s.to.Sub(p.again))
		}
	}
	return n, last
}

// late are the sessions that a proxy had when it was stopped, and hadn't ended by the time given after it ran again.
func late(sessions []session, p stopped, by time.Duration) (found []session) {
	for _, s := range sessions {
		if s.peer != p.peer || !s.from.Before(p.from) {
			continue
		}
		if s.open || s.to.After(p.again.Add(by)) {
			found = append(found, s)
		}
	}
	return found
}

// A command is a line that a backend has read from a proxy, as its command log (rawlog) has it.
type command struct {
	at   time.Time
	text string
}

// commands reads a command log.
func commands(text string) (found []command) {
	for line := range strings.Lines(text) {
		at, rest, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		seconds, micros, dot := strings.Cut(at, ".")
		s, err1 := strconv.ParseInt(seconds, 10, 64)
		us, err2 := strconv.ParseInt(micros, 10, 64)
		if !ok || !dot || err1 != nil || err2 != nil {
			// The rest of a literal: it has the time of the line before.
			if len(found) > 0 {
				found = append(found, command{found[len(found)-1].at, line})
			}
			continue
		}
		found = append(found, command{time.Unix(s, us*1000), rest})
	}
	return found
}

// ownTag is how the proxy tags commands of its own, which it makes while it logs in or resumes a session.
var ownTag = regexp.MustCompile(`^ip[0-9]+ `)

// ownCommand: a command that the proxy makes itself and that changes nothing; all others are a client's.
func ownCommand(text string) bool {
	verb := strings.Fields(text + " - -")[1]
	return ownTag.MatchString(text) && (verb == "NOOP" || verb == "LOGOUT" || verb == "CAPABILITY")
}

// relayed are the commands that came at a time or later.
func relayed(all []command, at time.Time) (found []command) {
	for _, c := range all {
		if !c.at.Before(at) {
			found = append(found, c)
		}
	}
	return found
}
