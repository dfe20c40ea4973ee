package track

import (
	"testing"

	"imapproxy/proxy/park/view"
)

const selectedWork = "C: s SELECT Work\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: * OK [UIDNEXT 4] n\nS: s OK [READ-WRITE] done\n"

func TestACommandThatIsAnsweredBADLeavesNothingBehind(t *testing.T) {
	for line, left := range map[string]Blocker{
		"XYZZY":                               BlockerUnknown,
		"NOTIFY SET (SELECTED (MessageNew))":  BlockerNotify,
		"UID SEARCH RETURN (SAVE) ALL":        BlockerSaved,
		"UID SEARCH RETURN (ALL UPDATE) ALL":  BlockerSaved,
		"UID SEARCH MODSEQ 3":                 BlockerModSeq,
		"UID FETCH 1 (FLAGS) (CHANGEDSINCE 3": BlockerModSeq,
		"FETCH 1 FLAGS":                       BlockerByNumber,
		"RENAME Work Play":                    BlockerName,
		"DELETE Work":                         BlockerName,
	} {
		for answer, want := range map[string]Blocker{"OK done": left, "BAD what": BlockerNone} {
			f := follow(selectedWork + "C: a " + line + "\nS: a " + answer)
			if _, why := f.CanPark(); why != want {
				t.Errorf("%s, answered %s: %q, not %q", line, answer, why, want)
			}
		}
	}
}

// Where there was a literal, or another answer of the client's, backend and proxy may have taken
// other bytes for the command.
func TestBADLiftsNoDoubtOfWhatTheBackendMayHaveRead(t *testing.T) {
	for line, want := range map[string]Blocker{
		"XYZZY":                        BlockerUnknown,
		"NOTIFY SET":                   BlockerNotify,
		"UID SEARCH RETURN (SAVE) ALL": BlockerSaved,
	} {
		f := follow(selectedWork + "C: a " + line)
		f.Leaves(Conversed)
		f.tagged("a BAD what")
		if _, why := f.CanPark(); why != want {
			t.Errorf("%s with a literal: %q", line, why)
		}
		f = follow(selectedWork + "C: a " + line)
		f.Prompt()
		f.prompted = false
		f.tagged("a BAD what")
		if _, why := f.CanPark(); why != want {
			t.Errorf("%s with another answer: %q", line, why)
		}
	}
	f := follow(selectedWork + "C: a XYZZY")
	f.Dispute()
	f.tagged("a BAD what")
	if _, why := f.CanPark(); why != BlockerDisputed {
		t.Errorf("in dispute: %q", why)
	}
}

