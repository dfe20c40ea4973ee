package resync

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// qselect is what a QRESYNC backend says at EXAMINE before what has changed.
func qselect(exists, next, modseq int) string {
	return fmt.Sprintf("S: * %d EXISTS\nS: * 0 RECENT\nS: * FLAGS (\\Seen $Kw1)\nS: * OK [PERMANENTFLAGS ()] Read-only\n"+
		"S: * OK [UIDVALIDITY 9] UIDs valid\nS: * OK [UIDNEXT %d] Predicted next UID\nS: * OK [HIGHESTMODSEQ %d] Highest\n", exists, next, modseq)
}

const qenable = "C: ip1 ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: ip1 OK done\n"

func TestResyncByQResync(t *testing.T) {
	query := Query{Mailbox: "INBOX", UIDValidity: 9, UIDNext: 11, ModSeq: 11, UIDs: view.UIDRange(1, 10)}
	examine := `C: ip2 EXAMINE "INBOX" (QRESYNC (9 11 1:10))` + "\n"
	flagged := []view.FlagChange{{UID: 5, Flags: `$Kw1 \Seen`, ModSeq: 17}}
	for _, c := range []struct {
		name, script string
		query        *Query
		want         view.State
		err          error
	}{
		{
			name: "nothing happened", script: qenable + examine + qselect(10, 11, 11) + "S: ip2 OK [READ-ONLY] done",
			want: view.State{UIDNext: 11, UIDs: view.UIDRange(1, 10), ModSeq: 11, Since: 11},
		},
		{
			name: "expunges, flags and arrivals; the last message isn't taken for a new one",
			script: qenable + examine + qselect(10, 13, 19) + `
				S: * VANISHED (EARLIER) 2,4
				S: * 3 FETCH (UID 5 FLAGS (\Seen $Kw1) MODSEQ (17))
				S: ip2 OK [READ-ONLY] done
				C: ip3 UID FETCH 11:* (UID)
				S: * 9 FETCH (UID 11)
				S: * 10 FETCH (UID 12)
				S: ip3 OK done
			`,
			want: view.State{UIDNext: 13, UIDs: mustUIDs("1,3,5:12"), ModSeq: 19, Since: 11, Changed: flagged},
		},
		{
			name: "Cyrus' order of items",
			script: qenable + examine + qselect(10, 11, 19) + `
				S: * OK [MAILBOXID (b17)] id
				S: * 5 FETCH (FLAGS ($Kw1 \Seen) UID 5 MODSEQ (17))
				S: ip2 OK [READ-ONLY] done
			`,
			want: view.State{UIDNext: 11, UIDs: view.UIDRange(1, 10), ModSeq: 19, Since: 11, Changed: flagged},
		},
		{
			name: "UIDNEXT went up and what came has gone again: n:* is the last message",
			script: qenable + examine + qselect(10, 15, 19) + `
				S: * VANISHED (EARLIER) 11:14
				S: ip2 OK [READ-ONLY] done
				C: ip3 UID FETCH 11:* (UID)
				S: * 10 FETCH (UID 10)
				S: ip3 OK done
			`,
			want: view.State{UIDNext: 15, UIDs: view.UIDRange(1, 10), ModSeq: 19, Since: 11},
		},
		{
			name: "all gone, nothing new is asked for",
			script: qenable + examine + qselect(0, 15, 19) + `
				S: * VANISHED (EARLIER) 1:14
				S: ip2 OK [READ-ONLY] done
			`,
			want: view.State{UIDNext: 15, ModSeq: 19, Since: 11},
		},
		{
			name:  "a purged history says too much: VANISHED of what never was is left out",
			query: &Query{Mailbox: "INBOX", UIDValidity: 9, UIDNext: 11, ModSeq: 11, UIDs: mustUIDs("1,5,10")},
			script: qenable + examine + qselect(2, 11, 19) + `
				S: * VANISHED (EARLIER) 2:4,6:10
				S: ip2 OK [READ-ONLY] done
			`,
			want: view.State{UIDNext: 11, UIDs: mustUIDs("1,5"), ModSeq: 19, Since: 11},
		},
		{
			name: "VANISHED says too much of what is still there: the count shows it, and the set is taken anew",
			script: qenable + examine + qselect(9, 11, 19) + `
				S: * VANISHED (EARLIER) 2:4
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 1:2,4:10 COUNT 9
				S: ip4 OK done
			`,
			want: view.State{UIDNext: 11, UIDs: mustUIDs("1:2,4:10"), ModSeq: 19, Since: 11},
		},
		{
			name: "an expunge isn't reported: likewise",
			script: qenable + examine + qselect(9, 11, 19) + `
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 2:10 COUNT 9
				S: ip4 OK done
			`,
			want: view.State{UIDNext: 11, UIDs: mustUIDs("2:10"), ModSeq: 19, Since: 11},
		},
		{
			name: "while new messages are fetched one more comes, one goes, and flags change",
			script: qenable + examine + qselect(11, 12, 19) + `
				S: ip2 OK [READ-ONLY] done
				C: ip3 UID FETCH 11:* (UID)
				S: * 11 FETCH (UID 11)
				S: * 3 FETCH (UID 3 FLAGS (\Deleted) MODSEQ (20))
				S: * VANISHED 3,11
				S: * 10 EXISTS
				S: ip3 OK done
				C: ip4 NOOP
				S: * 10 FETCH (UID 12 FLAGS (\Recent) MODSEQ (22))
				S: ip4 OK done
				C: ip5 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip5") UID ALL 1:2,4:10,12 COUNT 10
				S: ip5 OK done
				C: ip6 UNSELECT
				S: ip6 OK done
				C: ip7 EXAMINE "INBOX" (QRESYNC (9 11 1:10))
			` + qselect(10, 13, 22) + `
				S: * VANISHED (EARLIER) 3
				S: * 10 FETCH (UID 12 FLAGS (\Recent) MODSEQ (22))
				S: ip7 OK [READ-ONLY] done
				C: ip8 UID FETCH 11:* (UID)
				S: * 10 FETCH (UID 12)
				S: ip8 OK done
			`,
			want: view.State{UIDNext: 13, UIDs: mustUIDs("1:2,4:10,12"), ModSeq: 22, Since: 11, Changed: []view.FlagChange{{UID: 12, ModSeq: 22}}},
		},
		{
			name: "HIGHESTMODSEQ is lower than a message's mod-sequence, and stays so; another change comes meanwhile",
			script: qenable + examine + qselect(10, 11, 19) + `
				S: * 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (18))
				S: * 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (20))
				S: ip2 OK [READ-ONLY] done
				C: ip3 UNSELECT
				S: ip3 OK done
				C: ip4 EXAMINE "INBOX" (QRESYNC (9 11 1:10))
			` + qselect(10, 11, 19) + `
				S: * 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (18))
				S: * 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (20))
				S: * 4 FETCH (UID 4 FLAGS (\Seen) MODSEQ (21))
				S: ip4 OK [READ-ONLY] done
			`,
			want: view.State{UIDNext: 11, UIDs: view.UIDRange(1, 10), ModSeq: 19, Since: 11,
				Changed: []view.FlagChange{{UID: 2, Flags: `\Seen`, ModSeq: 18}, {UID: 3, Flags: `\Seen`}, {UID: 4, Flags: `\Seen`, ModSeq: 21}}},
		},
		{
			name:  "another UIDVALIDITY is answered silently with nothing: the state is told from scratch",
			query: &Query{Mailbox: "INBOX", UIDValidity: 8, UIDNext: 11, ModSeq: 11, UIDs: view.UIDRange(1, 10)},
			script: qenable + `C: ip2 EXAMINE "INBOX" (QRESYNC (8 11 1:10))` + "\n" + qselect(1, 2, 3) + `
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 1 COUNT 1
				S: ip4 OK done
			`,
			want: view.State{UIDNext: 2, UIDs: view.UIDRange(1, 1), ModSeq: 3, Since: 3},
		},
		{
			name: "a mod-sequence from the future: the mailbox was put back",
			script: qenable + examine + qselect(10, 11, 7) + `
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 1:10 COUNT 10
				S: ip4 OK done
			`,
			want: view.State{UIDNext: 11, UIDs: view.UIDRange(1, 10), ModSeq: 7, Since: 7},
		},
		{
			name:  "no bound yet: a state to begin with",
			query: &Query{Mailbox: "Entwürfe/a\"b"},
			script: qenable + `C: ip2 EXAMINE "Entw&APw-rfe/a\"b"` + "\n" + qselect(2, 9, 7) + `
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 3,8 COUNT 2
				S: ip4 OK done
			`,
			want: view.State{UIDNext: 9, UIDs: mustUIDs("3,8"), ModSeq: 7, Since: 7},
		},
		{
			name:  "a mailbox that was empty",
			query: &Query{Mailbox: "INBOX", UIDValidity: 9, UIDNext: 1, ModSeq: 1},
			script: qenable + `C: ip2 EXAMINE "INBOX" (QRESYNC (9 1))` + "\n" + qselect(1, 2, 7) + `
				S: * 1 FETCH (UID 1 FLAGS () MODSEQ (7))
				S: ip2 OK [READ-ONLY] done
				C: ip3 UID FETCH 1:* (UID)
				S: * 1 FETCH (UID 1)
				S: ip3 OK done
			`,
			want: view.State{UIDNext: 2, UIDs: view.UIDRange(1, 1), ModSeq: 7, Since: 1, Changed: []view.FlagChange{{UID: 1, ModSeq: 7}}},
		},
		{
			name:   "no mod-sequences",
			script: qenable + examine + "S: * 0 EXISTS\nS: * OK [UIDVALIDITY 9] v\nS: * OK [NOMODSEQ] none\nS: ip2 OK [READ-ONLY] done", err: ErrNoModSeq,
		},
		{
			name:   "not enabled",
			script: "C: ip1 ENABLE QRESYNC\nS: * ENABLED\nS: ip1 OK done", err: ErrNotEnabled,
		},
		{
			name: "EXPUNGE to a connection that has QRESYNC, and a mailbox that never settles", err: ErrUnsettled,
			script: qenable + examine + qselect(10, 11, 12) + `
				S: * 1 EXPUNGE
				S: ip2 OK [READ-ONLY] done
				C: ip3 NOOP
				S: ip3 OK done
				C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip4") UID ALL 1:10 COUNT 10
				S: ip4 OK done
				C: ip5 NOOP
				S: ip5 OK done
				C: ip6 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip6") UID ALL 1:10 COUNT 10
				S: ip6 OK done
				C: ip7 NOOP
				S: ip7 OK done
				C: ip8 UID SEARCH RETURN (ALL COUNT) ALL
				S: * ESEARCH (TAG "ip8") UID ALL 1:10 COUNT 10
				S: ip8 OK done
			`,
		},
		{
			name: "flags of nobody knows whom", err: ErrUnsettled,
			script: qenable + examine + qselect(10, 11, 12) + "S: * 1 FETCH (FLAGS (\\Seen))\nS: ip2 OK [READ-ONLY] done",
		},
		{
			name: "no UIDVALIDITY", err: ErrUnsettled,
			script: qenable + examine + "S: * 0 EXISTS\nS: ip2 OK [READ-ONLY] done",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, esearch, Options{}, c.script).Client
			q := query
			if c.query != nil {
				q = *c.query
			}
			got, err := ByQResync{}.Resync(t.Context(), k, q)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil {
				c.want.UIDValidity, c.want.FlagList = 9, `$Kw1 \Seen`
				wantState(t, got, &c.want)
			}
			if err := k.Release(); err != nil {
				t.Errorf("the connection is lost: %v", err)
			}
		})
	}
}

