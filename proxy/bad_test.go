package proxy

import (
	"testing"

	"imapproxy/proxy/park/view"
)

const selectedWork = "C: s SELECT Work\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: * OK [UIDNEXT 4] n\nS: s OK [READ-WRITE] done\n"

func TestACommandThatIsAnsweredBADLeavesNothingBehind(t *testing.T) {
	for line, left := range map[string]kept{
		"XYZZY":                               keptUnknown,
		"NOTIFY SET (SELECTED (MessageNew))":  keptNotify,
		"UID SEARCH RETURN (SAVE) ALL":        keptSaved,
		"UID SEARCH RETURN (ALL UPDATE) ALL":  keptSaved,
		"UID SEARCH MODSEQ 3":                 keptModSeq,
		"UID FETCH 1 (FLAGS) (CHANGEDSINCE 3": keptModSeq,
		"FETCH 1 FLAGS":                       keptByNumber,
		"RENAME Work Play":                    keptName,
		"DELETE Work":                         keptName,
	} {
		for answer, want := range map[string]kept{"OK done": left, "BAD what": keptNot} {
			f := follow(selectedWork + "C: a " + line + "\nS: a " + answer)
			if _, why := f.canPark(); why != want {
				t.Errorf("%s, answered %s: %q, not %q", line, answer, why, want)
			}
		}
	}
}

// Where there was a literal, or another answer of the client's, backend and proxy may have taken
// other bytes for the command.
func TestBADLiftsNoDoubtOfWhatTheBackendMayHaveRead(t *testing.T) {
	for line, want := range map[string]kept{
		"XYZZY":                        keptUnknown,
		"NOTIFY SET":                   keptNotify,
		"UID SEARCH RETURN (SAVE) ALL": keptSaved,
	} {
		f := follow(selectedWork + "C: a " + line)
		f.leaves(conversed)
		f.tagged("a BAD what")
		if _, why := f.canPark(); why != want {
			t.Errorf("%s with a literal: %q", line, why)
		}
		f = follow(selectedWork + "C: a " + line)
		f.prompt()
		f.prompted = false
		f.tagged("a BAD what")
		if _, why := f.canPark(); why != want {
			t.Errorf("%s with another answer: %q", line, why)
		}
	}
	f := follow(selectedWork + "C: a XYZZY")
	f.dispute()
	f.tagged("a BAD what")
	if _, why := f.canPark(); why != keptDisputed {
		t.Errorf("in dispute: %q", why)
	}
}

func TestEffectsAreOfTheMailboxThatWasSelectedThen(t *testing.T) {
	for name, c := range map[string]struct {
		lines string
		want  kept
	}{
		"by number, then SELECT":                               {"C: a FETCH 1 FLAGS\nC: b SELECT Play\nS: a OK done\nS: * OK [UIDVALIDITY 8] v\nS: b OK done", keptNot},
		"by number, then SELECT, BAD":                          {"C: a FETCH 1 FLAGS\nC: b SELECT\nS: a OK done\nS: b BAD what", keptByNumber},
		"by number behind SELECT":                              {"C: b SELECT Play\nC: a FETCH 1 FLAGS\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", keptByNumber},
		"by number behind SELECT, BAD":                         {"C: b SELECT\nC: a FETCH 1 FLAGS\nS: b BAD what\nS: a OK done", keptByNumber},
		"a RENAME of the mailbox before":                       {"C: a RENAME Work Old\nC: b SELECT Play\nS: a OK done\nS: * OK [UIDVALIDITY 8] v\nS: b OK done", keptNot},
		"a RENAME of the mailbox of before behind SELECT, BAD": {"C: b SELECT\nC: a RENAME Work Old\nS: b BAD what\nS: a OK done", keptName},
		"the same, answered first":                             {"C: b SELECT\nC: a RENAME Work Old\nS: a OK done\nS: b BAD what", keptName},
		"the same, and SELECT OK":                              {"C: b SELECT Play\nC: a RENAME Work Old\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", keptNot},
		"news before a SELECT, BAD":                            {"C: a NOOP\nC: b SELECT\nS: * 3 EXISTS\nS: a OK done\nS: b BAD what", keptMailbox},
		"a RENAME behind its SELECT":                           {"C: b SELECT Play\nC: a RENAME Play Old\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", keptName},
		"no mod-sequences, and none wanted":                    {"C: b SELECT Play\nS: * OK [UIDVALIDITY 8] v\nS: * OK [NOMODSEQ] n\nS: b OK done", keptNot},
		"no mod-sequences":                                     {"C: b SELECT Play (CONDSTORE)\nS: * OK [UIDVALIDITY 8] v\nS: * OK [NOMODSEQ] n\nS: b OK done", keptNoModSeq},
	} {
		if _, why := follow(selectedWork + c.lines).canPark(); why != c.want {
			t.Errorf("%s: %q, not %q", name, why, c.want)
		}
	}
}

