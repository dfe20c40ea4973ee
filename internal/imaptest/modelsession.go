package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// selects is SELECT and EXAMINE (RFC 9051 §6.3.2; RFC 7162 §3.2.5).
func (s *modelSession) selects(cmd Command, name string) string {
	if s.box != nil {
		s.say("* OK [CLOSED] Previous mailbox closed")
	}
	s.box = nil
	box := s.find(name)
	if box == nil {
		return "NO [NONEXISTENT] no such mailbox"
	}
	if strings.Contains(cmd.Args, "(CONDSTORE)") {
		s.dialect = max(s.dialect, ModelCondStore)
	}
	s.box, s.readOnly, s.view, s.told, s.flags = box, cmd.Name == "EXAMINE", box.UIDs(), map[uint32]uint64{}, len(box.flags)
	for _, m := range box.Messages {
		s.told[m.UID] = m.ModSeq
	}
	s.say("* FLAGS (%s)", strings.Join(box.flags, " "))
	s.say("* OK [PERMANENTFLAGS (%s \\*)] kept", strings.Join(box.flags, " "))
	s.say("* %d EXISTS", len(s.view))
	s.say("* 0 RECENT")
	s.say("* OK [UIDVALIDITY %d] valid", box.UIDValidity)
	s.say("* OK [UIDNEXT %d] next", box.UIDNext)
	if s.o.QResync {
		s.say("* OK [HIGHESTMODSEQ %d] highest", box.ModSeq)
	}
	if _, params, ok := strings.Cut(cmd.Args, "(QRESYNC ("); ok {
		if s.dialect != ModelQResync {
			s.box = nil
			return "BAD QRESYNC isn't enabled"
		}
		s.since(strings.Fields(strings.Trim(params, "()")))
	}
	if s.readOnly {
		return "OK [READ-ONLY] done"
	}
	return "OK [READ-WRITE] done"
}

// since tells what has changed since a mod-sequence.
func (s *modelSession) since(words []string) {
	validity, modSeq := atoi(words[0]), uint64(atoi(words[1]))
	if uint32(validity) != s.box.UIDValidity || modSeq > s.box.ModSeq {
		return
	}
	known := s.box.UIDNext
	if len(words) > 2 {
		_, last, _ := strings.Cut(words[2], ":")
		known = uint32(atoi(last)) + 1
	}
	var gone []uint32
	if s.rng.IntN(4) == 0 { // its history was purged
		for uid := uint32(1); uid < known; uid++ {
			if s.box.Find(uid) == nil {
				gone = append(gone, uid)
			}
		}
	} else {
		for _, m := range s.box.Gone {
			if m.ModSeq > modSeq && m.UID < known {
				gone = append(gone, m.UID)
			}
		}
	}
	if len(gone) > 0 {
		s.say("* VANISHED (EARLIER) %s", uidSet(gone))
	}
	for i, m := range s.box.Messages {
		if m.ModSeq > modSeq {
			s.fetch(i+1, m, true, true, "")
		}
	}
}

// sync tells what others did: what is gone only if that may be told now (RFC 9051
// §7.5.1).
func (s *modelSession) sync(expunge bool) {
	if s.box == nil {
		return
	}
	if expunge {
		var gone []uint32
		for i := len(s.view) - 1; i >= 0; i-- {
			if uid := s.view[i]; s.box.Find(uid) == nil {
				gone = append(gone, uid)
				s.view = slices.Delete(s.view, i, i+1)
				if s.dialect != ModelQResync {
					s.say("* %d EXPUNGE", i+1)
				}
			}
		}
		if len(gone) > 0 && s.dialect == ModelQResync {
			slices.Sort(gone)
			s.say("* VANISHED %s", uidSet(gone))
		}
	}
	last := uint32(0)
	if n := len(s.view); n > 0 {
		last = s.view[n-1]
	}
	count := len(s.view)
	for _, m := range s.box.Messages {
		// What came and went unseen was never counted; told is what the client would
		// fetch for itself.
		if _, counted := s.told[m.UID]; m.UID > last && !counted {
			s.view = append(s.view, m.UID)
			s.told[m.UID] = m.ModSeq
		}
	}
	if len(s.view) != count {
		s.say("* %d EXISTS", len(s.view))
	}
	s.keywords()
	for i, uid := range s.view {
		if m := s.box.Find(uid); m != nil && m.ModSeq > s.told[uid] {
			s.fetch(i+1, *m, s.dialect == ModelQResync, true, "")
		}
	}
}

// keywords tells of new ones, before a message has them.
func (s *modelSession) keywords() {
	if s.flags != len(s.box.flags) {
		s.flags = len(s.box.flags)
		s.say("* FLAGS (%s)", strings.Join(s.box.flags, " "))
	}
}

// after is what the client hears behind a command's own responses.
func (s *modelSession) after(verb string) {
	switch verb {
	case "FETCH", "STORE", "SEARCH", "SORT":
		if s.rng.IntN(3) > 0 {
			s.sync(false)
		}
	default:
		if s.rng.IntN(3) > 0 || strings.HasSuffix(verb, "EXPUNGE") || strings.HasSuffix(verb, "MOVE") {
			s.sync(true)
		}
	}
}

// modSeqCode is the bound that a client may cache: only when it knows all there is.
func (s *modelSession) modSeqCode() string {
	if s.box == nil || s.dialect != ModelQResync || !slices.Equal(s.view, s.box.UIDs()) {
		return ""
	}
	for _, m := range s.box.Messages {
		if s.told[m.UID] != m.ModSeq {
			return ""
		}
	}
	return fmt.Sprintf("[HIGHESTMODSEQ %d] ", s.box.ModSeq)
}

