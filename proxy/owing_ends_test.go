package proxy

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// owes brings a client to where it is owed EXPUNGE: its own number 1 is gone, and it
// is about to speak by numbers. text is the third message's.
func (l *parkLab) owes(t *testing.T) (w *imaptest.ModelWatcher, d *imaptest.ModelWriter, text []byte) {
	t.Helper()
	user, d := l.user(2)
	payload := imaptest.GeneratedMessage(50_000, 5)
	text, err := io.ReadAll(payload.Open())
	must(t, err)
	if a := d.Literal("APPEND INBOX ", payload, ""); !a.OK() {
		t.Fatal(a)
	}
	d.Truth.Append()
	w = l.watch(user, d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	w.BeginIdle()
	l.parked(w)
	w.EndIdle()
	gone := l.Once(`SELECT "INBOX"`, func() { d.Expunge(1) })
	w.Model.Begin("STORE")
	w.Write(`o1 STORE 2 +FLAGS (\Seen)`)
	w.UntilOK("o1")
	d.Truth.Store(2, `\Seen`)
	l.happens(gone, "a resume")
	if w.Heard["EXPUNGE"] > 0 || l.of(w).Attachment() != session.CatchingUp {
		t.Fatal("nothing is owed")
	}
	l.OnUp(nil)
	return w, d, text
}

const fetchText = "FETCH 3 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])"

// settle has the client told what it is owed.
func settle(t *testing.T, w *imaptest.ModelWatcher, d *imaptest.ModelWriter) {
	t.Helper()
	w.Say("NOOP")
	w.Agrees(d.Truth)
	if w.Heard["EXPUNGE"] != 1 {
		t.Errorf("told %d EXPUNGE", w.Heard["EXPUNGE"])
	}
}

func TestALiteralPassesWhileExpungeIsOwed(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	w, d, text := l.owes(t)
	heard := w.Say(fetchText)
	if len(heard) != 1 || heard[0].Word(1) != "3" || len(heard[0].Literals) != 1 || !bytes.Equal(heard[0].Literals[0].Data, text) {
		t.Fatalf("%d responses: %v", len(heard), heard)
	}
	// A command with a literal that is waited for, one with one that isn't.
	w.Model.Begin("SEARCH")
	w.Write("o2 SEARCH KEYWORD {4}")
	if r := w.Read(); r.Tag() != "+" {
		t.Fatal(r)
	}
	w.Write("none")
	w.UntilOK("o2")
	w.Model.Begin("SEARCH")
	w.Write("o3 SEARCH KEYWORD {4+}", "none")
	w.UntilOK("o3")
	settle(t, w, d)
}

// The backend dies inside a literal of its own.
func TestABackendThatDiesInALiteralWhileExpungeIsOwed(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	w, _, _ := l.owes(t)
	var lines atomic.Int32
	l.OnDown(func(_ *imaptest.Tapped, line string) bool { return lines.Add(1) < 100 })
	w.Write("o2 " + fetchText)
	rest, err := io.ReadAll(w.Conn.Conn)
	must(t, err)
	if strings.Contains(string(rest), "* BYE") || len(rest) < 1000 {
		t.Errorf("%d bytes came, and at the end %q", len(rest), rest[max(0, len(rest)-100):])
	}
	_ = w.Conn.Close()
	l.ended(session.ReasonBackendLostInner)
}

// The backend connection of a session whose client is owed EXPUNGE is lost between two responses: the session goes on with another
// one, and what the client says by number means what it counts.
func TestASessionThatIsOwedExpungeOutlivesItsBackendConnection(t *testing.T) {
	t.Run("during a command", func(t *testing.T) {
		t.Parallel()
		l := newParkLab(t, session.ParkOptions{}, nil)
		w, d, text := l.owes(t)
		var lines atomic.Int32
		l.OnDown(func(_ *imaptest.Tapped, line string) bool { return lines.Add(1) != 1 })
		theText(t, w.Say(fetchText), text)
		settle(t, w, d)
	})
	t.Run("before a command", func(t *testing.T) {
		t.Parallel()
		l := newParkLab(t, session.ParkOptions{}, nil)
		w, d, text := l.owes(t)
		l.CutAll()
		theText(t, w.Say(fetchText), text)
		settle(t, w, d)
	})
	t.Run("while the client says nothing", func(t *testing.T) {
		t.Parallel()
		l := newParkLab(t, session.ParkOptions{}, nil)
		w, d, _ := l.owes(t)
		var again atomic.Bool
		l.OnUp(func(_ *imaptest.Tapped, line string) bool {
			again.Store(again.Load() || strings.Contains(line, " SELECT "))
			return true
		})
		l.CutAll()
		eventually(l.t, "another connection", func() bool {
			l.srv.Sweep()
			return again.Load()
		})
		settle(t, w, d)
	})
}

// theText checks that message 3 was told, whole and once; flags may be told again.
func theText(t *testing.T, heard []imaptest.Response, text []byte) {
	t.Helper()
	told := 0
	for _, r := range heard {
		if len(r.Literals) == 0 {
			continue
		}
		if told++; r.Word(1) != "3" || !bytes.Equal(r.Literals[0].Data, text) {
			t.Error(r)
		}
	}
	if told != 1 {
		t.Errorf("told %d times: %v", told, heard)
	}
}

// What ends a session whose client is owed EXPUNGE.
func TestWhatEndsASessionThatIsOwedExpunge(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(l *parkLab, w *imaptest.ModelWatcher)
		reason  session.Reason
		bye     bool
	}{
		"the client goes":     {func(_ *parkLab, w *imaptest.ModelWatcher) { _ = w.Conn.Close() }, session.ReasonClientClosed, false},
		"the client is reset": {func(_ *parkLab, w *imaptest.ModelWatcher) { _ = w.Reset() }, session.ReasonClientLost, false},
		"a line without an end": {func(_ *parkLab, w *imaptest.ModelWatcher) {
			_ = w.SendRaw("x FETCH " + strings.Repeat("1,", longestOwedLine))
		}, session.ReasonClientProtocol, true},
		"a literal beyond all": {func(_ *parkLab, w *imaptest.ModelWatcher) { w.Write("x SEARCH TEXT {99999999+}") }, session.ReasonClientProtocol, true},
		"the proxy goes":       {func(l *parkLab, _ *imaptest.ModelWatcher) { l.end() }, session.ReasonShutdown, true},
		"its time is over":     {func(l *parkLab, w *imaptest.ModelWatcher) { l.of(w).Terminate(session.ReasonIdle) }, session.ReasonIdle, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{}, nil)
			w, _, _ := l.owes(t)
			c.happens(l, w)
			if c.bye {
				w.ExpectBye()
				_ = w.Conn.Close()
			}
			l.ended(c.reason)
		})
	}
}

