package problems

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
)

// backends:
//
//	none is up with a weight, and none is paused; or, if
//	storage is separate, none is up or draining either      NoBackend
//	down, and not paused                                    BackendDown, critical if clients wait or were refused
//	up or draining, and it can't be reached                 BackendDown, likewise
//	it can be reached, a tenth of its answers are slow,
//	or connections were given up                            BackendSlow
//	kept by the panic threshold                             BackendKept
//	paused, or gone and without waiting clients             –
func backends(s *Snapshot) (all []Problem) {
	taking, leaving := 0, 0 // backends that take new users; others that aren't down
	for _, b := range s.Backends {
		switch {
		case b.Paused, b.State == "up" && b.Weight > 0, s.Separate && b.State != "down":
			taking++
		case b.State != "down":
			leaving++
		}
		if b.Paused {
			continue
		}
		hit := clients(b)
		switch {
		case b.Gone && hit == "":
		case b.State == "down":
			all = append(all, Problem{BackendDown, hit != "", b.Name, "is down" + because(b.Reason) + hit, b.Since})
		case b.Suspect:
			all = append(all, Problem{BackendDown, hit != "", b.Name, fmt.Sprintf("can't be reached, %s failed in a row%s%s", count(b.Failures, "connection"), because(b.LastError), hit), time.Time{}})
		case b.GivenUp > 0:
			all = append(all, Problem{BackendSlow, true, b.Name, fmt.Sprintf("hangs: %s on which it was silent were given up in the last 5 minutes%s", count(b.GivenUp, "connection"), hit), time.Time{}})
		case b.Answers >= SlowAnswers && float64(b.Slow) >= SlowShare*float64(b.Answers):
			all = append(all, Problem{BackendSlow, false, b.Name, fmt.Sprintf("is slow: %d of %d logins and commands of the last 5 minutes took 2 seconds and longer%s", b.Slow, b.Answers, hit), time.Time{}})
		}
		if b.Kept {
			all = append(all, Problem{BackendKept, false, b.Name, "is used although discovery took it away: routing.panic_threshold keeps it", b.Since})
		}
	}
	switch {
	case taking > 0:
	case leaving > 0:
		all = append(all, Problem{NoBackend, true, "", fmt.Sprintf("no backend takes new users, since %s in maintenance, drained, or without weight: their logins are refused%s; connected users stay",
			are(leaving, "backend"), refused(s.Refused)), time.Time{}})
	case len(s.Backends) > 0:
		all = append(all, Problem{NoBackend, true, "", "no backend is up: logins are refused" + refused(s.Refused), time.Time{}})
	default:
		all = append(all, Problem{NoBackend, true, "", "no backend is known: logins are refused" + refused(s.Refused), s.Started})
	}
	return all
}

// refused says how logins are refused, and how many were.
func refused(logins int) string {
	const how = " with NO [UNAVAILABLE]"
	if logins == 0 {
		return how
	}
	return fmt.Sprintf("%s, %d in the last 5 minutes", how, logins)
}

func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// clients says how a backend's state affects clients; "": it doesn't.
func clients(b Backend) string {
	var hit []string
	if b.Waiting > 0 {
		hit = append(hit, count(b.Waiting, "session")+" waiting for it")
	}
	if b.Refused > 0 {
		hit = append(hit, count(b.Refused, "login")+" refused in the last 5 minutes")
	}
	if len(hit) == 0 {
		return ""
	}
	return "; " + strings.Join(hit, ", ")
}

// consul:
//
//	the set of backends is the one from disk                ConsulSilent
//	no fleet in it that the proxies can go by               ConsulSilent
//	no answer for Silence, since the start if there was none ConsulSilent
func consul(s *Snapshot) []Problem {
	c := s.Consul
	switch {
	case c == nil:
	case c.Saved:
		return []Problem{{ConsulSilent, false, "", "Consul has not answered since the start: the backends are those that were saved on disk", c.Answered}}
	case !c.Outage.IsZero():
		return []Problem{{ConsulSilent, false, "", "Consul has no fleet that the proxies can go by: what they have agreed to stands, and no user is moved", c.Outage}}
	case c.Answered.IsZero() && s.Now.Sub(s.Started) > Silence:
		return []Problem{{ConsulSilent, false, "", "Consul has not answered since the start", s.Started}}
	case !c.Answered.IsZero() && s.Now.Sub(c.Answered) > Silence:
		return []Problem{{ConsulSilent, false, "", "Consul does not answer: the last known backends are used", c.Answered}}
	}
	return nil
}

// proxies:
//
//	this one is cut off                                     Isolated, critical if it holds logins
//	another one's Consul session has ended                  ProxyGone
//	another one lives and has another version               ProxyVersion
func proxies(s *Snapshot) (all []Problem) {
	switch s.Isolated {
	case "":
	case "hold":
		all = append(all, Problem{Isolated, true, "", "this proxy is cut off from the others, and its logins wait (isolated = \"hold\")", time.Time{}})
	default:
		all = append(all, Problem{Isolated, false, "", "this proxy is cut off from the others (isolated = \"" + s.Isolated + "\")", time.Time{}})
	}
	for _, p := range s.Proxies {
		switch {
		case !p.Lives:
			all = append(all, Problem{ProxyGone, false, p.Name, "doesn't renew its Consul session: users that it may have had are not moved until it is back or removed", time.Time{}})
		case p.Version != s.Version:
			all = append(all, Problem{ProxyVersion, false, p.Name, fmt.Sprintf("has version %s, this proxy has %s", cmp.Or(p.Version, "unknown"), cmp.Or(s.Version, "unknown")), time.Time{}})
		}
	}
	return all
}