func (s *modelSession) fetch(n int, m ModelMessage, uid, flags bool, text string) {
	var items []string
	if uid {
		items = append(items, fmt.Sprintf("UID %d", m.UID))
	}
	if flags {
		s.keywords()
		items = append(items, "FLAGS ("+strings.Join(m.Flags, " ")+")")
		s.told[m.UID] = m.ModSeq
		if s.dialect != ModelPlain {
			items = append(items, fmt.Sprintf("MODSEQ (%d)", m.ModSeq))
		}
	}
	if text != "" {
		items = append(items, text)
	}
	s.say("* %d FETCH (%s)", n, strings.Join(items, " "))
}

// selected is a command on messages.
func (s *modelSession) selected(cmd Command) string {
	verb, byUID := strings.CutPrefix(cmd.Name, "UID ")
	// Some tell before they do; but flags of before a STORE .SILENT, which the client might
	// take for those of after it, none does.
	if s.rng.IntN(4) == 0 && !strings.Contains(strings.ToUpper(cmd.Args), "FLAGS.SILENT ") {
		s.sync(false)
	}
	set, args, _ := strings.Cut(cmd.Args, " ")
	status := "OK done"
	switch verb {
	case "EXPUNGE":
		s.expunge(func(m ModelMessage) bool {
			return slices.Contains(m.Flags, `\Deleted`) && (!byUID || slices.Contains(s.set(set, true), m.UID))
		})
	case "FETCH":
		status = s.fetches(s.set(set, byUID), strings.ToUpper(args), byUID)
	case "STORE":
		status = s.stores(s.set(set, byUID), args, byUID)
	case "COPY", "MOVE":
		status = s.copies(s.set(set, byUID), args, verb == "MOVE")
	case "SEARCH", "SORT":
		status = s.searches(cmd, byUID)
	default:
		return "BAD what?"
	}
	s.after(cmd.Name)
	if byUID && strings.HasPrefix(status, "OK done") {
		return "OK " + s.modSeqCode() + "done"
	}
	return status
}

// fetches answers FETCH. Of a message that is gone nothing is said (RFC 5530
// EXPUNGEISSUED).
func (s *modelSession) fetches(uids []uint32, items string, byUID bool) string {
	status := "OK done"
	if strings.Contains(items, "MODSEQ") { // RFC 7162 §3.1: it enables
		s.dialect = max(s.dialect, ModelCondStore)
	}
	for _, uid := range uids {
		m := s.box.Find(uid)
		if m == nil {
			status = "OK [EXPUNGEISSUED] some are gone"
			if strings.Contains(items, "UID") && !strings.Contains(items, " ") { // that much it knows
				s.fetch(s.number(uid), ModelMessage{UID: uid}, true, false, "")
			}
			continue
		}
		text := ""
		if strings.Contains(items, "BODY.PEEK[") {
			b := s.box.subjects[uid]
			text = fmt.Sprintf("BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\n%s", len(b), b)
		}
		s.fetch(s.number(uid), *m, byUID || strings.Contains(items, "UID"), strings.Contains(items, "FLAGS"), text)
	}
	if byUID {
		return "OK done"
	}
	return status
}

// stores is STORE +FLAGS and -FLAGS.
func (s *modelSession) stores(uids []uint32, args string, byUID bool) string {
	if s.readOnly {
		return "NO it's read-only"
	}
	what, list, _ := strings.Cut(args, " ")
	names := strings.Fields(strings.Trim(list, "()"))
	for _, name := range names {
		if !slices.Contains(s.box.flags, name) {
			s.box.flags = append(s.box.flags, name)
		}
	}
	status := "OK done"
	for _, uid := range uids {
		m := s.box.Find(uid)
		if m == nil {
			status = "OK [EXPUNGEISSUED] some are gone"
			continue
		}
		knew := s.told[uid] == m.ModSeq
		now := slices.DeleteFunc(slices.Clone(m.Flags), func(f string) bool { return slices.Contains(names, f) })
		if what[0] == '+' {
			now = append(now, names...)
		}
		s.box.Store(uid, now...)
		m = s.box.Find(uid)
		switch {
		case !strings.HasSuffix(strings.ToUpper(what), ".SILENT"):
			s.fetch(s.number(uid), *m, byUID || s.dialect == ModelQResync, true, "")
		case s.dialect == ModelPlain && knew: // the client knows what it did itself
			s.told[uid] = m.ModSeq
		}
	}
	s.box.happened()
	return status
}

func (s *modelSession) expunge(which func(ModelMessage) bool) {
	if s.readOnly {
		return
	}
	var gone []uint32
	for _, m := range s.box.Messages {
		if which(m) {
			gone = append(gone, m.UID)
		}
	}
	if len(gone) > 0 {
		s.box.Expunge(gone...)
		s.box.happened()
	}
}

// copies is COPY and MOVE (RFC 4315, RFC 6851).
func (s *modelSession) copies(uids []uint32, to string, move bool) string {
	other := s.find(to)
	if other == nil {
		return "NO [TRYCREATE] no such mailbox"
	}
	var from, made []uint32
	for _, uid := range uids {
		if m := s.box.Find(uid); m != nil {
			from = append(from, uid)
			for _, f := range m.Flags {
				if !slices.Contains(other.flags, f) {
					other.flags = append(other.flags, f)
				}
			}
			made = append(made, other.add(s.box.subjects[uid], m.Flags...))
		}
	}
	if len(from) == 0 {
		return "NO [EXPUNGEISSUED] they are gone"
	}
	code := fmt.Sprintf("OK [COPYUID %d %s %s] done", other.UIDValidity, uidSet(from), uidSet(made))
	if !move {
		return code
	}
	s.say("* %s", code)
	s.expunge(func(m ModelMessage) bool { return slices.Contains(from, m.UID) })
	return "OK done"
}
