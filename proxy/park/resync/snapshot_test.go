package resync

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const esearch = "ESEARCH UNSELECT ENABLE QRESYNC CONDSTORE"

func TestSnapshot(t *testing.T) {
	for _, c := range []struct {
		name, caps, script string
		told               uint32
		want               string // the set
		err                error
		forwarded          []string
	}{
		{name: "nothing happened", caps: esearch, told: 3, want: "1:2,7", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1:2,7 COUNT 3
			S: ip2 OK done
		`},
		{name: "empty mailbox", caps: esearch, told: 0, want: "", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID COUNT 0
			S: ip2 OK done
		`},
		{name: "the NOOP brings the client up to date", caps: esearch, told: 3, want: "1,7:9", script: `
			C: ip1 NOOP
			S: * 2 EXPUNGE
			S: * 4 EXISTS
			S: * 4 FETCH (FLAGS (\Recent))
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID COUNT 4 ALL 1,7:9
			S: ip2 OK done
		`, forwarded: []string{"* 2 EXPUNGE", "* 4 EXISTS", `* 4 FETCH (FLAGS (\Recent))`}},
		{name: "Dovecot says the stale set, then what changed", caps: esearch, told: 3, want: "1,7:9", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1:2,7 COUNT 3
			S: * 2 EXPUNGE
			S: * 4 EXISTS
			S: ip2 OK done
			C: ip3 NOOP
			S: ip3 OK done
			C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip4") UID ALL 1,7:9 COUNT 4
			S: ip4 OK done
		`, forwarded: []string{"* 2 EXPUNGE", "* 4 EXISTS"}},
		{name: "one gone and one come behind the set: the count alone wouldn't tell", caps: esearch, told: 3, want: "1,7:8", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1:2,7 COUNT 3
			S: * 2 EXPUNGE
			S: * 3 EXISTS
			S: ip2 OK done
			C: ip3 NOOP
			S: ip3 OK done
			C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip4") UID ALL 1,7:8 COUNT 3
			S: ip4 OK done
		`, forwarded: []string{"* 2 EXPUNGE", "* 3 EXISTS"}},
		{name: "Cyrus says the new set and keeps the EXPUNGE back", caps: esearch, told: 3, want: "1,7", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1,7 COUNT 2
			S: ip2 OK done
			C: ip3 NOOP
			S: * 2 EXPUNGE
			S: ip3 OK done
			C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip4") UID ALL 1,7 COUNT 2
			S: ip4 OK done
		`, forwarded: []string{"* 2 EXPUNGE"}},
		{name: "a QRESYNC client", caps: esearch, told: 5, want: "1,7", script: `
			C: ip1 NOOP
			S: * VANISHED 2:4
			S: * OK [HIGHESTMODSEQ 12] Highest
			S: ip1 OK [HIGHESTMODSEQ 12] done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1,7 COUNT 2
			S: ip2 OK done
		`, forwarded: []string{"* VANISHED 2:4", "* OK [HIGHESTMODSEQ 12] Highest"}},
		{name: "flags behind the set don't matter", caps: esearch, told: 1, want: "1", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") UID ALL 1 COUNT 1
			S: * 1 FETCH (FLAGS (\Seen))
			S: ip2 OK done
		`, forwarded: []string{`* 1 FETCH (FLAGS (\Seen))`}},
		{name: "another command's ESEARCH is the client's", caps: esearch, told: 1, want: "5", script: `
			C: ip1 NOOP
			S: * ESEARCH (TAG "c7") UID ADDTO (1 5)
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "c7") UID ALL 99 COUNT 1
			S: * ESEARCH (TAG "ip2") UID ALL 5 COUNT 1
			S: ip2 OK done
		`, forwarded: []string{`* ESEARCH (TAG "c7") UID ADDTO (1 5)`, `* ESEARCH (TAG "c7") UID ALL 99 COUNT 1`}},
		{name: "a server without ESEARCH", caps: "IDLE", told: 3, want: "1:2,7", script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH ALL
			S: * SEARCH 7 1 2
			S: ip2 OK done
		`},
		{name: "it changes at each try", caps: esearch, told: 1, err: ErrUnsettled, forwarded: []string{"* 2 EXISTS", "* 3 EXISTS", "* 4 EXISTS"},
			script: changing(3)},
		{name: "the count isn't what the client was told", caps: esearch, told: 9, err: ErrUnsettled, script: settled(3, "1:2", 2)},
		{name: "set and count differ", caps: esearch, told: 2, err: ErrUnsettled, script: settled(3, "1:3", 2)},
		{name: "no answer in the answer", caps: esearch, told: 2, err: ErrUnsettled, script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: ip2 OK done
		`},
		{name: "numbers instead of UIDs", caps: esearch, told: 2, err: ErrUnsettled, script: `
			C: ip1 NOOP
			S: ip1 OK done
			C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip2") ALL 1:2 COUNT 2
			S: ip2 OK done
		`},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, c.caps, Options{Messages: c.told, Selected: true}, c.script)
			got, err := k.Snapshot(t.Context())
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			k.wantForwarded(t, c.forwarded...)
			if err := k.Release(); err != nil {
				t.Errorf("the session's connection is lost: %v", err)
			}
		})
	}
}

