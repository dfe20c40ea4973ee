package shared

import (
	"bytes"
	"slices"
	"strings"

	"imapproxy/proxy/wire"
)

// maxPattern bounds the patterns of a LIST that the namespace is matched with, maxPatterns their number.
const (
	maxPattern  = 512
	maxPatterns = 32
)

// Listing is a LIST, LSUB or XLIST as far as the namespace is concerned.
type Listing struct {
	Verb     wire.Verb
	Patterns []string // with the reference in front
	Select   []string // selection options in upper case (RFC 5258, RFC 6154)
	Return   []string // return options in upper case
	Status   string   // the items of STATUS in Return, with parentheses (RFC 5819); "": none
}

// ParseList reads a command LIST, LSUB or XLIST. The error is ErrMore or wire.ErrSyntax.
func ParseList(cmd []byte) (Listing, error) {
	h := wire.ParseCommandHead(cmd)
	l := Listing{Verb: h.Verb}
	b := h.Args
	if len(b) > 0 && b[0] == '(' {
		value, rest, err := wire.ItemValue(b)
		if err != nil || len(rest) == 0 || rest[0] != ' ' {
			return l, wire.ErrSyntax
		}
		l.Select = words(value)
		b = rest[1:]
	}
	reference, b, err := pattern(b)
	if err != nil {
		return l, err
	}
	if len(b) == 0 || b[0] != ' ' {
		return l, wire.ErrSyntax
	}
	b = b[1:]
	var patterns []string
	if len(b) > 0 && b[0] == '(' {
		b = b[1:]
		for {
			one, rest, err := pattern(b)
			if err != nil {
				return l, err
			}
			patterns = append(patterns, one)
			if len(rest) == 0 || len(patterns) > maxPatterns {
				return l, wire.ErrSyntax
			}
			b = rest[1:]
			if rest[0] == ')' {
				break
			}
			if rest[0] != ' ' {
				return l, wire.ErrSyntax
			}
		}
	} else {
		one, rest, err := pattern(b)
		if err != nil {
			return l, err
		}
		patterns, b = append(patterns, one), rest
	}
	if slices.ContainsFunc(append(patterns, reference), func(p string) bool { return !CanSend(p) }) {
		return l, wire.ErrSyntax
	}
	for _, p := range patterns {
		l.Patterns = append(l.Patterns, reference+p)
	}
	return l, l.returns(bytes.TrimLeft(b, " "))
}

// returns reads RETURN and its options, in b or nothing.
func (l *Listing) returns(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	word, list, _ := bytes.Cut(b, []byte(" "))
	if !wire.Is(word, "RETURN") || len(list) < 2 || list[0] != '(' || list[len(list)-1] != ')' {
		return wire.ErrSyntax
	}
	list = append(bytes.Clone(list[1:len(list)-1]), ' ') // ItemValue wants an end
	for list = bytes.TrimLeft(list, " "); len(list) > 0; {
		value, rest, err := wire.ItemValue(list)
		if err != nil {
			return wire.ErrSyntax
		}
		list = bytes.TrimLeft(rest, " ")
		option := strings.ToUpper(string(value))
		if value[0] == '(' {
			if n := len(l.Return); n > 0 && l.Return[n-1] == "STATUS" {
				if strings.ContainsFunc(option, func(r rune) bool { return (r < 'A' || r > 'Z') && r != ' ' && r != '(' && r != ')' && r != '-' }) {
					return wire.ErrSyntax
				}
				l.Status = option
			}
			continue
		}
		l.Return = append(l.Return, option)
	}
	return nil
}

// pattern reads a list-mailbox: an astring that may have % and *, and ].
func pattern(b []byte) (string, []byte, error) {
	if len(b) > 0 && (b[0] == '"' || b[0] == '{') {
		name, err := nameAt(b, 0)
		if err != nil {
			return "", nil, err
		}
		return name.Value, b[name.To:], nil
	}
	to := 0
	for to < len(b) && b[to] != ' ' && b[to] != ')' && b[to] != '(' && b[to] > ' ' {
		to++
	}
	if to == 0 {
		return "", nil, wire.ErrSyntax
	}
	return string(b[:to]), b[to:], nil
}

func words(list []byte) []string {
	return strings.Fields(strings.ToUpper(string(bytes.Trim(list, "()"))))
}

