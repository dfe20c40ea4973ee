package track

import (
	"errors"
	"strings"
	"testing"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

func TestWordsThatLookLikeFlagsAreNone(t *testing.T) {
	for text, want := range map[string]bool{
		`* 3 FETCH (FLAGS (\Seen))`:                                            true,
		`* 3 FETCH (UID 5 flags () MODSEQ (3))`:                                true,
		`* 3 FETCH (ENVELOPE ("x" "Red FLAGS (a)" NIL))`:                       false,
		`* 3 FETCH (BODY[HEADER.FIELDS (FLAGS (X))] {5}` + "\n" + ` UID 5)`:    false,
		`* 3 FETCH (BODY[HEADER.FIELDS (X-Flags)] {5}` + "\n" + ` FLAGS ())`:   true,
		`* 3 FETCH (BODYSTRUCTURE ("a" "b" ("FLAGS" "(") NIL "\"" ) FLAGS ())`: true,
		`* 3 FETCH (X-GM-LABELS (FLAGS (x)) BODY[TEXT] "FLAGS (x)" UID 3)`:     false,
	} {
		var f FetchResponse
		for line := range strings.Lines(text + "\r\n") {
			f.Text([]byte(line))
		}
		if f.HasFlags != want {
			t.Errorf("%q: %v", text, f.HasFlags)
		}
	}
}

// What a client was told of flags by UID it isn't told again.
func TestFlagsThatWereToldByUIDAreKnown(t *testing.T) {
	f := follow("C: a ENABLE UIDONLY\nS: * ENABLED UIDONLY\nS: a OK done\nC: b SELECT INBOX\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: b OK done")
	var r FetchResponse
	text := []byte("* 12 UIDFETCH (FLAGS (\\Seen a))\r\n")
	if !r.Begins(wire.ParseResponseHead(text)) {
		t.Fatal("it isn't one")
	}
	r.Text(text)
	f.Fetched(&r)
	k := f.Client.Mailbox.known.frozen(view.UIDsOf(5, 12, 13), view.Plain)
	sets, uids := k.Runs()
	if set, ok := uids.Of(12); !ok || sets[set].Flags != `\Seen a` && sets[set].Flags != `a \Seen` {
		t.Errorf("known of 12: %v %v", sets, uids)
	}
	if _, ok := uids.Of(5); ok {
		t.Error("5 is known")
	}
}

// The UID of a message that came, which a FETCH response tells with its flags, says which message a client counts that
// was told neither of one that came and went before it nor of one that came later.
func TestAUIDThatWasToldSaysWhichMessageCame(t *testing.T) {
	f := follow("C: b SELECT INBOX\nS: * 1 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: * OK [UIDNEXT 5] n\nS: b OK done\nC: c NOOP\nS: * 2 EXISTS\nS: c OK done")
	seen := view.Seen{UIDValidity: 7, UIDNext: 9, UIDs: view.UIDsOf(4, 6, 8), Vanished: view.UIDsOf(5, 7), QResync: true}
	if _, err := f.Find(seen); !errors.Is(err, view.ErrNotExact) {
		t.Errorf("without the UID: %v", err)
	}
	var r FetchResponse
	text := []byte("* 2 FETCH (FLAGS () UID 6)\r\n")
	if !r.Begins(wire.ParseResponseHead(text)) {
		t.Fatal("it isn't one")
	}
	r.Text(text)
	f.Fetched(&r)
	if v, err := f.Find(seen); err != nil || v.UIDs.String() != "4,6" {
		t.Errorf("with the UID: %v %v", v, err)
	}
}