// Behind SELECT the first try needs no NOOP; each further one does.
func TestSnapshotBehindSelect(t *testing.T) {
	const selected = `
		C: ip1 SELECT "INBOX"
		S: * 3 EXISTS
		S: * OK [UIDVALIDITY 1] valid
		S: ip1 OK [READ-WRITE] done
		C: ip2 UID SEARCH RETURN (ALL COUNT) ALL
	`
	for _, c := range []struct{ name, script, want string }{
		{"nothing happened", selected + `
			S: * ESEARCH (TAG "ip2") UID ALL 1:2,7 COUNT 3
			S: ip2 OK done
		`, "1:2,7"},
		{"Cyrus says the new set and keeps the EXPUNGE back", selected + `
			S: * ESEARCH (TAG "ip2") UID ALL 1,7 COUNT 2
			S: ip2 OK done
			C: ip3 NOOP
			S: * 2 EXPUNGE
			S: ip3 OK done
			C: ip4 UID SEARCH RETURN (ALL COUNT) ALL
			S: * ESEARCH (TAG "ip4") UID ALL 1,7 COUNT 2
			S: ip4 OK done
		`, "1,7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, esearch, Options{}, c.script)
			if _, err := k.Select(t.Context(), false, "INBOX", "", nil); err != nil {
				t.Fatal(err)
			}
			if got, err := k.SnapshotSelected(t.Context()); err != nil || got.String() != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}

// settled is a backend that answers n tries with the same.
func settled(n int, set string, count int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "C: ip%d NOOP\nS: ip%d OK done\n", 2*i+1, 2*i+1)
		fmt.Fprintf(&b, "C: ip%d UID SEARCH RETURN (ALL COUNT) ALL\nS: * ESEARCH (TAG \"ip%d\") UID ALL %s COUNT %d\nS: ip%d OK done\n",
			2*i+2, 2*i+2, set, count, 2*i+2)
	}
	return b.String()
}

// changing is a backend where a message arrives behind each set.
func changing(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "C: ip%d NOOP\nS: ip%d OK done\n", 2*i+1, 2*i+1)
		fmt.Fprintf(&b, "C: ip%d UID SEARCH RETURN (ALL COUNT) ALL\nS: * ESEARCH (TAG \"ip%d\") UID ALL 1:%d COUNT %d\nS: * %d EXISTS\nS: ip%d OK done\n",
			2*i+2, 2*i+2, i+1, i+1, i+2, 2*i+2)
	}
	return b.String()
}

func TestNothingIsAskedWhoseAnswerMightBeTooLong(t *testing.T) {
	k := newClient(t, esearch, Options{Messages: 100_000, MaxLine: 1 << 20, Selected: true}, `
		C: ip1 NOOP
		S: ip1 OK done
	`)
	if _, err := k.Snapshot(t.Context()); !errors.Is(err, ErrTooMany) {
		t.Fatalf("got %v", err)
	}
	if _, err := k.SnapshotByFetch(t.Context()); !errors.Is(err, ErrTooMany) {
		t.Fatalf("got %v", err)
	}
}