func TestEffectsAreOfTheMailboxThatWasSelectedThen(t *testing.T) {
	for name, c := range map[string]struct {
		lines string
		want  Blocker
	}{
		"by number, then SELECT":                               {"C: a FETCH 1 FLAGS\nC: b SELECT Play\nS: a OK done\nS: * OK [UIDVALIDITY 8] v\nS: b OK done", BlockerNone},
		"by number, then SELECT, BAD":                          {"C: a FETCH 1 FLAGS\nC: b SELECT\nS: a OK done\nS: b BAD what", BlockerByNumber},
		"by number behind SELECT":                              {"C: b SELECT Play\nC: a FETCH 1 FLAGS\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", BlockerByNumber},
		"by number behind SELECT, BAD":                         {"C: b SELECT\nC: a FETCH 1 FLAGS\nS: b BAD what\nS: a OK done", BlockerByNumber},
		"a RENAME of the mailbox before":                       {"C: a RENAME Work Old\nC: b SELECT Play\nS: a OK done\nS: * OK [UIDVALIDITY 8] v\nS: b OK done", BlockerNone},
		"a RENAME of the mailbox of before behind SELECT, BAD": {"C: b SELECT\nC: a RENAME Work Old\nS: b BAD what\nS: a OK done", BlockerName},
		"the same, answered first":                             {"C: b SELECT\nC: a RENAME Work Old\nS: a OK done\nS: b BAD what", BlockerName},
		"the same, and SELECT OK":                              {"C: b SELECT Play\nC: a RENAME Work Old\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", BlockerNone},
		"news before a SELECT, BAD":                            {"C: a NOOP\nC: b SELECT\nS: * 3 EXISTS\nS: a OK done\nS: b BAD what", BlockerMailbox},
		"a RENAME behind its SELECT":                           {"C: b SELECT Play\nC: a RENAME Play Old\nS: * OK [UIDVALIDITY 8] v\nS: b OK done\nS: a OK done", BlockerName},
		"no mod-sequences, and none wanted":                    {"C: b SELECT Play\nS: * OK [UIDVALIDITY 8] v\nS: * OK [NOMODSEQ] n\nS: b OK done", BlockerNone},
		"no mod-sequences":                                     {"C: b SELECT Play (CONDSTORE)\nS: * OK [UIDVALIDITY 8] v\nS: * OK [NOMODSEQ] n\nS: b OK done", BlockerNoModSeq},
	} {
		if _, why := follow(selectedWork + c.lines).CanPark(); why != c.want {
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
		want     Blocker
	}{
		"alone":                       {"C: a SELECT\nS: a BAD what", true, BlockerNone},
		"EXAMINE":                     {"C: a EXAMINE Play (FOO)\nS: a BAD what", true, BlockerNone},
		"closed":                      {"C: a SELECT\nS: * OK [CLOSED] before\nS: a BAD what", false, BlockerNone},
		"NO":                          {"C: a SELECT Nowhere\nS: a NO what", false, BlockerNone},
		"with news":                   {"C: a SELECT\nS: * 3 EXISTS\nS: a BAD what", true, BlockerMailbox},
		"with news of flags":          {"C: a SELECT\nS: * FLAGS (\\Seen)\nS: a BAD what", true, BlockerMailbox},
		"twice":                       {"C: a SELECT\nS: a BAD what\nC: b SELECT\nS: b BAD what", true, BlockerNone},
		"two at once":                 {"C: a SELECT\nC: b SELECT\nS: a BAD what\nS: b BAD what", true, BlockerMailbox},
		"behind CLOSE":                {"C: a CLOSE\nC: b SELECT\nS: a OK done\nS: b BAD what", false, BlockerNone},
		"behind a SELECT":             {"C: a SELECT Play\nC: b SELECT\nS: * 1 EXISTS\nS: a OK done\nS: b BAD what", true, BlockerMailbox},
		"behind a SELECT, and closed": {"C: a SELECT Play\nC: b SELECT\nS: * OK [CLOSED] before\nS: * 1 EXISTS\nS: a OK done\nS: * OK [CLOSED] it\nS: b BAD what", false, BlockerNone},
		"closed, and behind it":       {"C: a SELECT\nS: * OK [CLOSED] before\nC: b SELECT\nS: a BAD what\nS: b BAD what", false, BlockerNone},
		"CLOSED is of the first":      {"C: a SELECT Play\nC: b SELECT\nS: * OK [CLOSED] before\nS: * 1 EXISTS\nS: a OK done\nS: b BAD what", true, BlockerMailbox},
	} {
		f := follow(selectedWork + c.lines)
		if _, why := f.CanPark(); f.selected != c.selected || why != c.want {
			t.Errorf("%s: selected: %v, %q, not %v, %q", name, f.selected, why, c.selected, c.want)
		}
		if c.selected && c.want == BlockerNone && (f.Client.Mailbox.Name != "Work" || f.Client.Mailbox.Exists != 2 || f.Client.Mailbox.ReadOnly) {
			t.Errorf("%s: %+v", name, f.Client.Mailbox)
		}
	}
	// A silent STORE that came with the SELECT has changed what the client knows.
	f := follow(selectedWork + "C: a SELECT\nC: b UID STORE 1 +FLAGS.SILENT (\\Seen)\nS: a BAD what\nS: b OK done")
	f.Fetched(&FetchResponse{number: 1, uid: 1, HasFlags: true, flags: []byte("\\Flagged")})
	if k := f.Client.Mailbox.known.frozen(view.UIDsOf(1, 2), view.Plain); k == nil {
		t.Error("nothing is known any more")
	}
	f = follow(selectedWork + "C: b UID STORE 1 +FLAGS.SILENT (\\Seen)\nC: a SELECT\nS: a BAD what")
	f.Fetched(&FetchResponse{number: 1, uid: 1, HasFlags: true, flags: []byte("\\Flagged")})
	if k := f.Client.Mailbox.known.frozen(view.UIDsOf(1, 2), view.Plain); k != nil {
		t.Errorf("flags of before a STORE that is under way are known: %+v", k)
	}
	f = follow(selectedWork + "C: a UID SEARCH ALL (FOO)\nS: a BAD what")
	if f.Client.Dialect != view.Plain {
		t.Error(f.Client.Dialect)
	}
}
