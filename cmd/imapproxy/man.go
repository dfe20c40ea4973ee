package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type manCommand struct{}

// Run prints the manual page imapproxy(1), made from the same declarations as --help.
func (manCommand) Run(env environment, line *kong.Context) error {
	return manual(env.stdout, line.Model)
}

// roff returns a text for a manual page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", "'").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// manual prints the page.
func manual(w io.Writer, app *kong.Application) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH IMAPPROXY 1 \"\" \"imapproxy\" \"User Commands\"\n.SH NAME\nimapproxy \\- IMAP proxy and load balancer\n.SH SYNOPSIS\n.B imapproxy\n.I COMMAND\n[\\fIFLAGS\\fR]\n")
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n.SH COMMANDS\n", roff(app.Help))
	all := completions(app.Node, "")
	for _, c := range all[1:] {
		synopsis := "\\fBimapproxy " + roff(c.path) + "\\fR"
		for _, a := range positionals(app.Node, c.path) {
			synopsis += " \\fI" + roff(a) + "\\fR"
		}
		fmt.Fprintf(&b, ".SS %s\n%s\n", synopsis, roff(c.help))
		for _, f := range c.flags {
			value := ""
			if !f.IsBool() {
				value = "=\\fI" + roff(f.FormatPlaceHolder()) + "\\fR"
			}
			fmt.Fprintf(&b, ".TP\n\\fB\\-\\-%s\\fR%s\n%s\n", roff(f.Name), value, roff(f.Help))
		}
	}
	b.WriteString(`.SH EXIT STATUS
.TP
0
success
.TP
1
failure, or a fault that was found
.TP
2
a wrong command line or configuration
.SH FILES
/etc/imapproxy/config.hcl, by the unit of systemd
.SH SEE ALSO
The documentation in docs/ and the commented config.hcl of the source.
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// positionals returns what follows a verb, as --help shows it.
func positionals(n *kong.Node, path string) (all []string) {
	for _, name := range strings.Fields(path) {
		for _, c := range n.Children {
			if c.Name == name {
				n = c
				break
			}
		}
	}
	for _, p := range n.Positional {
		s := p.Summary()
		if p.Tag != nil && p.Tag.PlaceHolder != "" {
			s = p.Tag.PlaceHolder
			if !p.Required {
				s = "[" + s + "]"
			}
		}
		all = append(all, s)
	}
	return all
}
