package track

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// follow has a flight see a session's lines, the client's and the backend's, in the order
// in which the proxy reads them.
func follow(lines string) *InFlight {
	f := &InFlight{}
	f.Init(true, false)
	f.Texts = &Texts{}
	for line := range strings.Lines(lines) {
		who, line, _ := strings.Cut(strings.TrimSpace(line), " ")
		if who == "C:" {
			f.Begin(wire.ParseCommandHead([]byte(line)), true, time.Time{})
			continue
		}
		switch h := wire.ParseResponseHead([]byte(line)); h.Kind {
		case wire.Tagged:
			f.Answered(h)
		case wire.Untagged:
			f.Untagged(h, true)
		}
	}
	return f
}

// tagged has a flight see a tagged answer.
func (f *InFlight) tagged(line string) { f.Answered(wire.ParseResponseHead([]byte(line))) }

func TestASelectionHasOnlyWhatWasToldOfIt(t *testing.T) {
	const other = `S: * 9 EXISTS
		S: * FLAGS (\Draft)
		S: * OK [UIDVALIDITY 2] v
		S: * OK [UIDNEXT 50] n
		S: * OK [HIGHESTMODSEQ 900] m
		S: a OK [READ-ONLY] done
		`
	const own = `S: * 3 EXISTS
		S: * FLAGS (\Seen)
		S: * OK [UIDVALIDITY 7] v
		S: * OK [UIDNEXT 4] n
		S: * OK [HIGHESTMODSEQ 10] m
		S: b OK [READ-WRITE] done`
	want := Mailbox{Name: "Work", Exists: 3, Validity: 7, Next: 4, ModSeq: 10, Flags: `\Seen`, opened: true}
	for name, lines := range map[string]string{
		"alone":                 "C: b SELECT Work\n" + own,
		"behind another":        "C: a EXAMINE Other\nC: b SELECT Work\n" + other + own,
		"behind one that fails": "C: a SELECT Other\nC: b SELECT Work\nS: a NO not there\n" + own,
		"before other codes":    "C: b SELECT Work\n" + own + "\nS: * OK [HIGHESTMODSEQ 12] m\nS: * OK [UIDNEXT 9] n\nS: * OK [UIDVALIDITY 7] v",
		"behind CLOSE":          "C: x SELECT Other\n" + strings.ReplaceAll(other, "a OK", "x OK") + "C: a CLOSE\nC: b SELECT Work\nS: * OK [HIGHESTMODSEQ 901] m\nS: a OK closed\n" + own,
	} {
		f := follow(lines)
		f.Client.Mailbox.began, f.Client.Mailbox.heard = 0, false
		if n := f.Client.Mailbox.tallied().Count(); n != want.Exists {
			t.Errorf("%s: %d messages", name, n)
		}
		f.Client.Mailbox.tally = nil
		if !reflect.DeepEqual(f.Client.Mailbox, want) || !f.selected {
			t.Errorf("%s: %+v, selected: %v", name, f.Client.Mailbox, f.selected)
		}
	}
}

func TestAMailboxThatHasLostItsNameIsNotParked(t *testing.T) {
	const before = `C: a SELECT Work/Done
		S: * OK [UIDVALIDITY 7] v
		S: a OK done
		`
	for line, want := range map[string]Blocker{
		"C: b RENAME Work/Done Old":   BlockerName,
		"C: b RENAME Work Old":        BlockerName,
		"C: b DELETE Work/Done":       BlockerName,
		"C: b RENAME {9}":             BlockerName,
		"C: b RENAME Other Old":       BlockerNone,
		"C: b DELETE \"Work/Done/1\"": BlockerNone,
		"C: b RENAME INBOX Old":       BlockerNone,
	} {
		if f := follow(before + line); f.Client.Mailbox.doubt != BlockerNone {
			t.Errorf("%s: %q before it is answered", line, f.Client.Mailbox.doubt)
		}
		if f := follow(before + line + "\nS: b OK done"); f.Client.Mailbox.doubt != want {
			t.Errorf("%s: %q", line, f.Client.Mailbox.doubt)
		}
		for _, refused := range []string{"NO", "BAD"} {
			if f := follow(before + line + "\nS: b " + refused + " it stays"); f.Client.Mailbox.doubt != BlockerNone {
				t.Errorf("%s, answered %s: %q", line, refused, f.Client.Mailbox.doubt)
			}
		}
	}
}

