package main

import (
	"fmt"
	"io"
	"strings"

	"imapproxy/docs"
	"imapproxy/proxy/session"
)

type explainCommand struct {
	Reason string `arg:"" optional:"" placeholder:"REASON" help:"A reason from a log, a metric, 'imapproxy sessions', 'failing' or a problem, or words of a BYE; without it all reasons are listed."`
}

// Run prints what a reason means and what to do, from docs/operations.md.
func (c explainCommand) Run(env environment) error {
	if c.Reason == "" {
		return listReasons(env.stdout)
	}
	found := explained(c.Reason)
	if len(found) == 0 {
		return fmt.Errorf("no reason is called %q, and no BYE of the proxy's has these words; 'imapproxy explain' lists the reasons", c.Reason)
	}
	for i, r := range found {
		if i > 0 {
			fmt.Fprintln(env.stdout)
		}
		rows := [][]string{{"means", r.What}}
		if bye := strings.TrimSpace(session.Reason(r.Name).Bye()); bye != "" && r.Kind == docs.WhyEnded {
			rows = append(rows, []string{"the client is told", bye})
		} else if r.Bye != "" {
			rows = append(rows, []string{"the client is told", "BYE: " + r.Bye})
		}
		if r.Do != "" {
			rows = append(rows, []string{"look at", r.Do})
		}
		if err := table(env.stdout, []string{r.Name, "(" + r.Kind + ")"}, rows); err != nil {
			return err
		}
	}
	return nil
}

// explained returns the reasons with a name or, if there is none, those whose BYE has the words.
func explained(what string) (found []docs.Reason) {
	all := docs.Reasons()
	for _, r := range all {
		if strings.EqualFold(r.Name, what) {
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		return found
	}
	words := strings.ToLower(strings.TrimSpace(what))
	for _, r := range all {
		if r.Kind == docs.WhyEnded && words != "" && strings.Contains(strings.ToLower(session.Reason(r.Name).Bye()), words) {
			found = append(found, r)
		}
	}
	return found
}

func listReasons(w io.Writer) error {
	kind := ""
	var rows [][]string
	flush := func() error {
		if kind == "" {
			return nil
		}
		defer func() { rows = nil }()
		return table(w, []string{strings.ToUpper(kind), ""}, rows)
	}
	for _, r := range docs.Reasons() {
		if r.Kind != kind {
			if err := flush(); err != nil {
				return err
			}
			if kind != "" {
				fmt.Fprintln(w)
			}
			kind = r.Kind
		}
		rows = append(rows, []string{r.Name, r.What})
	}
	return flush()
}
