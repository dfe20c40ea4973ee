package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" placeholder:"SHELL" help:"bash, zsh or fish."`
}

// Run prints a script that completes verbs and flags, made from the same declarations as --help.
func (c completionCommand) Run(env environment, line *kong.Context) error {
	if c.Shell == "fish" {
		return fishCompletion(env.stdout, line.Model.Node)
	}
	return bashCompletion(env.stdout, line.Model.Node, c.Shell == "zsh")
}

// completed is what may follow a verb.
type completed struct {
	path  string // the verbs, by spaces; "": none yet
	help  string
	verbs []*kong.Node
	flags []*kong.Flag
}

// completions returns the verbs below a node and the node itself, each before those below it.
func completions(n *kong.Node, path string) (all []completed) {
	one := completed{path: path, help: n.Help}
	for _, f := range n.Flags {
		if !f.Hidden {
			one.flags = append(one.flags, f)
		}
	}
	if d := n.DefaultCmd; d != nil { // its flags may follow the verb above it
		one.flags = append(one.flags, d.Flags...)
	}
	for _, c := range n.Children {
		if c.Type == kong.CommandNode && !c.Hidden {
			one.verbs = append(one.verbs, c)
		}
	}
	all = append(all, one)
	for _, c := range one.verbs {
		all = append(all, completions(c, strings.TrimSpace(path+" "+c.Name))...)
	}
	return all
}

// files says whether a flag's value is a file's name.
func files(f *kong.Flag) bool { return f.PlaceHolder == "FILE" }

// bashCompletion prints the script for bash, which zsh takes as well.
func bashCompletion(w io.Writer, root *kong.Node, zsh bool) error {
	var b strings.Builder
	b.WriteString("# Completion of imapproxy. Made by: imapproxy completion ")
	if zsh {
		b.WriteString("zsh\nautoload -U +X bashcompinit && bashcompinit\n")
	} else {
		b.WriteString("bash\n")
	}
	var paths, names []string
	for _, c := range completions(root, "") {
		if c.path != "" {
			paths = append(paths, "'"+c.path+"'")
		}
		for _, f := range c.flags {
			if name := "--" + f.Name; files(f) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	b.WriteString(`_imapproxy() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" path="" word words=""
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "${path:+$path }$word" in
`)
	fmt.Fprintf(&b, "      %s) path=\"${path:+$path }$word\" ;;\n    esac\n  done\n", strings.Join(paths, "|"))
	fmt.Fprintf(&b, "  case \"$prev\" in\n    %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n  esac\n", strings.Join(names, "|"))
	b.WriteString("  case \"$path\" in\n")
	for _, c := range completions(root, "") {
		var words []string
		for _, v := range c.verbs {
			words = append(words, v.Name)
		}
		for _, f := range c.flags {
			words = append(words, "--"+f.Name)
		}
		if c.path == "completion" {
			words = append(words, "bash", "zsh", "fish")
		}
		fmt.Fprintf(&b, "    '%s') words=\"%s\" ;;\n", c.path, strings.Join(words, " "))
	}
	b.WriteString("  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _imapproxy imapproxy\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// fishCompletion prints the script for fish.
func fishCompletion(w io.Writer, root *kong.Node) error {
	var b strings.Builder
	b.WriteString("# Completion of imapproxy. Made by: imapproxy completion fish\ncomplete -c imapproxy -f\n")
	quoted := func(s string) string {
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
	}
	for _, c := range completions(root, "") {
		when := "__fish_use_subcommand"
		if verbs := strings.Fields(c.path); len(verbs) > 0 {
			for i, v := range verbs {
				verbs[i] = "__fish_seen_subcommand_from " + v
			}
			when = strings.Join(verbs, "; and ")
		}
		for _, v := range c.verbs {
			fmt.Fprintf(&b, "complete -c imapproxy -n %s -a %s -d %s\n", quoted(when), v.Name, quoted(v.Help))
		}
		for _, f := range c.flags {
			value := ""
			if files(f) {
				value = " -r -F"
			} else if !f.IsBool() {
				value = " -x"
			}
			fmt.Fprintf(&b, "complete -c imapproxy -n %s -l %s%s -d %s\n", quoted(when), f.Name, value, quoted(f.Help))
		}
	}
	b.WriteString("complete -c imapproxy -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n")
	_, err := io.WriteString(w, b.String())
	return err
}
