package proxy

import "time"

// pace spreads steps evenly over a time. If a step is late, the next ones follow sooner.
type pace struct {
	begun  time.Time
	within time.Duration
	of     int // how many steps there will be
	done   int
}

// step counts a completed step.
func (p *pace) step() { p.done++ }

// wait returns the time until the next step; ≤ 0: it is due.
func (p *pace) wait(now time.Time) time.Duration {
	due := float64(p.within) * float64(min(p.done, p.of)) / float64(p.of)
	return p.begun.Add(time.Duration(due)).Sub(now)
}
