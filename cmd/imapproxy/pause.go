package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"imapproxy/internal/admin"
)

// pauseSettles is how long 'pause' without --watch waits before it prints what is left.
const pauseSettles = 5 * time.Second

type pauseCommand struct {
	adminFlags
	Backend string        `arg:"" placeholder:"BACKEND" help:"The backend that is about to be restarted, as 'imapproxy backends' shows it."`
	For     time.Duration `placeholder:"TIME" help:"End the pause by itself after this time (90s); default: 60s, at most 10m."`
	DryRun  bool          `help:"Only say how many sessions the backend has, and what holds those that aren't parked."`
	Watch   bool          `help:"Show what is left at the backend until nothing is. A pause that is there already is only shown, unless --for is given."`
}

// Run pauses a backend by POST /v1/pause, for all proxies, and says what is left there.
func (c pauseCommand) Run(env environment) error {
	q := admin.PauseRequest{Backend: c.Backend, By: me()}
	if c.For != 0 {
		q.For = c.For.String()
	}
	switch {
	case c.For < 0:
		return errors.New("--for can't be negative")
	case c.DryRun && c.Watch:
		return errors.New("--dry-run pauses nothing: there is nothing to watch")
	case c.DryRun:
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.PauseAnswer], error) {
			return a.ClusterPause(ctx, q)
		}, showDryPause)
	case c.JSON && !c.Watch:
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.PauseAnswer, error) { return a.Pause(ctx, q) },
			func(io.Writer, admin.PauseAnswer) error { return nil })
	}
	return c.follow(env, q)
}

// follow pauses the backend and shows what is left there: with --watch every two seconds, else once, when
// nothing is left or after pauseSettles.
func (c pauseCommand) follow(env environment, q admin.PauseRequest) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := client.ClusterBackends(env.ctx)
	if err != nil {
		return asked(c.adminFlags, err)
	}
	if pauseOf(all, c.Backend) == nil || !c.Watch || q.For != "" {
		a, err := client.Pause(env.ctx, q)
		if err != nil {
			return asked(c.adminFlags, err)
		}
		c.Backend = a.StableID
		if !c.JSON {
			if err := sayPaused(env.stdout, a); err != nil {
				return err
			}
		}
	}
	every := watchEvery
	if !c.Watch {
		every = pauseSettles / 20
	}
	tick, end := time.NewTicker(every), time.Now().Add(pauseSettles)
	defer tick.Stop()
	for {
		if all, err = client.ClusterBackends(env.ctx); err != nil {
			return asked(c.adminFlags, err)
		}
		p := pauseOf(all, c.Backend)
		if p == nil {
			return fmt.Errorf("%s isn't paused any more", dash(c.Backend))
		}
		done := pauseDone(*p) && len(all.Failed()) == 0
		if c.Watch || done || !time.Now().Before(end) {
			if c.JSON {
				err = json.NewEncoder(env.stdout).Encode(p)
			} else {
				_, err = fmt.Fprintln(env.stdout, time.Now().Format(time.TimeOnly), pauseWords(*p, time.Now()))
			}
			if err != nil || done || !c.Watch {
				return errors.Join(err, notAnswered(env.stdout, all.Failed()))
			}
		}
		select {
		case <-env.ctx.Done():
			return errors.New("interrupted; the pause goes on")
		case <-tick.C:
		}
	}
}

// sayPaused says that a backend is paused.
func sayPaused(w io.Writer, a admin.PauseAnswer) error {
	whom := "all proxies make no connection to it"
	if !a.Agreed {
		whom = "this proxy makes no connection to it (other proxies, if there are any, have to be asked as well)"
	}
	until := "-"
	if a.Until != nil {
		until = a.Until.Local().Format(time.TimeOnly)
	}
	_, err := fmt.Fprintf(w, "%s is paused until %s: %s. imapproxy resume %s ends it.\n", dash(a.Backend), until, whom, dash(a.Backend))
	return err
}

// pauseDone says whether nothing is left at a paused backend.
func pauseDone(p admin.Pause) bool {
	return p.Connections == 0 && total(p.Sessions) == p.Sessions["parked"]+p.Sessions["resuming"] // those wait for the end of the pause
}

// pauseOf returns a pause with what all proxies have there; nil if the backend isn't paused.
func pauseOf(all admin.Cluster[admin.Backends], backend string) *admin.Pause {
	for _, p := range allPauses(all) {
		if p.Backend == backend || p.StableID == backend {
			return &p
		}
	}
	return nil
}

// pauseWords says what is left at a paused backend, and what holds it.
func pauseWords(p admin.Pause, now time.Time) string {
	text := dash(p.Backend) + ": paused"
	if p.Until != nil {
		text += " for another " + ago(p.Until.Sub(now))
	}
	text += "; " + count(p.Connections, "connection") + " left"
	if len(p.Sessions) > 0 {
		text += "; sessions: " + admin.Histogram(p.Sessions)
	}
	if len(p.Held) > 0 {
		text += "; held by: " + admin.Histogram(p.Held)
	}
	if pauseDone(p) {
		return text + "; nothing is left there: restart it now"
	}
	return text
}

// showPauses shows the pauses below the table of backends.
func showPauses(w io.Writer, pauses []admin.Pause) error {
	for _, p := range pauses {
		if _, err := fmt.Fprintf(w, "\n%s (by %s)\n", pauseWords(p, time.Now()), dash(p.By)); err != nil {
			return err
		}
	}
	return nil
}

// showDryPause says what a pause would hold.
func showDryPause(w io.Writer, all admin.Cluster[admin.PauseAnswer]) error {
	var sum admin.Pause
	for _, p := range all.Proxies {
		if p.Answer == nil {
			continue
		}
		sum.Backend, sum.Connections = p.Answer.Backend, sum.Connections+p.Answer.Connections
		sum.Sessions, sum.Held = plus(sum.Sessions, p.Answer.Sessions), plus(sum.Held, p.Answer.Held)
	}
	fmt.Fprintf(w, "%s would be paused: %s there, %s\n", dash(sum.Backend), count(total(sum.Sessions), "session"), count(sum.Connections, "connection"))
	if len(sum.Sessions) > 0 {
		fmt.Fprintf(w, "sessions: %s\n", admin.Histogram(sum.Sessions))
	}
	if len(sum.Held) > 0 {
		fmt.Fprintf(w, "not parked, by what holds them now: %s\n", admin.Histogram(sum.Held))
	}
	return notAnswered(w, all.Failed())
}

type resumeCommand struct {
	adminFlags
	Backend string `arg:"" placeholder:"BACKEND" help:"The backend that is paused."`
}

// Run ends a pause by POST /v1/resume, for all proxies.
func (c resumeCommand) Run(env environment) error {
	q := admin.ResumeRequest{Backend: c.Backend, By: me()}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.PauseAnswer, error) { return a.Resume(ctx, q) },
		func(w io.Writer, a admin.PauseAnswer) error {
			_, err := fmt.Fprintf(w, "%s isn't paused any more. Sessions whose clients wait go on there, at resume_rate.\n", dash(a.Backend))
			return err
		})
}
