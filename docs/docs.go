// Package docs has the parts of this folder that the program itself shows.
//
// Imports none of our packages. Imported by cmd/imapproxy and
// internal/admin.
package docs

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed operations.md
var operations string

//go:embed authentication.md
var authentication string

// Reason is a row of operations.md: why a session ended, why it isn't parked, or a problem; or of authentication.md: why a login failed.
type Reason struct {
	Name string // as in logs, metrics and the admin API
	Kind string // the section's heading
	What string // what happened
	Bye  string // the response code of the proxy's BYE; "": a reason without BYE
	Do   string // what to look at, or what can be done; "": nothing
}

// The Kinds of the reasons why sessions end and why logins fail.
const (
	WhyEnded  = "Why sessions end"
	WhyFailed = "Why logins fail"
)

// Reasons returns the rows of the tables of reasons, in their order. It panics if a file has another form, which the build
// decides and a test finds.
func Reasons() []Reason {
	all := append(append(rows(WhyEnded, 4), rows("Why isn't it parked", 3)...), rows("Problems", 3)...)
	for _, r := range table("authentication.md", authentication, WhyFailed, 3) {
		all = append(all, Reason{Name: r.Name, Kind: r.Kind, What: r.Do, Do: map[string]string{"yes": "fail2ban counts it"}[r.What]})
	}
	return all
}

// rows reads the table of a section of operations.md whose rows have so many columns.
func rows(section string, columns int) []Reason {
	return table("operations.md", operations, section, columns)
}

// table reads the table of a section of a file. What stands in the second column is What, in the last one Do.
func table(file, text, section string, columns int) (all []Reason) {
	_, text, ok := strings.Cut(text, "\n## "+section+"\n")
	if !ok {
		panic(fmt.Sprintf("docs: %s has no section %q", file, section))
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		row := strings.TrimSpace(line)
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		row = strings.TrimSuffix(strings.TrimPrefix(row, "|"), "|")
		cells := strings.Split(row, " | ")
		if len(cells) != columns {
			panic(fmt.Sprintf("docs: %s: a row of %q has %d columns, not %d: %s", file, section, len(cells), columns, row))
		}
		r := Reason{Name: strings.Trim(strings.TrimSpace(cells[0]), "`"), Kind: section, What: cell(cells[1]), Do: cell(cells[columns-1])}
		if columns == 4 {
			r.Bye = cell(cells[2])
		}
		all = append(all, r)
	}
	return all
}

// cell returns the text of a table's cell without its markup.
func cell(s string) string {
	s = strings.TrimSpace(s)
	if s == "–" {
		return ""
	}
	var b strings.Builder
	for {
		before, rest, link := strings.Cut(s, "[")
		text, target, closed := strings.Cut(rest, "](")
		if !link || !closed {
			break
		}
		file, after, _ := strings.Cut(target, ")")
		switch {
		case strings.HasPrefix(file, "#"):
			b.WriteString(before + text)
		case file == text:
			b.WriteString(before + "docs/" + file)
		default:
			b.WriteString(before + text + " (docs/" + file + ")")
		}
		s = after
	}
	return strings.ReplaceAll(b.String()+s, "`", "")
}
