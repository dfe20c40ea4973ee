package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// column is one of a table's.
type column[T any] struct {
	head string // its heading; columnName makes its name for --columns
	cell func(T) string
	// rank says when it is shown: 0 always, 1 and higher not if the terminal is too narrow, the highest first; extra: only if --columns names it.
	rank int
}

// extra is the rank of a column that --columns must name.
const extra = -1

// columnsFlag is the flag of the verbs that print tables.
type columnsFlag struct {
	Columns []string `sep:"," placeholder:"NAMES" help:"Only these columns, in this order; --columns=? names them all."`
}

// columnName is a heading as --columns takes it.
func columnName(head string) string {
	return strings.ReplaceAll(strings.ToLower(head), " ", "_")
}

// chosen returns the columns that are to be shown. It prints what is wrong with --columns and returns a failure; asked is true if the names were printed.
func chosen[T any](env environment, f columnsFlag, json bool, all []column[T]) (some []column[T], asked bool, err error) {
	var names []string
	for _, c := range all {
		names = append(names, columnName(c.head))
	}
	if len(f.Columns) == 0 {
		return slices.DeleteFunc(slices.Clone(all), func(c column[T]) bool { return c.rank == extra }), false, nil
	}
	if slices.Equal(f.Columns, []string{"?"}) {
		_, err := fmt.Fprintln(env.stdout, strings.Join(names, ","))
		return nil, true, err
	}
	if json {
		fmt.Fprintln(env.stderr, "imapproxy: --columns is for tables: --json prints all that is known")
		return nil, false, failure{exitUsage}
	}
	for _, name := range f.Columns {
		i := slices.Index(names, columnName(strings.TrimSpace(name)))
		if i < 0 {
			fmt.Fprintf(env.stderr, "imapproxy: --columns: there is no column %q; there are %s\n", name, strings.Join(names, ", "))
			return nil, false, failure{exitUsage}
		}
		c := all[i]
		c.rank = 0
		some = append(some, c)
	}
	return some, false, nil
}

// listing prints a table of these columns. On a terminal it fits the width: columns are left out, or if that isn't enough, each row is a block of lines.
func listing[T any](w io.Writer, columns []column[T], of []T) error {
	width, left := screenWidth(w), []string(nil)
	shown := slices.Clone(columns)
	for {
		head, rows := cells(shown, of)
		if needed := slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.rank > 0 }); width > 0 && narrowest(cells(needed, of)) > width {
			if len(of) == 0 {
				_, err := fmt.Fprintln(w, "(none)")
				return err
			}
			return blocks(w, columns, of)
		}
		drop := -1
		for i, c := range shown {
			if c.rank > 0 && (drop < 0 || c.rank >= shown[drop].rank) {
				drop = i
			}
		}
		if width == 0 || drop < 0 || tableWidth(widths(append([][]string{head}, rows...))) <= width {
			if err := table(w, head, rows); err != nil {
				return err
			}
			if len(rows) == 0 {
				_, err := fmt.Fprintln(w, "(none)")
				return err
			}
			if len(left) == 0 {
				return nil
			}
			_, err := fmt.Fprintf(w, "%s\n", wrapped("The terminal is too narrow for "+strings.Join(left, ", ")+": --columns chooses.", width))
			return err
		}
		left = append(left, columnName(shown[drop].head))
		shown = slices.Delete(shown, drop, drop+1)
	}
}

// blocks prints a line for each column of a row, and an empty one between rows.
func blocks[T any](w io.Writer, columns []column[T], of []T) error {
	head, rows := cells(columns, of)
	for i, row := range rows {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		var lines [][]string
		for j, cell := range row {
			lines = append(lines, []string{head[j], cell})
		}
		if err := table(w, lines[0], lines[1:]); err != nil {
			return err
		}
	}
	return nil
}

// narrowest returns how wide a table is at least, with all cells shortened.
func narrowest(head []string, rows [][]string) int {
	wide := widths(append([][]string{head}, rows...))
	for i := range wide {
		wide[i] = min(wide[i], leastOf(i, len(wide)))
	}
	return tableWidth(wide)
}

// leastOf returns what a column is at least shortened to. The last one has further lines, and needs room for words.
func leastOf(column, columns int) int {
	if column == columns-1 {
		return 2 * leastWidth
	}
	return leastWidth
}

func cells[T any](columns []column[T], of []T) (head []string, rows [][]string) {
	for _, c := range columns {
		head = append(head, c.head)
	}
	for _, one := range of {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.cell(one)
		}
		rows = append(rows, row)
	}
	return head, rows
}

// gap is the space between columns, leastWidth what a column is at least shortened to.
const (
	gap        = 2
	leastWidth = 8
)

// table prints rows in columns. On a terminal it fits the width: the widest columns are shortened, and the last one goes on in further lines.
func table(w io.Writer, head []string, rows [][]string) error {
	_, err := io.WriteString(w, fitted(append([][]string{head}, rows...), screenWidth(w)))
	return err
}

// fitted returns the lines of a table that is as wide as width at most, if that is possible; 0: it may have any width.
func fitted(rows [][]string, width int) string {
	wide := widths(rows)
	last := len(wide) - 1
	for width > 0 && tableWidth(wide) > width {
		widest := -1
		for i := range wide {
			if wide[i] > leastOf(i, len(wide)) && (widest < 0 || wide[i] > wide[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		wide[widest]--
	}
	var b strings.Builder
	indent := strings.Repeat(" ", tableWidth(wide)-wide[last])
	for _, row := range rows {
		for i, cell := range row {
			if i < last {
				cell = shortened(cell, wide[i])
				b.WriteString(cell + strings.Repeat(" ", wide[i]-utf8.RuneCountInString(cell)+gap))
				continue
			}
			if width > 0 {
				cell = strings.ReplaceAll(wrapped(cell, wide[last]), "\n", "\n"+indent)
			}
			b.WriteString(cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// widths returns how wide each column's widest cell is.
func widths(rows [][]string) []int {
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	return wide
}

// tableWidth returns how wide a table is.
func tableWidth(wide []int) int {
	n := gap * (len(wide) - 1)
	for _, one := range wide {
		n += one
	}
	return n
}

// shortened cuts a text that is longer than n runes.
func shortened(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n-1, 0)]) + "…"
}

// wrapped breaks a text into lines of n runes at most, between words where there are any; 0: any width.
func wrapped(s string, n int) string {
	if n <= 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= n {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for r := []rune(word); len(r) > n; r = []rune(word) {
			lines, word = append(lines, string(r[:n])), string(r[n:])
		}
		line = word
	}
	return strings.Join(append(lines, line), "\n")
}

// screenWidth returns how many columns the terminal has on which w writes; 0: it is none, or that isn't known.
func screenWidth(w io.Writer) int {
	width, _ := screen(w)
	return width
}

// screen returns the width and height of the terminal on which w writes; 0: it is none, or they aren't known.
func screen(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) //nolint:gosec // a descriptor is small
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