func TestSnapshotByFetch(t *testing.T) {
	for _, c := range []struct {
		name, script string
		told         uint32
		want         string
		err          error
		forwarded    []string
	}{
		{name: "nothing selected to speak of", told: 0, want: ""},
		{name: "nothing happened", told: 3, want: "1:2,7", script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 1)
			S: * 2 FETCH (UID 2)
			S: * 3 FETCH (UID 7)
			S: ip1 OK done
		`},
		{name: "somebody sets flags: the client is told", told: 2, want: "4:5", script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 1 FETCH (FLAGS (\Seen))
			S: * 2 FETCH (UID 5 FLAGS (\Flagged))
			S: ip1 OK done
		`, forwarded: []string{`* 1 FETCH (FLAGS (\Seen))`, `* 2 FETCH (UID 5 FLAGS (\Flagged))`}},
		{name: "a message arrives", told: 1, want: "4:5", script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 2 EXISTS
			S: * 0 RECENT
			S: ip1 OK done
			C: ip2 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 2 FETCH (UID 5)
			S: ip2 OK done
		`, forwarded: []string{"* 2 EXISTS", "* 0 RECENT"}},
		{name: "gone at the backend, still counted: Dovecot", told: 2, want: "4:5", script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 2 FETCH (UID 5)
			S: ip1 OK [EXPUNGEISSUED] Some messages were already expunged.
		`},
		{name: "one isn't answered", told: 3, err: ErrUnsettled, script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 3 FETCH (UID 6)
			S: ip1 OK done
			C: ip2 FETCH 1:* (UID)
			S: * 1 FETCH (UID 4)
			S: * 2 FETCH (UID 5)
			S: ip2 OK done
			C: ip3 FETCH 1:* (UID)
			S: ip3 OK done
		`},
		{name: "a backend that expunges where it mustn't", told: 2, err: ErrUnsettled, script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 EXPUNGE
			S: * 1 FETCH (UID 5)
			S: ip1 OK done
		`, forwarded: []string{"* 1 EXPUNGE"}},
		{name: "UIDs that don't ascend", told: 2, err: ErrUnsettled, script: `
			C: ip1 FETCH 1:* (UID)
			S: * 1 FETCH (UID 5)
			S: * 2 FETCH (UID 4)
			S: ip1 OK done
			C: ip2 FETCH 1:* (UID)
			S: * 1 FETCH (UID 5)
			S: * 2 FETCH (UID 5)
			S: ip2 OK done
			C: ip3 FETCH 1:* (UID)
			S: * 1 FETCH (UID 5)
			S: * 1 FETCH (UID 6)
			S: ip3 OK done
		`},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, esearch, Options{Messages: c.told, Selected: true}, c.script)
			got, err := k.SnapshotByFetch(t.Context())
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			k.wantForwarded(t, c.forwarded...)
			if err := k.Release(); err != nil {
				t.Errorf("the session's connection is lost: %v", err)
			}
		})
	}
}

func TestDeselect(t *testing.T) {
	for _, c := range []struct {
		name, caps, script string
		readOnly           bool
		err                error
		forwarded          []string
	}{
		{name: "what comes behind the snapshot isn't the client's", caps: "UNSELECT", script: `
			C: ip1 UNSELECT
			S: * 9 EXISTS
			S: * OK [HIGHESTMODSEQ 9] Highest
			S: * OK [ALERT] Maintenance at noon
			S: ip1 OK done
		`, forwarded: []string{"* OK [ALERT] Maintenance at noon"}},
		{name: "read-only", caps: "IDLE", readOnly: true, script: "C: ip1 CLOSE\nS: ip1 OK done"},
		{name: "CLOSE would expunge", caps: "IDLE", err: ErrCannotDeselect},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClient(t, c.caps, Options{Messages: 2, Selected: true, ReadOnly: c.readOnly}, c.script)
			if err := k.Deselect(t.Context()); !errors.Is(err, c.err) {
				t.Fatalf("got %v", err)
			}
			if k.Selected() != (c.err != nil) {
				t.Error("selected or not is told wrong")
			}
			k.wantForwarded(t, c.forwarded...)
		})
	}
}
