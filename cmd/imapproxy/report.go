package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// report is one line for each thing that was looked at, and below a fault what to
// do about it. It belongs to one goroutine.
type report struct {
	w      io.Writer // nil: the text is kept for add
	text   strings.Builder
	failed int
	warned int
	// summary: lines about the same fault, by mark and remedy, are printed as one at the end. kinds has them in their order.
	summary bool
	kinds   []kind
}

// add takes over what another report has kept.
func (r *report) add(part *report) {
	r.failed += part.failed
	r.warned += part.warned
	for _, k := range part.kinds {
		r.keep(k)
	}
	if !r.summary {
		fmt.Fprint(r.w, part.text.String())
	}
}

func (r *report) line(mark, what, fix, format string, args []any) {
	w := r.w
	if w == nil {
		w = &r.text
	}
	switch mark {
	case "FAIL":
		r.failed++
	case "warn":
		r.warned++
	}
	if r.summary || r.w == nil {
		r.keep(kind{mark, fix, fmt.Sprintf(format, args...), []string{what}})
	}
	if r.summary {
		return
	}
	fmt.Fprintf(w, "%-4s  %-16s  %s\n", mark, what, fmt.Sprintf(format, args...))
	if fix != "" {
		fmt.Fprintf(w, "      %-16s  -> %s\n", "", fix)
	}
}

func (r *report) ok(what, format string, args ...any)        { r.line("ok", what, "", format, args) }
func (r *report) warn(what, fix, format string, args ...any) { r.line("warn", what, fix, format, args) }
func (r *report) fail(what, fix, format string, args ...any) { r.line("FAIL", what, fix, format, args) }

// skip reports what wasn't checked, and how to check it.
func (r *report) skip(what, fix, format string, args ...any) { r.line("-", what, fix, format, args) }

// verdict prints the overall result, and returns it as the verb's.
func (r *report) verdict() error {
	r.end()
	if r.failed > 0 {
		return failure{exitFailed}
	}
	return nil
}

// kind is a fault or an advice, and what it concerns.
type kind struct {
	mark, fix, text string
	concerns        []string
}

// keep adds to the kinds. Lines with the same remedy are of one kind, since their texts name single machines.
func (r *report) keep(k kind) {
	for i, o := range r.kinds {
		if o.mark == k.mark && o.fix == k.fix && (k.fix != "" || o.text == k.text) {
			for _, what := range k.concerns {
				if !slices.Contains(o.concerns, what) {
					r.kinds[i].concerns = append(r.kinds[i].concerns, what)
				}
			}
			return
		}
	}
	r.kinds = append(r.kinds, k)
}

// summarize prints a line for each kind, faults first, and how many checks found no fault.
func (r *report) summarize() {
	well := 0
	for _, mark := range []string{"FAIL", "warn", "-", "ok"} {
		for _, k := range r.kinds {
			switch {
			case k.mark != mark:
			case mark == "ok":
				well += len(k.concerns)
			default:
				text := k.text
				if len(k.concerns) > 1 && k.fix != "" {
					text = k.fix + " (the first: " + k.text + ")"
				} else if k.fix != "" {
					text += " -> " + k.fix
				}
				fmt.Fprintf(r.w, "%-4s  %s: %s\n", mark, strings.Join(k.concerns, ", "), text)
			}
		}
	}
	fmt.Fprintf(r.w, "ok    %s\n", count(well, "thing"))
}

func (r *report) end() {
	if r.summary {
		r.summarize()
	}
	if r.failed == 0 {
		fmt.Fprintf(r.w, "\nAll is well%s.\n", map[bool]string{true: fmt.Sprintf(", with %s", count(r.warned, "warning"))}[r.warned > 0])
		return
	}
	fmt.Fprintf(r.w, "\n%s to fix, %s.\n", count(r.failed, "fault"), count(r.warned, "warning"))
}
