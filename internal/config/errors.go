package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Warning is about a setting that works but is probably not intended.
type Warning struct {
	File    string
	Line    int    // 1-based; 0 when it isn't about a line
	What    string // what is wrong
	Instead string // what to write instead; may be empty
}

// String is the warning in one line: file:line: what; instead.
func (w Warning) String() string {
	if w.Instead == "" {
		return w.At() + ": " + w.What
	}
	return w.At() + ": " + w.What + "; " + w.Instead
}

// At is the place in short, file:line.
func (w Warning) At() string {
	if w.Line == 0 {
		return w.File
	}
	return fmt.Sprintf("%s:%d", w.File, w.Line)
}

// Error is one thing that is wrong with a file. It has the shape of a Warning.
type Error Warning

// Error is the mistake in one line: file:line: what; instead.
func (e Error) Error() string { return Warning(e).String() }

// At is the place in short, file:line.
func (e Error) At() string { return Warning(e).At() }

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

// sorted gives the errors in the file's order, each once.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(e)
}
