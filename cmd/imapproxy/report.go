package main

import (
	"fmt"
	"io"
	"strings"
)

// report is one line for each thing that was looked at, and below a fault what to
// do about it. It belongs to one goroutine.
type report struct {
	w      io.Writer // nil: the text is kept for add
	text   strings.Builder
	failed int
	warned int
}

// add takes over what another report has kept.
func (r *report) add(part *report) {
	r.failed += part.failed
	r.warned += part.warned
	fmt.Fprint(r.w, part.text.String())
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

func (r *report) end() {
	if r.failed == 0 {
		fmt.Fprintf(r.w, "\nAll is well%s.\n", map[bool]string{true: fmt.Sprintf(", with %s", count(r.warned, "warning"))}[r.warned > 0])
		return
	}
	fmt.Fprintf(r.w, "\n%s to fix, %s.\n", count(r.failed, "fault"), count(r.warned, "warning"))
}