func mustUIDs(set string) view.UIDs {
	u, err := view.ParseUIDs([]byte(set))
	if err != nil {
		panic(err) // a test's own text
	}
	return u
}

func wantState(t *testing.T, got, want *view.State) {
	t.Helper()
	if !got.UIDs.Equal(want.UIDs) {
		t.Errorf("UIDs %s, want %s", got.UIDs, want.UIDs)
	}
	if !slices.Equal(got.Changed, want.Changed) {
		t.Errorf("changed %v, want %v", got.Changed, want.Changed)
	}
	g, w := *got, *want
	g.UIDs, w.UIDs, g.Changed, w.Changed, g.Table, w.Table = view.UIDs{}, view.UIDs{}, nil, nil, nil, nil
	if fmt.Sprint(g) != fmt.Sprint(w) {
		t.Errorf("got  %+v\nwant %+v", g, w)
	}
}

func TestAResyncOfAMissingMailboxIsARefusal(t *testing.T) {
	k := newClient(t, esearch, Options{}, qenable+`
		C: ip2 EXAMINE "Gone"
		S: ip2 NO [NONEXISTENT] Mailbox doesn't exist
	`).Client
	_, err := ByQResync{}.Resync(t.Context(), k, Query{Mailbox: "Gone"})
	var no *imapclient.Refusal
	if !errors.As(err, &no) || no.Code != "NONEXISTENT" {
		t.Fatalf("got %v", err)
	}
}

