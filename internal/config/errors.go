package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Warning is something that works and is probably not meant.
type Warning struct {
	File    string
	Line    int    // 1-based; 0 when it isn't about a line
	What    string // what is wrong
	Instead string // what to write instead; may be empty
}

// String is the warning in one line: file:line: what; instead.
func (w Warning) String() string { return line(w.File, w.Line, w.What, w.Instead) }

// Error is one thing that is wrong with a file. It has the shape of a Warning.
type Error Warning

// Error is the mistake in one line: file:line: what; instead.
func (e Error) Error() string { return line(e.File, e.Line, e.What, e.Instead) }

// Errors are all the mistakes in one file, in the file's order.
type Errors []Error

// Error has one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

func line(file string, n int, what, instead string) string {
	var b strings.Builder
	b.WriteString(file)
	if n > 0 {
		fmt.Fprintf(&b, ":%d", n)
	}
	b.WriteString(": " + what)
	if instead != "" {
		b.WriteString("; " + instead)
	}
	return b.String()
}

// sorted gives the errors in the file's order, each said once.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(e)
}
