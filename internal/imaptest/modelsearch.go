package imaptest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// searches executes SEARCH and SORT, with the keys that the tests use.
func (s *modelSession) searches(cmd Command, byUID bool) string {
	words := strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(cmd.Args))
	uids := slices.Clone(s.view)
	gone := s.rng.IntN(2) == 0 // what is gone and wasn't told may still be found
	uids = slices.DeleteFunc(uids, func(uid uint32) bool { return s.box.Find(uid) == nil && !gone })
	extended := false
	for i := 0; i < len(words); i++ {
		var keep func(*ModelMessage, uint32) bool
		switch word := words[i]; word {
		case "RETURN":
			extended = true
			continue
		case "DELETED":
			keep = func(m *ModelMessage, _ uint32) bool { return m != nil && slices.Contains(m.Flags, `\Deleted`) }
		case "KEYWORD":
			i++
			keyword := words[i]
			keep = func(m *ModelMessage, _ uint32) bool { return m != nil && slices.Contains(m.Flags, keyword) }
		case "NOT": // only NOT ALL is used
			i++
			keep = func(*ModelMessage, uint32) bool { return false }
		case "UID":
			i++
			set := s.set(words[i], true)
			keep = func(_ *ModelMessage, uid uint32) bool { return slices.Contains(set, uid) }
		default:
			if word[0] != '*' && (word[0] < '0' || word[0] > '9') {
				continue // ALL and what comes after RETURN or SORT
			}
			set := s.set(word, false)
			keep = func(_ *ModelMessage, uid uint32) bool { return slices.Contains(set, uid) }
		}
		uids = slices.DeleteFunc(uids, func(uid uint32) bool { return !keep(s.box.Find(uid), uid) })
	}
	found := uids
	if !byUID {
		found = nil
		for _, uid := range uids {
			found = append(found, uint32(s.number(uid)))
		}
	}
	if extended && s.o.QResync {
		line := fmt.Sprintf("* ESEARCH (TAG %q)", cmd.Tag())
		if byUID {
			line += " UID"
		}
		if len(found) > 0 {
			line += fmt.Sprintf(" MIN %d MAX %d ALL %s", found[0], found[len(found)-1], uidSet(found))
		}
		s.say("%s COUNT %d", line, len(found))
		return "OK done"
	}
	line := "* SEARCH"
	if strings.HasSuffix(cmd.Name, "SORT") {
		line = "* SORT"
		slices.Reverse(found)
	}
	for _, n := range found {
		line += " " + strconv.Itoa(int(n))
	}
	s.say("%s", line)
	return "OK done"
}