func TestASecondResyncLeavesTheMailboxFirst(t *testing.T) {
	k := newClient(t, esearch, Options{}, qenable+`C: ip2 EXAMINE "INBOX" (QRESYNC (9 11 1:10))
	`+qselect(10, 11, 11)+`
		S: ip2 OK [READ-ONLY] done
		C: ip3 UNSELECT
		S: * VANISHED 1:10
		S: ip3 OK done
		C: ip4 EXAMINE "INBOX" (QRESYNC (9 11 1:10))
	`+qselect(0, 11, 12)+`
		S: * VANISHED (EARLIER) 1:10
		S: ip4 OK [READ-ONLY] done
	`).Client
	q := Query{Mailbox: "INBOX", UIDValidity: 9, UIDNext: 11, ModSeq: 11, UIDs: view.UIDRange(1, 10)}
	for _, want := range []uint32{10, 0} {
		s, err := ByQResync{}.Resync(t.Context(), k, q)
		if err != nil || s.UIDs.Count() != want {
			t.Fatalf("%v, %v, want %d messages", s, err, want)
		}
	}
}

// cselect is what Courier says: no UIDNEXT.
func cselect(exists int) string {
	return fmt.Sprintf("C: ip1 EXAMINE \"INBOX\"\nS: * FLAGS (\\Seen \\Deleted)\nS: * %d EXISTS\nS: * 0 RECENT\nS: * OK [UIDVALIDITY 9] Ok\nS: ip1 OK [READ-ONLY] Ok\n", exists)
}

