package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Progress describes how far a drain is, and what holds it. The page and the command line show them.
func (d *Drain) Progress(now time.Time) string {
	text := Printable(d.Backend) + ": connections of " + users(d.Users) + " left"
	if d.Started > d.Users && d.Begun != nil {
		text += fmt.Sprintf(" of %d", d.Started)
		if passed := now.Sub(*d.Begun).Seconds(); passed >= 1 {
			text += fmt.Sprintf(", %.3g a second so far", float64(d.Started-d.Users)/passed)
		}
	}
	if len(d.Sessions) > 0 {
		text += "; sessions: " + Histogram(d.Sessions)
	}
	if len(d.Held) > 0 {
		text += "; held by: " + Histogram(d.Held)
	}
	switch {
	case d.Users == 0 && d.Left() == 0:
		text += "; done"
	case len(d.WaitsFor) > 0:
		text += "; no user is asked to leave before " + strings.Join(d.WaitsFor, ", ") + " knows of it, or is taken for dead (imapproxy proxies)"
	case d.Ends == nil:
		text += "; not begun"
	case d.Ends.After(now):
		text += "; all have had their turn in " + Elapsed(d.Ends.Sub(now))
	default:
		text += "; those who are left are asked again"
	}
	switch {
	case d.Ended > 0:
		text += fmt.Sprintf("; sessions of %s ended", users(d.Ended))
	case d.Deadline != nil && d.Deadline.After(now) && d.Users > 0:
		text += "; what is left is ended in " + Elapsed(d.Deadline.Sub(now))
	}
	return text
}

// Movement says how many of the proxy's users aren't where the fleet sends them, and what becomes of them; "": all
// are there.
func (a *Agreement) Movement(now time.Time) string {
	var parts []string
	if n := a.Stays - a.Resting; n > 0 {
		text := buckets(n) + " to be moved"
		if a.MovesEnd != nil && a.MovesEnd.After(now) {
			text += ", the last in " + Elapsed(a.MovesEnd.Sub(now))
		}
		parts = append(parts, text)
	}
	if a.Resting > 0 {
		parts = append(parts, buckets(a.Resting)+" elsewhere than new logins, and not moved: "+RestWords)
	}
	return strings.Join(parts, "; ")
}

func buckets(n int) string {
	if n == 1 {
		return "1 bucket or user is"
	}
	return fmt.Sprintf("%d buckets and users are", n)
}

// RestWords is what becomes of users at a backend that is up, while another has come back.
const RestWords = "cluster.rebalance_rate is 0, so users follow when they log in with no connection left"

// Return says how the users of a backend come back to it.
func (u *UndrainAnswer) Return() string {
	if u.RebalanceRate == 0 {
		return "No connected user is moved back: " + RestWords
	}
	return fmt.Sprintf("Its users come back at %.3g a second (cluster.rebalance_rate), or when they log in with no connection left", u.RebalanceRate)
}

// Left returns how many sessions have connections at the backend, or will have.
func (d *Drain) Left() (n int) {
	for at, some := range d.Sessions {
		if at != "parked" {
			n += some
		}
	}
	return n
}

// Histogram is counts with their names, the largest first.
func Histogram(counts map[string]int) string {
	names := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(names, func(a, b string) int { return counts[b] - counts[a] })
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf("%d %s", counts[name], Printable(name)))
	}
	return strings.Join(all, ", ")
}

func users(n int) string {
	if n == 1 {
		return "1 user"
	}
	return fmt.Sprintf("%d users", n)
}

// Printable returns text for a terminal, such as a user's name that a client chose: control characters are replaced, so
// that it can't control the terminal. An empty text becomes a dash.
func Printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// Elapsed formats a duration for human readers.
func Elapsed(d time.Duration) string {
	switch {
	case d < time.Minute:
		return max(d, 0).Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