// OnlyOurs says whether all patterns can only match names in the namespace, so that the user's own backend
// needn't be asked.
func (l *Listing) OnlyOurs(n Space) bool {
	return !slices.ContainsFunc(l.Patterns, func(p string) bool { return !strings.HasPrefix(p, n.Prefix) })
}

// Hierarchy says whether the command only asks for the separator of the hierarchy (RFC 9051 §6.3.9).
func (l *Listing) Hierarchy() bool { return len(l.Patterns) == 1 && l.Patterns[0] == "" }

// Wants says whether a mailbox of this name is to be listed.
func (l *Listing) Wants(name string, separator byte) bool {
	for _, p := range l.Patterns {
		if len(p) <= maxPattern && Matches(p, name, separator) {
			return true
		}
	}
	return false
}

// MayWantBelow says whether names that begin with prefix may be wanted: the texts up to the patterns' first wildcards don't rule
// it out.
func (l *Listing) MayWantBelow(prefix string) bool {
	for _, p := range l.Patterns {
		fixed := p
		if i := strings.IndexAny(p, "*%"); i >= 0 {
			fixed = p[:i]
		}
		if strings.HasPrefix(prefix, fixed) && len(fixed) < len(p) || strings.HasPrefix(fixed, prefix) {
			return true
		}
	}
	return false
}

// Excludes says whether the selection options leave all shared mailboxes out: special uses are the owner's, not the
// user's.
func (l *Listing) Excludes() bool { return slices.Contains(l.Select, "SPECIAL-USE") }

// Matches says whether a name matches a pattern of LIST (RFC 9051 §6.3.9): * is anything, % anything without a separator.
func Matches(pattern, name string, separator byte) bool {
	// at[j]: the pattern up to j matches the name so far.
	at := make([]bool, len(pattern)+1)
	at[0] = true
	open := func() {
		for j := 0; j < len(pattern); j++ {
			if at[j] && (pattern[j] == '*' || pattern[j] == '%') {
				at[j+1] = true
			}
		}
	}
	open()
	for i := 0; i < len(name); i++ {
		for j := len(pattern); j > 0; j-- {
			switch pattern[j-1] {
			case '*':
				at[j] = at[j] || at[j-1]
			case '%':
				at[j] = (at[j] || at[j-1]) && name[i] != separator
			default:
				at[j] = at[j-1] && pattern[j-1] == name[i]
			}
		}
		at[0] = false
		open()
	}
	return at[len(pattern)]
}

// kept are the attributes of an owner's mailbox that mean the same for others. A special use doesn't: a client would take the
// owner's Sent for its user's.
var kept = []string{`\NOSELECT`, `\NONEXISTENT`, `\NOINFERIORS`, `\HASCHILDREN`, `\HASNOCHILDREN`, `\MARKED`, `\UNMARKED`}

// AppendLine appends the response that lists a mailbox. subscribed: the client asked for that, and every mailbox of the
// namespace counts as subscribed.
func (l *Listing) AppendLine(out []byte, n Space, name string, attributes []string) []byte {
	word := "LIST"
	switch l.Verb {
	case wire.Lsub, wire.RLsub:
		word = "LSUB"
	case wire.XList:
		word = "XLIST"
	}
	out = append(append(append(out, "* "...), word...), " ("...)
	gap := false
	add := func(a string) {
		if gap {
			out = append(out, ' ')
		}
		out, gap = append(out, a...), true
	}
	for _, a := range attributes {
		upper := strings.ToUpper(a)
		if slices.Contains(kept, upper) && (word != "LSUB" || upper == `\NOSELECT`) {
			add(a)
		}
	}
	if word == "LIST" && (slices.Contains(l.Return, "SUBSCRIBED") || slices.Contains(l.Select, "SUBSCRIBED")) && !slices.ContainsFunc(attributes, isUnselectable) {
		add(`\Subscribed`)
	}
	out = wire.AppendQuoted(append(out, ") "...), string(n.Separator()))
	return append(AppendName(append(out, ' '), name), "\r\n"...)
}

func isUnselectable(a string) bool {
	return strings.EqualFold(a, `\Noselect`) || strings.EqualFold(a, `\NonExistent`)
}

// Selectable says whether a mailbox with these attributes can be selected.
func Selectable(attributes []string) bool { return !slices.ContainsFunc(attributes, isUnselectable) }