// policy:
//
//	questions and reports in a row have no answer           PolicySilent, critical if logins are refused
func policy(s *Snapshot) []Problem {
	p := s.Policy
	if p.Failures < PolicyFailures {
		return nil
	}
	meanwhile := "logins go on without it"
	if p.Rejects {
		meanwhile = "logins are refused"
	}
	return []Problem{{PolicySilent, p.Rejects, "", fmt.Sprintf("the policy server does not answer, %s%s", meanwhile, because(p.Error)), p.Since}}
}

// certificates:
//
//	it has ended, or isn't valid yet                        Certificate, critical
//	it ends within CertificateLeft, or within a fifth of
//	its lifetime if that is shorter                         Certificate
//	new files can't be used                                 Certificate
func certificates(s *Snapshot) (all []Problem) {
	for _, c := range s.Certificates {
		left := c.NotAfter.Sub(s.Now)
		what := "certificate"
		if c.List {
			what = "revocation list"
		}
		switch {
		case c.NotAfter.IsZero():
		case left <= 0:
			all = append(all, Problem{Certificate, true, c.Of, "the " + what + " has ended at " + c.NotAfter.UTC().Format(time.DateTime) + " UTC", c.NotAfter})
		case s.Now.Before(c.NotBefore):
			all = append(all, Problem{Certificate, true, c.Of, "the " + what + " isn't valid before " + c.NotBefore.UTC().Format(time.DateTime) + " UTC", time.Time{}})
		case left < min(CertificateLeft, c.NotAfter.Sub(c.NotBefore)/5):
			all = append(all, Problem{Certificate, false, c.Of, fmt.Sprintf("the %s ends in %s, at %s UTC", what, days(left), c.NotAfter.UTC().Format(time.DateTime)), time.Time{}})
		}
		if c.Error != "" {
			all = append(all, Problem{Certificate, false, c.Of, "the new " + what + " can't be used, the old one stays: " + c.Error, time.Time{}})
		}
	}
	return all
}

// reload: the last one failed.
func reload(s *Snapshot) []Problem {
	if s.Reload == nil {
		return nil
	}
	return []Problem{{ReloadFailed, false, "", "the last reload failed, and the old settings stay: " + s.Reload.Error, s.Reload.At}}
}

// limits: a limit is used up to its share.
func limits(s *Snapshot) (all []Problem) {
	for _, l := range []struct {
		kind  Kind
		use   Use
		share float64
		what  string
		shown func(int64) string
	}{
		{Descriptors, s.Descriptors, DescriptorShare, "file descriptors are open", func(n int64) string { return fmt.Sprint(n) }},
		{Memory, s.Memory, MemoryShare, "of memory are used", mebibytes},
		{SessionsLimit, s.Sessions, SessionShare, "sessions are logged in (limits.connections)", func(n int64) string { return fmt.Sprint(n) }},
	} {
		if l.use.Limit <= 0 || float64(l.use.Used) < l.share*float64(l.use.Limit) {
			continue
		}
		full := l.use.Used >= l.use.Limit
		all = append(all, Problem{l.kind, full, "", fmt.Sprintf("%s of at most %s %s", l.shown(l.use.Used), l.shown(l.use.Limit), l.what), time.Time{}})
	}
	return all
}

// shortages: the proxy ran out of something within Lately.
func shortages(s *Snapshot) (all []Problem) {
	for _, short := range s.Shortages {
		if s.Now.Sub(short.Last) < Lately {
			all = append(all, Problem{ShortageLately, true, short.Of, fmt.Sprintf("the proxy itself ran out of %s (%s) at %s: %s", short.Of, short.At, clock(short.Last), short.Error), time.Time{}})
		}
	}
	return all
}

// parking:
//
//	the program was built with another crypto/tls           UnknownTLS
//	watches were given up within Lately                     WatchesLost
//	a push event was refused within Lately                  PushRefused
//	PushMailboxes and more rely on push events, and none
//	has come for PushSilence                                PushMissing
func parking(s *Snapshot) (all []Problem) {
	if s.UnknownTLS != "" {
		all = append(all, Problem{UnknownTLS, false, "", "idle clients under TLS take more memory than they need, since this program was built with another Go release (" + s.UnknownTLS + ")", s.Started})
	}
	if w := s.Watches; w.Lost > 0 && s.Now.Sub(w.Last) < Lately {
		all = append(all, Problem{WatchesLost, false, "", fmt.Sprintf("watches of mailboxes with parked sessions were given up, the last one at %s (%d since the start)", clock(w.Last), w.Lost), time.Time{}})
	}
	p := s.Push
	if p == nil {
		return all
	}
	if !p.Refused.IsZero() && s.Now.Sub(p.Refused) < Lately {
		all = append(all, Problem{PushRefused, false, "", "push events are refused (" + p.Why + "), the last one at " + clock(p.Refused), time.Time{}})
	}
	last := p.Last
	if last.IsZero() {
		last = s.Started
	}
	if p.Mailboxes >= PushMailboxes && s.Now.Sub(last) > PushSilence {
		what := "no push event has come since the start"
		if !p.Last.IsZero() {
			what = "no push event has come since " + clock(p.Last)
		}
		all = append(all, Problem{PushMissing, false, "", fmt.Sprintf("%s, and %d mailboxes rely on them: their clients learn of new mail at the next sweep", what, p.Mailboxes), last})
	}
	return all
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) + " UTC" }

// days is a time in whole days, in hours if it is less than two days, or in minutes.
func days(d time.Duration) string {
	if d < 2*time.Hour {
		return count(int(d/time.Minute), "minute")
	}
	if d < 48*time.Hour {
		return count(int(d/time.Hour), "hour")
	}
	return count(int(d/(24*time.Hour)), "day")
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", math.Floor(float64(n)/(1<<20))) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
