package imaptest

import (
	"strings"
	"testing"
)

// Other tests rely on the model: it must find each fault that a server could have, and nothing else.
func TestModelClientFindsFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		dialect ModelDialect
		during  string
		told    string // responses, separated by newlines
		want    string // a part of the error, "" for none
	}{
		"all in order":                  {ModelPlain, "IDLE", "* 2 EXPUNGE\n* 4 EXISTS\n* 3 FETCH (FLAGS (\\Seen))\n* FLAGS (\\Seen New)\n* 3 FETCH (FLAGS (New))", ""},
		"all in order, with VANISHED":   {ModelQResync, "IDLE", "* VANISHED 20\n* 3 EXISTS\n* 2 FETCH (UID 30 FLAGS () MODSEQ (9))", ""},
		"EXPUNGE within UID FETCH":      {ModelPlain, "UID FETCH", "* 1 EXPUNGE", ""},
		"announced, gone before told":   {ModelQResync, "IDLE", "* 4 EXISTS\n* VANISHED 40", ""},
		"a string that looks like data": {ModelPlain, "FETCH", `* 1 FETCH (BODY[HEADER.FIELDS (UID)] " UID 99 FLAGS (x)" UID 10)`, ""},
		"EXISTS shrinks":                {ModelPlain, "IDLE", "* 2 EXISTS", "shrinks"},
		"EXPUNGE within FETCH":          {ModelPlain, "FETCH", "* 1 EXPUNGE", "taken away"},
		"EXPUNGE within SORT":           {ModelPlain, "SORT", "* 1 EXPUNGE", "taken away"},
		"EXPUNGE out of the blue":       {ModelPlain, "", "* 1 EXPUNGE", "taken away"},
		"VANISHED within STORE":         {ModelQResync, "STORE", "* VANISHED 10", "taken away"},
		"EXPUNGE beyond the end":        {ModelPlain, "IDLE", "* 4 EXPUNGE", "message 4 of 3"},
		"EXPUNGE twice, at the end":     {ModelPlain, "IDLE", "* 3 EXPUNGE\n* 3 EXPUNGE", "message 3 of 2"},
		"EXPUNGE instead of VANISHED":   {ModelQResync, "IDLE", "* 1 EXPUNGE", "QRESYNC"},
		"VANISHED instead of EXPUNGE":   {ModelCondStore, "IDLE", "* VANISHED 10", "QRESYNC"},
		"VANISHED over-reported":        {ModelQResync, "IDLE", "* VANISHED 10:11", "isn't there"},
		"VANISHED twice":                {ModelQResync, "IDLE", "* VANISHED 10\n* VANISHED 10", "isn't there"},
		"FETCH beyond the end":          {ModelPlain, "FETCH", "* 4 FETCH (FLAGS ())", "message 4 of 3"},
		"a shifted number":              {ModelPlain, "FETCH", "* 2 FETCH (UID 30)", "said to be 30"},
		"a UID out of order":            {ModelPlain, "IDLE", "* 4 EXISTS\n* 4 FETCH (UID 25)", "UID 30"},
		"a keyword nobody has heard of": {ModelPlain, "IDLE", "* 1 FETCH (FLAGS (New))", "isn't in FLAGS"},
		"MODSEQ unasked":                {ModelPlain, "IDLE", "* 1 FETCH (FLAGS () MODSEQ (9))", "didn't ask"},
		"flags without MODSEQ":          {ModelCondStore, "IDLE", "* 1 FETCH (FLAGS ())", "without MODSEQ"},
	} {
		m := NewModelMailbox(1)
		for range 3 {
			m.Skip(9)
			m.Append()
		}
		c := NewModelClient(tc.dialect, m, `\Seen`)
		c.Begin(tc.during)
		var err error
		for line := range strings.SplitSeq(tc.told, "\n") {
			if err = c.Response(Response{Text: line}); err != nil {
				break
			}
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// A keyword that the client has set itself needs no FLAGS before it is told.
func TestModelClientKnowsItsOwnKeywords(t *testing.T) {
	m := NewModelMailbox(1)
	m.Append()
	c := NewModelClient(ModelPlain, m, `\Seen`)
	c.Names("New")
	if err := c.Response(Response{Text: "* 1 FETCH (FLAGS (New))"}); err != nil {
		t.Error(err)
	}
	if err := c.Response(Response{Text: "* 1 FETCH (FLAGS (New Other))"}); err == nil {
		t.Error("a keyword of others is taken without FLAGS")
	}
}

// A client that is cut off asks for what came after the highest mod-sequence it
// was told. Nothing from before may be missing then.
func TestModelClientFindsWhatACutWouldHide(t *testing.T) {
	for name, tc := range map[string]struct {
		told, want string
	}{
		"nothing told":              {"", ""},
		"in the right order":        {"* VANISHED 1\n* 1 FETCH (UID 2 FLAGS (a) MODSEQ (5))\n* 2 FETCH (UID 3 FLAGS (b) MODSEQ (7))", ""},
		"FETCH before VANISHED":     {"* 2 FETCH (UID 2 FLAGS (a) MODSEQ (5))\n* 3 FETCH (UID 3 FLAGS (b) MODSEQ (7))", "UID 1 vanished"},
		"a later change first":      {"* VANISHED 1\n* 2 FETCH (UID 3 FLAGS (b) MODSEQ (7))", "UID 2 has"},
		"a code that says too much": {"* OK [HIGHESTMODSEQ 7] Highest", "vanished"},
		"a code that says enough":   {"* OK [HIGHESTMODSEQ 4] Highest", ""},
	} {
		m := NewModelMailbox(1)
		for range 3 {
			m.Append()
		}
		c := NewModelClient(ModelQResync, m)
		m.Store(2, "a") // 5
		m.Expunge(1)    // 6
		m.Store(3, "b") // 7
		c.Begin("IDLE")
		var err error
		for line := range strings.SplitSeq(tc.told, "\n") {
			if err = c.Response(Response{Text: line}); err == nil {
				err = c.Check(m)
			}
			if err != nil {
				break
			}
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if tc.told != "" && tc.want == "" && strings.Contains(tc.told, "VANISHED") {
			if err := c.Converged(m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestModelClientConverges(t *testing.T) {
	m := NewModelMailbox(1)
	m.Append(`\Seen`, `\Recent`)
	c := NewModelClient(ModelPlain, m)
	if err := c.Converged(m); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ModelMailbox){
		"a dropped EXISTS":  func(m *ModelMailbox) { m.Append() },
		"a dropped EXPUNGE": func(m *ModelMailbox) { m.Expunge(1) },
		"a missed flag":     func(m *ModelMailbox) { m.Store(1) },
		"another message":   func(m *ModelMailbox) { m.Expunge(1); m.Append(`\Seen`) },
	} {
		truth := m.Clone()
		change(truth)
		if c.Converged(truth) == nil {
			t.Error(name)
		}
	}
	if m.Store(1, `\Seen`) || !m.Store(1, "a") || m.Store(9) {
		t.Error("Store says what it changed")
	}
}

// Of two messages whose UIDs weren't told, one vanishes: whose flags the client was told of, it
// can't know any more.
func TestModelClientForgetsTheFlagsOfWhatMayHaveVanished(t *testing.T) {
	m := NewModelMailbox(1)
	c := NewModelClient(ModelQResync, m)
	m.Append()
	m.Append("a")
	c.Begin("IDLE")
	for _, line := range []string{"* 2 EXISTS", "* 2 FETCH (FLAGS (a) MODSEQ (9))", "* VANISHED 2"} {
		if err := c.Response(Response{Text: line}); err != nil {
			t.Fatal(err)
		}
	}
	m.Expunge(2)
	if err := c.Converged(m); err != nil {
		t.Error(err)
	}
}
