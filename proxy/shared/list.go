package shared

import (
	"bytes"
	"slices"
	"strings"

	"imapproxy/proxy/wire"
)

// maxPattern bounds the patterns of a LIST that the namespace is matched with, maxPatterns their number, and maxAllPatterns all of them together: the time that
// a match takes grows with the pattern, and there may be 256,000 names.
const (
	maxPattern     = 512
	maxPatterns    = 32
	maxAllPatterns = 2048
)

// Listing is a LIST, LSUB or XLIST as far as the namespace is concerned.
type Listing struct {
	Verb     wire.Verb
	Patterns []string // with the reference in front
	Select   []string // selection options in upper case (RFC 5258, RFC 6154)
	Return   []string // return options in upper case
	Status   string   // the items of STATUS in Return, with parentheses (RFC 5819); "": none
	// Hierarchy: the command only asks for the separator of the hierarchy and the root of the reference (RFC 9051 §6.3.9).
	Hierarchy bool
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
		l.Hierarchy = one == ""
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

// Known says whether all options are known. A server answers others BAD (RFC 5258 §3).
func (l *Listing) Known() bool {
	unknown := func(known string) func(string) bool {
		return func(option string) bool { return !slices.Contains(strings.Fields(known), option) }
	}
	recurses := slices.Contains(l.Select, "RECURSIVEMATCH")
	return !slices.ContainsFunc(l.Select, unknown("SUBSCRIBED REMOTE RECURSIVEMATCH SPECIAL-USE")) && !slices.ContainsFunc(l.Return, unknown("SUBSCRIBED CHILDREN STATUS SPECIAL-USE MYRIGHTS METADATA")) &&
		(!recurses || slices.Contains(l.Select, "SUBSCRIBED") || slices.Contains(l.Select, "SPECIAL-USE")) // RFC 5258 §3.1: it needs another one, and REMOTE isn't one
}

// Recurses says whether parents are to be listed that aren't subscribed but have mailboxes below them that are (RFC 5258 §3.5).
func (l *Listing) Recurses() bool { return slices.Contains(l.Select, "RECURSIVEMATCH") }

// WantsLevel says whether a level of the hierarchy at which the user has no mailbox is to be listed:
//
//	LSUB                              if a pattern that ends with % matches it (RFC 3501 §6.3.9)
//	LIST (SUBSCRIBED)                 not, since it isn't subscribed (RFC 5258 §3)
//	LIST (SUBSCRIBED RECURSIVEMATCH)  if a mailbox below it isn't listed itself (below)
//	LIST                              if a pattern matches it
func (l *Listing) WantsLevel(name string, separator byte, below bool) bool {
	switch {
	case l.word() == "LSUB":
		return l.wants(name, separator, func(p string) bool { return strings.HasSuffix(p, "%") })
	case slices.Contains(l.Select, "SUBSCRIBED"):
		return below && l.Recurses() && l.Wants(name, separator)
	}
	return l.Wants(name, separator)
}

// Wants says whether a mailbox of this name is to be listed.
func (l *Listing) Wants(name string, separator byte) bool {
	return l.wants(name, separator, func(string) bool { return true })
}

// wants is Wants for some of the patterns.
func (l *Listing) wants(name string, separator byte, which func(pattern string) bool) bool {
	left := maxAllPatterns
	for _, p := range l.Patterns {
		if left -= len(p); left >= 0 && len(p) <= maxPattern && which(p) && Matches(p, name, separator) {
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

// word is that of the responses.
func (l *Listing) word() string {
	switch l.Verb {
	case wire.Lsub, wire.RLsub:
		return "LSUB"
	case wire.XList:
		return "XLIST"
	}
	return "LIST"
}

// AppendLine appends the response that lists a mailbox. Every mailbox of the namespace counts as subscribed. below: the response says that there are
// subscribed ones below it (RFC 5258 §4).
func (l *Listing) AppendLine(out []byte, n Space, name string, attributes []string, below bool) []byte {
	word := l.word()
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
	out = AppendName(append(out, ' '), name)
	if below && word == "LIST" {
		out = append(out, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	return append(out, "\r\n"...)
}

// Levels are the attributes of a level at which the user has no mailbox.
func Levels() []string { return []string{`\Noselect`, `\HasChildren`} }

// WithLevels adds the levels above the mailboxes of an owner at which the user has none, at most max. A client finds its way down by them, one level at a
// time (RFC 9051 §6.3.9).
func WithLevels(all []Entry, separator byte, max int) []Entry {
	known := make(map[string]bool, len(all))
	for _, e := range all {
		known[e.Name] = true
	}
	for _, e := range all {
		for i := strings.LastIndexByte(e.Name, separator); i > 0 && max > 0 && !known[e.Name[:i]]; i = strings.LastIndexByte(e.Name[:i], separator) {
			known[e.Name[:i]] = true
			all = append(all, Entry{Name: e.Name[:i], Attributes: Levels()})
			max--
		}
	}
	return all
}

func isUnselectable(a string) bool {
	return strings.EqualFold(a, `\Noselect`) || strings.EqualFold(a, `\NonExistent`)
}

// Selectable says whether a mailbox with these attributes can be selected.
func Selectable(attributes []string) bool { return !slices.ContainsFunc(attributes, isUnselectable) }
