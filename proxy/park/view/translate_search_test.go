package view

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// searchFinds draws a SEARCH and has both sides carry it out: as the client means it, by
// its numbers, and as the backend reads what it is sent. They find the same
// messages, less those that are gone.
func searchFinds(t *rapid.T, n SequenceMap, view, backend []uint32) {
	if len(view) == 0 {
		return
	}
	text := drawKey(t, len(view), 3)
	out, disposition := n.Command(nil, []byte("a SEARCH "+text+"\r\n"))
	if disposition != Relay {
		t.Fatalf("SEARCH %s was refused", text)
	}
	theirs := strings.TrimSuffix(strings.TrimPrefix(string(out), "a SEARCH "), "\r\n")
	want := find(t, text, view)
	want = slices.DeleteFunc(want, func(uid uint32) bool { return !slices.Contains(backend, uid) })
	if got := find(t, theirs, backend); !slices.Equal(got, want) {
		t.Fatalf("SEARCH %s is %s: UIDs %v, want %v", text, theirs, got, want)
	}
}

// drawKey draws a search key. Its strings look like sets, parentheses and literals.
func drawKey(t *rapid.T, count, depth int) string {
	kind := rapid.IntRange(0, 9).Draw(t, "key")
	if depth == 0 {
		kind %= 6
	}
	switch kind {
	case 0, 1, 2:
		set, _ := numbersIn(t, count)
		return set
	case 3:
		return "UID " + rapid.SampledFrom([]string{"1:5", "3,7:*", "*", "4"}).Draw(t, "uids")
	case 4:
		return rapid.SampledFrom([]string{"ALL", "SEEN", "LARGER 3"}).Draw(t, "plain")
	case 5:
		s := rapid.SampledFrom([]string{"3", "1:*", "(2)", "NOT 4", "{2}"}).Draw(t, "text")
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			return fmt.Sprintf("SUBJECT {%d}\r\n%s", len(s), s)
		case 1:
			return fmt.Sprintf("HEADER 2 {%d+}\r\n%s", len(s), s)
		}
		return `SUBJECT "` + s + `"`
	case 6:
		return "NOT " + drawKey(t, count, depth-1)
	case 7:
		return "OR " + drawKey(t, count, depth-1) + " " + drawKey(t, count, depth-1)
	}
	keys := []string{drawKey(t, count, depth-1)}
	for range rapid.IntRange(0, 2).Draw(t, "more") {
		keys = append(keys, drawKey(t, count, depth-1))
	}
	return "(" + strings.Join(keys, " ") + ")"
}

// finder carries out a search on messages, as simply as can be. A message is SEEN, and has a SUBJECT, by
// its UID alone.
type finder struct {
	t    failer
	rest string
	uids []uint32
}

func find(t failer, text string, uids []uint32) []uint32 {
	t.Helper()
	f := &finder{t: t, rest: text, uids: uids}
	matches := f.all()
	if f.rest != "" {
		t.Fatalf("%q: %q is left", text, f.rest)
	}
	var found []uint32
	for i, uid := range uids {
		if matches(i) {
			found = append(found, uid)
		}
	}
	return found
}

func (f *finder) word() string {
	i := strings.IndexAny(f.rest, " ()")
	if i < 0 {
		i = len(f.rest)
	}
	w := f.rest[:i]
	f.rest = strings.TrimPrefix(f.rest[i:], " ")
	return w
}

func (f *finder) all() func(int) bool {
	var keys []func(int) bool
	for f.rest != "" && f.rest[0] != ')' {
		keys = append(keys, f.key())
	}
	return func(i int) bool {
		for _, k := range keys {
			if !k(i) {
				return false
			}
		}
		return true
	}
}

func (f *finder) key() func(int) bool {
	if strings.HasPrefix(f.rest, "(") {
		f.rest = f.rest[1:]
		all := f.all()
		f.rest = strings.TrimPrefix(strings.TrimPrefix(f.rest, ")"), " ")
		return all
	}
	switch w := f.word(); w {
	case "ALL":
		return func(int) bool { return true }
	case "SEEN":
		return func(i int) bool { return f.uids[i]%2 == 0 }
	case "LARGER":
		f.word()
		return func(i int) bool { return f.uids[i]%3 == 0 }
	case "HEADER":
		f.word()
		return f.str()
	case "SUBJECT":
		return f.str()
	case "NOT":
		k := f.key()
		return func(i int) bool { return !k(i) }
	case "OR":
		a, b := f.key(), f.key()
		return func(i int) bool { return a(i) || b(i) }
	case "UID":
		set := f.word()
		last := 0
		if len(f.uids) > 0 {
			last = int(f.uids[len(f.uids)-1])
		}
		named := naiveSet(f.t, set, last)
		return func(i int) bool { return slices.Contains(named, int(f.uids[i])) }
	default:
		named := naiveSet(f.t, w, len(f.uids))
		return func(i int) bool { return slices.Contains(named, i+1) }
	}
}

func (f *finder) str() func(int) bool {
	var s string
	if strings.HasPrefix(f.rest, `"`) {
		s, f.rest, _ = strings.Cut(f.rest[1:], `"`)
	} else {
		spec, after, _ := strings.Cut(f.rest, "\r\n")
		var size int
		if _, err := fmt.Sscanf(spec, "{%d", &size); err != nil {
			f.t.Fatalf("%q: %v", f.rest, err)
		}
		s, f.rest = after[:size], after[size:]
	}
	f.rest = strings.TrimPrefix(f.rest, " ")
	return func(i int) bool { return (int(f.uids[i])+len(s))%2 == 0 }
}