func TestANameSaidBeforeUTF8IsInDoubt(t *testing.T) {
	for name, want := range map[string]Blocker{"A&-B": BlockerName, "INBOX": BlockerNone} {
		f := follow("C: a ENABLE UTF8=ACCEPT\nC: b SELECT " + name + "\nS: * ENABLED UTF8=ACCEPT\nS: a OK done\nS: * OK [UIDVALIDITY 7] v\nS: b OK done")
		if f.Client.Mailbox.doubt != want || f.Client.Dialect != view.Plain {
			t.Errorf("%s: %q", name, f.Client.Mailbox.doubt)
		}
	}
}

func TestEveryWordThatSwitchesOnCondStoreIsSeen(t *testing.T) {
	for line, want := range map[string]view.Dialect{
		`LIST "" * RETURN (STATUS (MESSAGES highestmodseq))`: view.CondStore,
		`STATUS INBOX (HIGHESTMODSEQ)`:                       view.CondStore,
		`SELECT INBOX (CondStore)`:                           view.CondStore,
		`UID FETCH 1 (FLAGS) (CHANGEDSINCE 3)`:               view.CondStore,
		`STORE 1 (UNCHANGEDSINCE 3) FLAGS ()`:                view.CondStore,
		`SEARCH MODSEQ 3`:                                    view.CondStore,
		`LIST "" * RETURN (STATUS (MESSAGES UIDNEXT))`:       view.Plain,
		`STATUS INBOX (MESSAGES)`:                            view.Plain,
	} {
		if f := follow("C: a " + line + "\nS: a OK done"); f.Client.Dialect != want {
			t.Errorf("%s: %v", line, f.Client.Dialect)
		}
		if f := follow("C: a " + line + "\nS: a BAD what"); f.Client.Dialect != view.Plain {
			t.Errorf("%s, answered BAD: %v", line, f.Client.Dialect)
		}
	}
}

func TestWhatIsEnabledIsEnabledAgain(t *testing.T) {
	for enabled, want := range map[string]Blocker{
		"CONDSTORE QRESYNC": BlockerNone, "UTF8=ACCEPT": BlockerNone, "IMAP4rev2": BlockerNone,
		"UIDONLY": BlockerNone, "XFANCY": BlockerEnabled, "IMAP4rev2 UIDONLY": BlockerNone, "UIDONLY XFANCY": BlockerEnabled,
	} {
		f := follow("C: a ENABLE " + enabled + "\nS: * ENABLED " + enabled + "\nS: a OK done")
		if _, why := f.CanPark(); why != want {
			t.Errorf("%s: %q", enabled, why)
		}
	}
	f := follow("C: a ENABLE IMAP4rev2\nS: * ENABLED IMAP4rev2\nS: a OK done\nC: b SELECT \"R&D/Gr\xc3\xbcn\"\nS: * OK [UIDVALIDITY 7] v\nS: b OK done")
	if f.Client.Mailbox.Name != "R&D/Grün" || f.Client.Mailbox.doubt != BlockerNone {
		t.Errorf("%+v", f.Client.Mailbox)
	}
}

// A mod-sequence that comes behind the answer to SELECT may cover flags that the client hasn't been told.
func TestAModSequenceBehindSelectIsNotSelectsOwn(t *testing.T) {
	const late = "S: * OK [HIGHESTMODSEQ 12] m\n"
	for name, lines := range map[string]string{
		"behind SELECT":                        "C: a SELECT Work\nS: * OK [UIDVALIDITY 7] v\nS: a OK done\n" + late,
		"of another mailbox's":                 "C: a SELECT Other\n" + late + "S: a OK done\nC: b SELECT Work\nS: * OK [UIDVALIDITY 7] v\nS: b OK done\n" + late,
		"behind a SELECT that is answered BAD": "C: a SELECT Work\nS: * OK [UIDVALIDITY 7] v\nS: a OK done\nC: b SELECT {\nS: b BAD what?\n" + late,
	} {
		if f := follow(lines); f.Client.Mailbox.ModSeq != 0 || f.Client.Mailbox.Name != "Work" {
			t.Errorf("%s: %+v", name, f.Client.Mailbox)
		}
	}
}
