package view

import (
	"errors"
	"slices"
	"sort"
	"strings"
)

// Flags is a set of flags in normal form: one space-separated string, sorted, without \Recent and duplicates;
// the flags of RFC 9051 §2.3.2 in the RFC's spelling. Two Flags with the same flags are equal except for the
// case of keywords, which a mailbox keeps as they were first set. ParseFlags makes them.
type Flags string

// errFlags means that the text between the parentheses isn't a list of flags.
var errFlags = errors.New("not a list of flags")

var systemFlags = [...]string{`\Answered`, `\Deleted`, `\Draft`, `\Flagged`, `\Seen`, `\*`}

// ParseFlags parses the flag list of FLAGS, PERMANENTFLAGS and FETCH (RFC 9051 §9 flag-list), with or without
// its parentheses.
func ParseFlags(b []byte) (Flags, error) {
	if n := len(b); n >= 2 && b[0] == '(' && b[n-1] == ')' {
		b = b[1 : n-1]
	}
	var list []string
	for len(b) > 0 {
		flag := b
		if i := strings.IndexByte(string(b), ' '); i >= 0 {
			flag, b = b[:i], b[i+1:]
			if len(b) == 0 {
				return "", errFlags
			}
		} else {
			b = nil
		}
		name := string(flag)
		if !validFlag(name) {
			return "", errFlags
		}
		if strings.EqualFold(name, `\Recent`) {
			continue
		}
		for _, s := range systemFlags {
			if strings.EqualFold(name, s) {
				name = s
			}
		}
		list = append(list, name)
	}
	return joinFlags(list), nil
}

// validFlag checks RFC 9051 §9 flag: a keyword, or "\" and an atom, or "\*". Eight-bit keywords are accepted,
// since servers keep the keywords that clients set.
func validFlag(s string) bool {
	if s == `\*` {
		return true
	}
	s = strings.TrimPrefix(s, `\`)
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`(){%*"\`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func joinFlags(list []string) Flags {
	sort.Slice(list, func(i, j int) bool { return foldLess(list[i], list[j]) })
	list = slices.CompactFunc(list, strings.EqualFold)
	return Flags(strings.Join(list, " "))
}

func foldLess(a, b string) bool {
	x, y := strings.ToLower(a), strings.ToLower(b)
	if x != y {
		return x < y
	}
	return a < b
}

// Equal says whether f and g have the same flags; case is ignored.
func (f Flags) Equal(g Flags) bool { return f == g || strings.EqualFold(string(f), string(g)) }

// Has says whether f has flag; case is ignored.
func (f Flags) Has(flag string) bool {
	for name := range strings.SplitSeq(string(f), " ") {
		if name != "" && strings.EqualFold(name, flag) {
			return true
		}
	}
	return false
}

// Lacks says whether g has a flag that f doesn't have.
func (f Flags) Lacks(g Flags) bool {
	for name := range strings.SplitSeq(string(g), " ") {
		if name != "" && !f.Has(name) {
			return true
		}
	}
	return false
}

// Meets says whether f and g have a flag in common.
func (f Flags) Meets(g Flags) bool {
	for name := range strings.SplitSeq(string(g), " ") {
		if name != "" && f.Has(name) {
			return true
		}
	}
	return false
}

// AppendTo appends f in parentheses.
func (f Flags) AppendTo(dst []byte) []byte {
	dst = append(dst, '(')
	dst = append(dst, f...)
	return append(dst, ')')
}

// Without returns f without the flags of g.
func (f Flags) Without(g Flags) Flags {
	return joinFlags(slices.DeleteFunc(strings.Fields(string(f)), g.Has))
}

// IsUnion says whether f is the union of a and b.
func (f Flags) IsUnion(a, b Flags) bool {
	if f.Lacks(a) || f.Lacks(b) {
		return false
	}
	for name := range strings.SplitSeq(string(f), " ") {
		if name != "" && !a.Has(name) && !b.Has(name) {
			return false
		}
	}
	return true
}

// IsWithout says whether f is a without the flags of b.
func (f Flags) IsWithout(a, b Flags) bool {
	if a.Lacks(f) || f.Meets(b) {
		return false
	}
	for name := range strings.SplitSeq(string(a), " ") {
		if name != "" && !b.Has(name) && !f.Has(name) {
			return false
		}
	}
	return true
}

// Union returns the flags of f and g.
func (f Flags) Union(g Flags) Flags { return f.union(g) }

func (f Flags) union(g Flags) Flags {
	return joinFlags(append(strings.Fields(string(f)), strings.Fields(string(g))...))
}

// FlagChange has the current flags of one message.
type FlagChange struct {
	UID    uint32
	Flags  Flags
	ModSeq uint64 // 0: unknown
}
