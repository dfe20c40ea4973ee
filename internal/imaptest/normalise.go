package imaptest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// rule replaces what a regular expression finds.
type rule struct {
	re   *regexp.Regexp
	with string
}

// ruleTable are the normalisers that a script or a comparison may ask for by
// name.
func ruleTable() map[string][]rule {
	r := func(re, with string) rule { return rule{regexp.MustCompile(re), with} }
	return map[string][]rule{
		"dates":    {r(`\b((?:INTERNALDATE|SAVEDATE)) (?:"[^"]*"|NIL)`, `$1 "<date>"`)},
		"modseq":   {r(`\b(HIGHESTMODSEQ|MODSEQ)( \(?)\d+`, `$1$2<modseq>`)},
		"objectid": {r(`\b(MAILBOXID|EMAILID|THREADID) (?:\([^)]*\)|NIL)`, `$1 (<id>)`)},
		"recent":   {r(`\\Recent ?`, ``), r(`\* \d+ RECENT`, `* <n> RECENT`), r(`\bRECENT \d+`, `RECENT <n>`)},
		"uidnext":  {r(`\bUIDNEXT \d+`, `UIDNEXT <n>`)},
		"size":     {r(`\b(RFC822\.SIZE|SIZE) \d+`, `$1 <n>`)},
		"quota":    {r(`\b(STORAGE|MESSAGE) \d+ (\d+)`, `$1 <n> $2`)},
		"text":     {r(`^(\S+ (?:OK|NO|BAD|BYE|PREAUTH)(?: \[[^\]]*\])?) .*`, `$1 <text>`)},
		"id":       {r(`^\* ID .*`, `* ID <fields>`)},
	}
}

// Normalisers are the names that a script's normalise line may have: dates,
// modseq, objectid, recent, uidnext, size, quota, text (of status responses)
// and id.
func Normalisers() []string { return slices.Sorted(maps.Keys(ruleTable())) }

// normaliser rewrites one recording's responses; it remembers UIDVALIDITYs.
type normaliser struct {
	rules      []rule
	ignoreCaps []string
	validities map[string]string
	validity   *regexp.Regexp
}

func newNormaliser(names, ignoreCaps []string) (*normaliser, error) {
	n := &normaliser{
		ignoreCaps: ignoreCaps, validities: map[string]string{},
		validity: regexp.MustCompile(`\b(UIDVALIDITY[ =]|APPENDUID |COPYUID )(\d+)`),
		rules: []rule{
			// Dovecot: "Fetch completed (0.001 + 0.000 + 0.001 secs)."
			{regexp.MustCompile(`\(\d+\.\d+(?: \+ \d+\.\d+)*(?: secs)?\)`), "(<time>)"},
			// Cyrus: "Completed (0.040 sec)", "(2 msgs in 0.000 secs)", SESSIONID
			{regexp.MustCompile(`\b\d+\.\d{3} secs?\b`), "<time>"},
			{regexp.MustCompile(`SESSIONID=<[^>]*>`), "SESSIONID=<id>"},
		},
	}
	table := ruleTable()
	for _, name := range names {
		rules, ok := table[name]
		if !ok {
			return nil, fmt.Errorf("no normaliser %q; there are %s", name, strings.Join(Normalisers(), ", "))
		}
		n.rules = append(n.rules, rules...)
	}
	return n, nil
}

func (n *normaliser) apply(r Response) string {
	text := n.caps(r.digested())
	text = n.validity.ReplaceAllStringFunc(text, func(s string) string {
		m := n.validity.FindStringSubmatch(s)
		v, ok := n.validities[m[2]]
		if !ok {
			v = fmt.Sprintf("<v%d>", len(n.validities)+1)
			n.validities[m[2]] = v
		}
		return m[1] + v
	})
	for _, rule := range n.rules {
		text = rule.re.ReplaceAllString(text, rule.with)
	}
	return text
}

// caps leaves the ignored capabilities out of a list, in a CAPABILITY response
// or code; the order of the rest stays.
func (n *normaliser) caps(text string) string {
	if len(n.ignoreCaps) == 0 {
		return text
	}
	start := strings.Index(text, "[CAPABILITY ")
	end := len(text)
	switch {
	case strings.HasPrefix(text, "* CAPABILITY "):
		start = len("* ")
	case start >= 0 && strings.IndexByte(text[start:], ']') > 0:
		end = start + strings.IndexByte(text[start:], ']')
		start++
	default:
		return text
	}
	kept := slices.DeleteFunc(strings.Fields(text[start:end]), n.ignored)
	return text[:start] + strings.Join(kept, " ") + text[end:]
}

func (n *normaliser) ignored(capability string) bool {
	for _, i := range n.ignoreCaps {
		if prefix, ok := strings.CutSuffix(i, "*"); ok && strings.HasPrefix(capability, prefix) || strings.EqualFold(i, capability) {
			return true
		}
	}
	return false
}
