package imaptest

import (
	"slices"
	"strconv"
	"strings"
)

// set is what a set means to this client, as UIDs. RFC 9051 §9 seq-number: "*" is the
// largest in use.
func (s *modelSession) set(set string, byUID bool) (uids []uint32) {
	number := func(word string) int {
		switch {
		case word != "*":
			return atoi(word)
		case !byUID:
			return len(s.view)
		case len(s.view) == 0:
			return 0
		}
		return int(s.view[len(s.view)-1])
	}
	for element := range strings.SplitSeq(set, ",") {
		low, high, ok := strings.Cut(element, ":")
		if !ok {
			high = low
		}
		first, last := number(low), number(high)
		if first > last {
			first, last = last, first
		}
		for i, uid := range s.view {
			n := i + 1
			if byUID {
				n = int(uid)
			}
			if n >= first && n <= last && !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
	}
	slices.Sort(uids)
	return uids
}

func (s *modelSession) number(uid uint32) int { return slices.Index(s.view, uid) + 1 }

// uidSet writes ascending numbers as ranges.
func uidSet(n []uint32) string {
	var b strings.Builder
	for i := 0; i < len(n); i++ {
		first := i
		for i+1 < len(n) && n[i+1] == n[i]+1 {
			i++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(n[first])))
		if i > first {
			b.WriteString(":" + strconv.Itoa(int(n[i])))
		}
	}
	return b.String()
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
