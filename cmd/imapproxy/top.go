package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

type topCommand struct {
	adminFlags
	Once    bool `help:"Show it once, for scripts; without a terminal that is so anyway."`
	Seconds int  `default:"10" placeholder:"N" help:"The time of which users and commands are shown, 1 to 300 (${default})."`
}

// topAll is what top shows.
type topAll struct {
	Status   admin.Status   `json:"status"`
	Backends admin.Backends `json:"backends"`
	Top      admin.Top      `json:"top"`
}

// Run shows what is busy and what is slow, every two seconds on a terminal.
func (c topCommand) Run(env environment) error {
	if c.Seconds < 1 || c.Seconds > 300 {
		fmt.Fprintln(env.stderr, "imapproxy: --seconds takes 1 to 300")
		return failure{exitUsage}
	}
	return watchFlag{!c.Once && !c.JSON && isTerminal(env.stdout)}.watched(env, func() error { return ask(env, c.adminFlags, c.all, c.show) })
}

func (c topCommand) all(ctx context.Context, a *admin.Client) (all topAll, err error) {
	if all.Status, err = a.Status(ctx); err == nil {
		if all.Backends, err = a.Backends(ctx); err == nil {
			all.Top, err = a.Top(ctx, c.Seconds)
		}
	}
	return all, err
}

// show prints as much as the terminal has room for: what is wrong, then a part of the lines each for backends, users and commands.
func (c topCommand) show(w io.Writer, all topAll) error {
	s := all.Status
	head := []string{fmt.Sprintf("%s: %s, %s", dash(s.Hostname), healthWords(s), ratio(s))}
	for _, row := range problemRows(s) {
		head = append(head, row[0]+" "+row[1])
	}
	for i, line := range head {
		head[i] = wrapped(line, screenWidth(w))
	}
	text := strings.Join(head, "\n")
	if _, err := fmt.Fprintf(w, "%s\n\n", text); err != nil {
		return err
	}
	_, height := screen(w)
	most := topRows(height, strings.Count(text, "\n")+1, len(all.Backends.Backends))
	slices.SortStableFunc(all.Backends.Backends, func(a, b admin.Backend) int { return urgency(a) - urgency(b) })
	backends := all.Backends.Backends[:min(len(all.Backends.Backends), most)]
	if err := listing(w, topBackendColumns(), backends); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s in %s; the busiest users:\n", count(all.Top.Commands, "command"), ago(time.Duration(all.Top.Seconds*float64(time.Second)).Round(time.Second))); err != nil {
		return err
	}
	if err := listing(w, topUserColumns(all.Top.Seconds), all.Top.Users[:min(len(all.Top.Users), most)]); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w, "\nThe slowest commands:"); err != nil {
		return err
	}
	return listing(w, slowColumns(), all.Top.Slowest[:min(len(all.Top.Slowest), most)])
}

// topRows returns how many rows each of the three tables may have on a screen of a height; 0: any. head is how many lines stand above them.
func topRows(height, head, backends int) int {
	const around = 9 // headings, blank lines, and the line on which a prompt may stand
	if height == 0 {
		return 10
	}
	room := max(height-head-around, 6)
	if backends < room/3 { // the others get what it leaves
		return max((room-backends)/2, 2)
	}
	return max(room/3, 2)
}

func topBackendColumns() []column[admin.Backend] {
	var all []column[admin.Backend]
	for _, c := range backendColumns() {
		rank := map[string]int{"BACKEND": 0, "STATE": 0, "SESSIONS": 0, "USERS": 3, "ANSWER": 0, "LOGIN": 1, "DIAL": 2, "SLOW": 1, "REFUSED": 2}
		if r, wanted := rank[c.head]; wanted {
			c.rank = r
			all = append(all, c)
		}
	}
	return append(all, column[admin.Backend]{"REMARKS", func(b admin.Backend) string { return dash(remarks(b)) }, 1})
}

func topUserColumns(seconds float64) []column[admin.TopUser] {
	return []column[admin.TopUser]{
		{"USER", func(u admin.TopUser) string { return dash(u.User) }, 0},
		{"BACKEND", func(u admin.TopUser) string { return dash(u.Backend) }, 1},
		{"SESSIONS", func(u admin.TopUser) string { return fmt.Sprint(u.Sessions) }, 2},
		{"COMMANDS", func(u admin.TopUser) string { return fmt.Sprint(u.Commands) }, 0},
		{"A SECOND", func(u admin.TopUser) string { return fmt.Sprintf("%.3g", float64(u.Commands)/max(seconds, 1)) }, 0},
		{"TOOK", func(u admin.TopUser) string { return milliseconds(1000 * u.Took) }, 0},
		{"BACKEND WAIT", func(u admin.TopUser) string { return milliseconds(1000 * u.Waited) }, 0},
		{"SLOWEST", func(u admin.TopUser) string { return milliseconds(1000 * u.Slowest) }, 0},
	}
}