// Whatever the client says while it is owed EXPUNGE, in one write: numbers mean what they meant
// to it when it said them, and it is told when all of that is answered.
func TestCommandsInOneWriteWhileExpungeIsOwed(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	w, d, _ := l.owes(t)
	w.Write(`o2 STORE 3 +FLAGS (\Flagged)`, "o3 FETCH 1:3 (FLAGS)", "o4 UID FETCH 1:* (FLAGS)", `o5 STORE 2 +FLAGS (\Answered)`, "o6 NOOP", "o7 IDLE")
	w.Model.Begin("STORE")
	w.UntilOK("o2")
	d.Truth.Store(3, `\Flagged`)
	w.Model.Begin("FETCH")
	_, tagged := w.HearUntil("o3") // 1 is gone
	if !strings.Contains(tagged.Text, "EXPUNGEISSUED") {
		t.Error(tagged)
	}
	w.Model.Begin("UID FETCH")
	w.UntilOK("o4")
	uid := w.Model.UID(2) // nothing is told before all of it is answered
	w.Model.Begin("STORE")
	w.UntilOK("o5")
	d.Truth.Store(uid, append([]string{`\Answered`}, d.Truth.Find(uid).Flags...)...)
	w.Model.Begin("NOOP")
	w.UntilOK("o6")
	if w.Heard["EXPUNGE"] > 0 {
		t.Error("EXPUNGE before commands that had come")
	}
	w.Model.Begin("IDLE")
	for r := w.Read(); r.Tag() != "+"; r = w.Read() {
		w.Hear(r)
	}
	d.Append(1)
	w.Counts(3)
	w.Write("DONE")
	w.UntilOK("o7")
	settle(t, w, d)
}