// After SELECT that is answered BAD the mailbox of before is still selected, unless the backend has
// said that it closed it.
func TestSELECTThatIsAnsweredBAD(t *testing.T) {
	for name, c := range map[string]struct {
		lines    string
		selected bool
		want     kept
	}{
		"alone":                       {"C: a SELECT\nS: a BAD what", true, keptNot},
		"EXAMINE":                     {"C: a EXAMINE Play (FOO)\nS: a BAD what", true, keptNot},
		"closed":                      {"C: a SELECT\nS: * OK [CLOSED] before\nS: a BAD what", false, keptNot},
		"NO":                          {"C: a SELECT Nowhere\nS: a NO what", false, keptNot},
		"with news":                   {"C: a SELECT\nS: * 3 EXISTS\nS: a BAD what", true, keptMailbox},
		"with news of flags":          {"C: a SELECT\nS: * FLAGS (\\Seen)\nS: a BAD what", true, keptMailbox},
		"twice":                       {"C: a SELECT\nS: a BAD what\nC: b SELECT\nS: b BAD what", true, keptNot},
		"two at once":                 {"C: a SELECT\nC: b SELECT\nS: a BAD what\nS: b BAD what", true, keptMailbox},
		"behind CLOSE":                {"C: a CLOSE\nC: b SELECT\nS: a OK done\nS: b BAD what", false, keptNot},
		"behind a SELECT":             {"C: a SELECT Play\nC: b SELECT\nS: * 1 EXISTS\nS: a OK done\nS: b BAD what", true, keptMailbox},
		"behind a SELECT, and closed": {"C: a SELECT Play\nC: b SELECT\nS: * OK [CLOSED] before\nS: * 1 EXISTS\nS: a OK done\nS: * OK [CLOSED] it\nS: b BAD what", false, keptNot},
		"closed, and behind it":       {"C: a SELECT\nS: * OK [CLOSED] before\nC: b SELECT\nS: a BAD what\nS: b BAD what", false, keptNot},
		"CLOSED is of the first":      {"C: a SELECT Play\nC: b SELECT\nS: * OK [CLOSED] before\nS: * 1 EXISTS\nS: a OK done\nS: b BAD what", true, keptMailbox},
	} {
		f := follow(selectedWork + c.lines)
		if _, why := f.canPark(); f.selected != c.selected || why != c.want {
			t.Errorf("%s: selected: %v, %q, not %v, %q", name, f.selected, why, c.selected, c.want)
		}
		if c.selected && c.want == keptNot && (f.told.box.name != "Work" || f.told.box.exists != 2 || f.told.box.readOnly) {
			t.Errorf("%s: %+v", name, f.told.box)
		}
	}
	// A silent STORE that came with the SELECT has changed what the client knows.
	f := follow(selectedWork + "C: a SELECT\nC: b UID STORE 1 +FLAGS.SILENT (\\Seen)\nS: a BAD what\nS: b OK done")
	f.fetched(&fetchResponse{number: 1, uid: 1, hasFlags: true, flags: []byte("\\Flagged")})
	if k := f.told.box.known.frozen(view.UIDsOf(1, 2), view.Plain); k == nil {
		t.Error("nothing is known any more")
	}
	f = follow(selectedWork + "C: b UID STORE 1 +FLAGS.SILENT (\\Seen)\nC: a SELECT\nS: a BAD what")
	f.fetched(&fetchResponse{number: 1, uid: 1, hasFlags: true, flags: []byte("\\Flagged")})
	if k := f.told.box.known.frozen(view.UIDsOf(1, 2), view.Plain); k != nil {
		t.Errorf("flags of before a STORE that is under way are known: %+v", k)
	}
	f = follow(selectedWork + "C: a UID SEARCH ALL (FOO)\nS: a BAD what")
	if f.told.dialect != view.Plain {
		t.Error(f.told.dialect)
	}
}
