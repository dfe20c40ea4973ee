package track

import (
	"errors"
	"slices"
	"testing"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// underWay is a flight with these commands under way.
func underWay(commands ...string) *InFlight {
	f := &InFlight{Texts: &Texts{}}
	f.Init(true, false)
	f.selected = true
	for _, c := range commands {
		f.BeginWith(wire.ParseCommandHead([]byte(c)), []byte(c+"\r\n"), true, 0, time.Time{})
	}
	return f
}

func TestWhatBecomesOfCommandsAfterALoss(t *testing.T) {
	for name, c := range map[string]struct {
		say     []string
		told    Told
		unseen  bool // the end of the connection
		again   string
		refused []string
	}{
		"what changes nothing":                     {say: []string{"a NOOP", "b UID FETCH 1 (FLAGS)"}, again: "a NOOP\r\nb UID FETCH 1 (FLAGS)\r\n"},
		"what changes nothing, the end isn't seen": {say: []string{"a NOOP"}, unseen: true, again: "a NOOP\r\n"},
		"a mark":                                 {say: []string{`a STORE 1 +FLAGS (\Seen)`}, again: "a STORE 1 +FLAGS (\\Seen)\r\n"},
		"a mark, the end isn't seen":             {say: []string{`a STORE 1 +FLAGS (\Seen)`}, unseen: true, refused: []string{"a"}},
		"a FETCH that marks, the end isn't seen": {say: []string{"a FETCH 1 BODY[]"}, unseen: true, again: "a FETCH 1 BODY[]\r\n"},
		"what may have been done":                {say: []string{"a UID MOVE 1 X"}, refused: []string{"a"}},
		"what follows what may have been done":   {say: []string{"a UID COPY 1 X", "b UID FETCH 1 (FLAGS)", "c UID EXPUNGE 1"}, again: "b UID FETCH 1 (FLAGS)\r\n", refused: []string{"a", "c"}},
		"a subscription":                         {say: []string{"a SUBSCRIBE X"}, again: "a SUBSCRIBE X\r\n"},
		"a subscription, the end isn't seen":     {say: []string{"a SUBSCRIBE X"}, unseen: true, refused: []string{"a"}},
		"an annotation, the end isn't seen":      {say: []string{`a SETMETADATA INBOX (/private/comment "x")`}, unseen: true, refused: []string{"a"}},
		"subscriptions behind a name that may be another one": {say: []string{"a RENAME X Y", "b UNSUBSCRIBE X", "c SUBSCRIBE Y", `d SETQUOTA "" (STORAGE 5)`, `e SETANNOTATION X "/comment" ("value.priv" "x")`},
			refused: []string{"a", "b", "c", "d", "e"}},
		"half a search":                          {say: []string{"a SEARCH ALL"}, told: toldAnswer, refused: []string{"a"}},
		"a search, and a flag was told":          {say: []string{"a SEARCH ALL"}, told: toldFetch, again: "a SEARCH ALL\r\n"},
		"content, and an answer of another kind": {say: []string{"a FETCH 1 (BODY.PEEK[])"}, told: toldAnswer, again: "a FETCH 1 (BODY.PEEK[])\r\n"},
		"content of which something was told":    {say: []string{"a FETCH 1 (BODY.PEEK[])"}, told: toldFetch, refused: []string{"a"}},
		"flags of which something was told":      {say: []string{"a FETCH 1:9 (FLAGS)"}, told: toldFetch, again: "a FETCH 1:9 (FLAGS)\r\n"},
		"of the mailbox that a SELECT leaves":    {say: []string{"a FETCH 1 (FLAGS)", "b LIST \"\" *", "c SELECT Other"}, again: "b LIST \"\" *\r\nc SELECT Other\r\n", refused: []string{"a"}},
		"a verb that isn't known":                {say: []string{"a XYZ"}, refused: []string{"a"}},
	} {
		f := underWay(c.say...)
		cut := f.Cut(c.told, nil, !c.unseen)
		if string(cut.Again) != c.again || !slices.Equal(cut.Refused, c.refused) {
			t.Errorf("%s: again %q, refused %q", name, cut.Again, cut.Refused)
		}
		if n := f.Waiting(); n != len(cut.Refused) {
			t.Errorf("%s: %d wait for their answers", name, n)
		}
	}
}

func TestALongCommandIsntSaidAgain(t *testing.T) {
	f := underWay("a UID FETCH 1 (FLAGS)")
	f.Keep(make([]byte, maxKeptText))
	if cut := f.Cut(0, nil, true); len(cut.Again) > 0 || len(cut.Refused) != 1 {
		t.Errorf("%q %q", cut.Again, cut.Refused)
	}
}

func TestWhatKeepsASessionFromSurviving(t *testing.T) {
	for name, c := range map[string]struct {
		say  []string
		want Blocker
	}{
		"nothing":                 {want: BlockerMailbox}, // selected, and nothing was told of it
		"its LOGOUT":              {say: []string{"a LOGOUT"}, want: BlockerEnding},
		"a SELECT under way":      {say: []string{"a SELECT X"}, want: BlockerNone},
		"the client's NOTIFY":     {say: []string{"a NOTIFY NONE"}, want: BlockerUnknown},
		"a verb that isn't known": {say: []string{"a XYZ"}, want: BlockerUnknown},
	} {
		if got := underWay(c.say...).CanSurvive(); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A command that was lost before its literal was asked for is that one, whatever the client has sent since.
func TestTheCommandThatWaitedForItsLiteral(t *testing.T) {
	f := underWay("a NOOP")
	f.BeginWith(wire.ParseCommandHead([]byte("b STATUS {3}\r\n")), []byte("b STATUS {3}\r\n"), false, 0, time.Time{})
	f.Ask()
	f.Lose()
	if !f.LiteralLost() {
		t.Error("the client is to send its literal")
	}
	line := []byte("c APPEND INBOX {3+}\r\n")
	f.BeginWith(wire.ParseCommandHead(line), line, false, 0, time.Time{})
	cut := f.Cut(0, nil, true)
	if string(cut.Again) != "a NOOP\r\nb STATUS {3}\r\n" || !slices.Equal(cut.Refused, []string{"c"}) {
		t.Errorf("again %q, refused %q", cut.Again, cut.Refused)
	}
}

// An IDLE that has to be sent again and whose text isn't known.
func TestAnIdleWithoutText(t *testing.T) {
	f := underWay("a NOOP")
	f.BeginWith(wire.ParseCommandHead([]byte("b IDLE")), nil, true, 0, time.Time{})
	cut := f.Cut(0, nil, true)
	if string(cut.Again) != "a NOOP\r\n" || !slices.Equal(cut.Refused, []string{"b"}) || cut.Idle != "" {
		t.Errorf("again %q, refused %q, idle %q", cut.Again, cut.Refused, cut.Idle)
	}
	f.Answered(wire.ResponseHead{Tag: []byte("b"), Status: wire.NO})
	if f.Waits() || f.Waiting() != 0 {
		t.Errorf("%d commands wait", f.Waiting())
	}
}

// A command that a backend hasn't answered, although it has answered the SELECT behind it.
func TestACommandBeforeASelectThatIsAnswered(t *testing.T) {
	f := underWay("a UID SEARCH ALL", "b SELECT Other")
	f.Answered(wire.ResponseHead{Tag: []byte("b"), Status: wire.OK})
	if cut := f.Cut(0, nil, true); len(cut.Again) > 0 || !slices.Equal(cut.Refused, []string{"a"}) {
		t.Errorf("again %q, refused %q", cut.Again, cut.Refused)
	}
}

// What a client counts isn't known from the time when it is parked until it is recorded again, whatever it is told meanwhile: it
// doesn't count as none.
func TestAMailboxOfWhichNothingIsCounted(t *testing.T) {
	const selects = "C: b SELECT INBOX\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: * OK [UIDNEXT 5] n\nS: b OK done"
	for name, c := range map[string]struct {
		told   string
		counts func(*Mailbox)
		there  view.UIDs
		want   string // "": it isn't found
	}{
		"none is there":                   {},
		"two are there":                   {there: view.UIDsOf(3, 4)},
		"a new one is told":               {told: "* 1 EXISTS", there: view.UIDsOf(5)},
		"as many as before are told":      {told: "* 2 EXISTS", there: view.UIDsOf(3, 4)},
		"one that has gone is told":       {told: "* 1 EXPUNGE"},
		"the view is recorded":            {counts: func(b *Mailbox) { b.Update(&view.View{UIDNext: 5, UIDs: view.UIDsOf(3, 4)}) }, want: "3:4"},
		"it is, after something was told": {told: "* 1 EXISTS", counts: func(b *Mailbox) { b.Counts(view.UIDsOf(3, 4), 2) }, want: "3:4"},
	} {
		f := follow(selects)
		f.Trim()
		if f.Client.Mailbox.Counted() {
			t.Errorf("%s: it is counted", name)
		}
		if c.told != "" {
			f.Untagged(wire.ParseResponseHead([]byte(c.told+"\r\n")), true)
		}
		if c.counts != nil {
			c.counts(&f.Client.Mailbox)
		}
		v, err := f.Find(view.Seen{UIDValidity: 7, UIDNext: 6, UIDs: c.there, QResync: true, Vanished: view.UIDRange(1, 5).Without(c.there)})
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: found %q", name, v.UIDs)
		case c.want == "" && !errors.Is(err, view.ErrNotFollowed):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err != nil || v.UIDs.String() != c.want):
			t.Errorf("%s: %v %v", name, v, err)
		}
	}
}