func TestResyncByComparison(t *testing.T) {
	seen := view.FlagChange{Flags: `\Seen`}
	flags := func(uid uint32, f view.FlagChange) view.FlagChange { f.UID = uid; return f }
	for _, c := range []struct {
		name, script string
		want         []view.FlagChange
		err          error
	}{
		{name: "empty", script: cselect(0)},
		{name: "UIDs and flags", script: cselect(2) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4 FLAGS (\Seen))
			S: * 2 FETCH (FLAGS (\Recent) UID 9)
			S: ip2 OK done
		`, want: []view.FlagChange{flags(4, seen), {UID: 9}}},
		{name: "an expunge in the middle takes the right one away", script: cselect(3) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4 FLAGS (\Seen))
			S: * 2 FETCH (UID 6 FLAGS (\Deleted))
			S: * 1 EXPUNGE
			S: * 2 FETCH (UID 8 FLAGS ())
			S: ip2 OK done
		`, want: []view.FlagChange{{UID: 6, Flags: `\Deleted`}, {UID: 8}}},
		{name: "Dovecot: all of the stale set, then what changed", script: cselect(2) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4 FLAGS (\Seen))
			S: * 2 FETCH (UID 6 FLAGS ())
			S: * 2 FETCH (FLAGS (\Deleted))
			S: * 1 EXPUNGE
			S: ip2 OK done
		`, want: []view.FlagChange{{UID: 6, Flags: `\Deleted`}}},
		{name: "one arrives meanwhile", script: cselect(1) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4 FLAGS (\Seen))
			S: * 2 EXISTS
			S: ip2 OK done
			C: ip3 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4 FLAGS (\Seen))
			S: * 2 FETCH (UID 5 FLAGS ())
			S: ip3 OK done
		`, want: []view.FlagChange{flags(4, seen), {UID: 5}}},
		{name: "it never settles", err: ErrUnsettled, script: cselect(1) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: ip2 OK done
			C: ip3 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (UID 4)
			S: ip3 OK done
			C: ip4 UID FETCH 1:* (FLAGS)
			S: * 1 FETCH (FLAGS (\Seen))
			S: ip4 OK done
		`},
		{name: "too many to look at", err: ErrTooMany, script: cselect(11)},
		{name: "too many meanwhile", err: ErrTooMany, script: cselect(10) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 11 EXISTS
			S: * 11 FETCH (UID 4 FLAGS ())
			S: ip2 OK done
		`},
		{name: "a message that isn't there", err: ErrUnsettled, script: cselect(1) + `
			C: ip2 UID FETCH 1:* (FLAGS)
			S: * 2 FETCH (UID 4 FLAGS ())
			S: ip2 OK done
		`},
		{name: "UIDs that don't stick", err: ErrUnsettled, script: `
			C: ip1 EXAMINE "INBOX"
			S: * 0 EXISTS
			S: * OK [UIDVALIDITY 9] Ok
			S: * OK [UIDNOTSTICKY] Ok
			S: ip1 OK [READ-ONLY] Ok
		`},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, "IDLE", Options{}, c.script).Client
			s, err := ByComparison{MaxMessages: 10}.Resync(t.Context(), k, Query{Mailbox: "INBOX"})
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			var got []view.FlagChange
			for uid := range s.UIDs.All() {
				got = append(got, view.FlagChange{UID: uid, Flags: s.Table.Of(uid)})
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if s.UIDNext != 0 || s.UIDValidity != 9 || s.ModSeq != 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestCourierCanBeResyncedTwice(t *testing.T) {
	k := newClient(t, "IDLE", Options{}, cselect(0)+`
		C: ip2 CLOSE
		S: ip2 OK done
		C: ip3 EXAMINE "INBOX"
		S: * 0 EXISTS
		S: * OK [UIDVALIDITY 9] Ok
		S: ip3 OK [READ-ONLY] Ok
	`).Client
	for range 2 {
		if _, err := (ByComparison{}).Resync(t.Context(), k, Query{Mailbox: "INBOX"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChoose(t *testing.T) {
	for caps, want := range map[string]string{
		"ENABLE QRESYNC CONDSTORE": "qresync",
		"QRESYNC":                  "comparison", // nothing to enable it with
		"ENABLE CONDSTORE":         "comparison",
		"IDLE":                     "comparison",
	} {
		if got := Choose(wire.ParseCaps([]byte(caps)), 5).Name(); got != want {
			t.Errorf("%s: %s, want %s", caps, got, want)
		}
	}
}

func TestSelectSaysWhatItFound(t *testing.T) {
	k := newClient(t, esearch, Options{}, `
		C: ip1 SELECT "INBOX" (CONDSTORE)
		S: * FLAGS (\Seen $Kw1)
		S: * OK [PERMANENTFLAGS (\Seen \*)] Flags permitted.
		S: * 3 EXISTS
		S: * 1 RECENT
		S: * OK [UNSEEN 2] First unseen.
		S: * OK [UIDVALIDITY 9] UIDs valid
		S: * OK [UIDNEXT 12] Predicted next UID
		S: * OK [HIGHESTMODSEQ 5] Highest
		S: * 1 FETCH (FLAGS (\Seen))
		S: * NO [ALERT] Over quota
		S: ip1 OK [READ-WRITE] Select completed.
	`)
	s, err := k.Select(t.Context(), false, "INBOX", "(CONDSTORE)", nil)
	want := Selected{Exists: 3, UIDValidity: 9, UIDNext: 12, ModSeq: 5, Flags: `$Kw1 \Seen`, PermanentFlags: `\* \Seen`}
	if err != nil || s != want {
		t.Fatalf("got %+v, %v\nwant %+v", s, err, want)
	}
	k.wantForwarded(t, "* NO [ALERT] Over quota")
}

func TestSelectSaysThatWriteAccessIsGone(t *testing.T) {
	k := newClient(t, esearch, Options{}, `
		C: ip1 SELECT "INBOX"
		S: * 0 EXISTS
		S: * OK [UIDVALIDITY 9] UIDs valid
		S: ip1 OK [READ-ONLY] Select completed.
	`)
	if s, err := k.Select(t.Context(), false, "INBOX", "", nil); err != nil || !s.ReadOnly {
		t.Fatalf("got %+v, %v", s, err)
	}
}

func TestAMailboxNameThatCannotBeSentIsNotSent(t *testing.T) {
	k := newClient(t, esearch, Options{Enabled: []string{"UTF8=ACCEPT"}}, `
		C: ip1 EXAMINE "Entwürfe"
		S: ip1 NO no such mailbox
	`)
	for _, name := range []string{"", "a\r\nb", "a\x00b"} {
		if _, err := k.Select(t.Context(), true, name, "", nil); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	var no *imapclient.Refusal
	if _, err := k.Select(t.Context(), true, "Entwürfe", "", nil); !errors.As(err, &no) {
		t.Errorf("with UTF8=ACCEPT: %v", err)
	}
}
