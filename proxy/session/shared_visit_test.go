package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// visiting is a session that has a connection to another user's mail at the backend b1, whose other end is theirs.
func visiting(t *testing.T) (o *visit, l *leg, theirs func(string)) {
	t.Helper()
	s := bare(t, phaseShared)
	router, err := routing.New(routing.Options{Storage: routing.Separate, Telemetry: telemetry.Discard()})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: "127.0.0.1:1", Weight: 1}}})
	pick, err := router.PickWithin(t.Context(), time.Second, "alice", "b1")
	must(t, err)
	t.Cleanup(pick.Release)
	ours, far := oneConn(t)
	c := &upstream.Conn{Conn: ours}
	s.visits(c, pick)
	return &visit{s: s}, newLeg(c), func(text string) {
		t.Helper()
		_, err := far.Write([]byte(text))
		must(t, err)
	}
}

// A LIST may be about many owners: a backend that can't be reached isn't asked about the next one. What has failed for one owner doesn't keep the others from being asked.
func TestOneOwnersFailureIsNotTheBackendsSilence(t *testing.T) {
	at := func(stage string, err error) error { return &upstream.Unavailable{Stage: stage, Err: err} }
	lost := func(err error) error { return &lostLeg{nil, &imapclient.Broken{Err: err}} }
	for name, x := range map[string]struct {
		err       error
		one, both bool // the backend is silent after the failure for one owner, for two
	}{
		"it isn't reached":              {at(upstream.StageDial, upstream.ErrTimeout), true, true},
		"no greeting":                   {at(upstream.StageGreeting, upstream.ErrTimeout), true, true},
		"no answer to the login":        {at(upstream.StageLogin, upstream.ErrTimeout), false, true},
		"a refused login":               {&upstream.Unavailable{Stage: upstream.StageLogin, Code: "UNAVAILABLE", Text: "no"}, false, false},
		"an owner who is the user":      {at(upstream.StageSettings, upstream.ErrUnproved), false, false},
		"a connection that is let go":   {at(upstream.StageDial, context.Canceled), false, false},
		"no descriptor is left":         {at(upstream.StageDial, syscall.EMFILE), false, false},
		"no answer to a command":        {lost(context.DeadlineExceeded), false, true},
		"a line that is too long":       {lost(wire.ErrLineTooLong), false, false},
		"a connection that is lost":     {lost(os.ErrClosed), false, false},
		"a backend that lacks much":     {fmt.Errorf("%w: CONDSTORE", errTooOld), false, false},
		"a connection that is given up": {lost(os.ErrDeadlineExceeded), false, false},
	} {
		o := &visit{silent: map[string]bool{}, slow: map[string]string{}}
		o.keepsSilent("b1", "alice", x.err)
		o.keepsSilent("b1", "alice", x.err)
		o.keepsSilent("b2", "carol", x.err)
		one := o.silent["b1"]
		o.keepsSilent("b1", "carol", x.err)
		if one != x.one || o.silent["b1"] != x.both {
			t.Errorf("%s: silent after one owner: %v, after two: %v", name, one, o.silent["b1"])
		}
	}
}

// The time within which a backend had to answer is over when the answer has come: the next command on the connection may come any time later.
func TestAnAnswersTimeEndsWithIt(t *testing.T) {
	t.Parallel()
	o, l, theirs := visiting(t)
	theirs("ap1 OK copied\r\n")
	l.conn.QuickAck()
	o.s.env.Now = func() time.Time { return time.Now().Add(time.Second - answerWithin) }
	if _, _, err := o.tagged(l, "ap1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) { // the time passes
		t.Fatal(err)
	}
	theirs("ip1 OK done\r\n")
	if _, err := o.do(l, "NOOP", nil); err != nil {
		t.Error(err)
	}
}

// The time that the other side takes for a piece of a message isn't the backend's.
func TestAPiecesTimeIsNotTheBackends(t *testing.T) {
	o, l, theirs := visiting(t)
	theirs("abc")
	var got string
	if err := o.read(l, 6, func(b []byte) error {
		if got += string(b); len(got) == 3 {
			l.conn.LimitReads(time.Now().Add(-time.Second)) // as if a deadline from before had passed meanwhile
			theirs("def")
		}
		return nil
	}); err != nil || got != "abcdef" {
		t.Errorf("%q, %v", got, err)
	}
}

// A backend that serves one session in another user's mailbox is alive, however long others wait there, and however long this one's command takes.
func TestAVisitThatIsServedShowsThatTheBackendIsAlive(t *testing.T) {
	for name, heard := range map[string]func(*visit, *leg, func(string)) error{
		"a line": func(o *visit, l *leg, theirs func(string)) error {
			theirs("* 1 EXISTS\r\n")
			_, err := o.line(l)
			return err
		},
		"a literal": func(o *visit, l *leg, theirs func(string)) error {
			theirs("abc")
			return o.read(l, 3, func([]byte) error { return nil })
		},
		"an answer to the proxy": func(o *visit, l *leg, theirs func(string)) error {
			theirs("ip1 OK done\r\n")
			_, err := o.do(l, "NOOP", nil)
			return err
		},
		"a login": func(o *visit, l *leg, _ func(string)) error {
			l.conn.LoggedIn = o.s.env.Now()
			return nil
		},
	} {
		o, l, theirs := visiting(t)
		must(t, heard(o, l, theirs))
		o.waits(l)
		for _, after := range []time.Duration{DefaultStallAfter / 2, time.Hour} {
			for i := range stallUsers {
				o.s.env.Stalls.note("b1", fmt.Sprint("user", i), true, false)
			}
			o.s.noticeVisitStall(time.Now().Add(after))
			o.s.env.Stalls.EndRound()
			if all, want := o.s.env.Stalls.note("b1", "", false, false).all, after == time.Hour; all != want {
				t.Errorf("%s, %v ago: all are silent: %v", name, after, all)
			}
		}
	}
}

// While a client idles the backend owes it nothing. It owes the answer to DONE, if that is waited for: the goroutine that reads may wait for the client instead.
func TestWhatABackendOwesAtTheEndOfIdle(t *testing.T) {
	silent := func(o *visit, l *leg) bool {
		since, waits := l.conn.Progress.Writing()
		return waits && o.s.env.Now().Add(time.Hour).Sub(since) >= DefaultStallAfter
	}
	for _, reads := range []bool{true, false} {
		o, l, _ := visiting(t)
		l.idles.Store(true)
		o.waits(l)
		if silent(o, l) {
			t.Error("it owes something in IDLE")
		}
		if !reads {
			o.got(l) // and has the client take it
		}
		o.owes(l)
		must(t, o.sendBeside(l, []byte("DONE\r\n")))
		if silent(o, l) != reads {
			t.Errorf("the backend is waited for: %v, it owes an answer: %v", reads, !reads)
		}
	}
}
