package park

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/upstream"
)

// dialScripted logs in at a backend that plays a transcript, whose login is put in
// front. caps are what it has after login.
func dialScripted(t *testing.T, caps, transcript string) *upstream.Conn {
	t.Helper()
	login := "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hello\n" +
		"C: p1 AUTHENTICATE PLAIN {w}\n" +
		"S: p1 OK [CAPABILITY IMAP4rev1 " + caps + "] in\n"
	var lines strings.Builder
	for line := range strings.Lines(transcript) {
		lines.WriteString(strings.TrimLeft(line, "\t"))
	}
	b := imaptest.NewScripted(t, login+lines.String()+"\nC-eof:\n", imaptest.ScriptedOptions{})
	d, err := upstream.New(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Login(t.Context(), upstream.Target{ID: "b1", Address: b.Addr}, upstream.Auth{User: "u", Password: "p"}, upstream.Client{})
	if err != nil {
		t.Fatal(err)
	}
	// The script is waited for: what it found wrong fails the test.
	t.Cleanup(func() { b.WaitOpen(0) })
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// talk is a Talk with a scripted backend, and what it passed to the client.
type talk struct {
	*Talk
	passed strings.Builder
}

func newTalk(t *testing.T, caps string, opt TalkOptions, transcript string) *talk {
	t.Helper()
	out := &talk{}
	opt.Pass = func(b []byte) { out.passed.Write(b) }
	out.Talk = NewTalk(dialScripted(t, caps, transcript), opt)
	return out
}

// told are the lines that the client was passed, as a transcript has them.
func (k *talk) wantPassed(t *testing.T, want ...string) {
	t.Helper()
	got := k.passed.String()
	if all := strings.Join(want, "\r\n"); got != all && got != all+"\r\n" {
		t.Errorf("passed to the client:\n%s\nwant:\n%s", got, all)
	}
}

func TestEndIdleGivesTheClientsAnswerAndPassesTheRest(t *testing.T) {
	k := newTalk(t, "IDLE", TalkOptions{Told: 3, Selected: true, Taken: "ip1"}, `
		C: DONE
		S: * 2 EXPUNGE
		S: * 4 EXISTS
		S: * 4 FETCH (FLAGS (\Recent))
		S: ip1 OK [HIGHESTMODSEQ 7] Idle completed.
		C: ip1 NOOP
		S: ip1 OK done
	`)
	answer, err := k.EndIdle(t.Context(), "ip1")
	if err != nil || string(answer) != "ip1 OK [HIGHESTMODSEQ 7] Idle completed." {
		t.Fatalf("%q, %v", answer, err)
	}
	if k.Told() != 4 {
		t.Errorf("told %d messages", k.Told())
	}
	k.wantPassed(t, "* 2 EXPUNGE", "* 4 EXISTS", `* 4 FETCH (FLAGS (\Recent))`)
	// From here on the tag is free again.
	if _, err := k.do(t.Context(), "NOOP", nil); err != nil {
		t.Fatal(err)
	}
}

func TestATagInUseIsLeftOut(t *testing.T) {
	k := newTalk(t, "", TalkOptions{Taken: "ip1"}, `
		C: ip2 NOOP
		S: ip2 OK done
	`)
	if _, err := k.do(t.Context(), "NOOP", nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatBreaksAConnection(t *testing.T) {
	for name, script := range map[string]string{
		"BYE":                        "S: * BYE Server shutting down.",
		"closed":                     "S-close:",
		"reset":                      "S-reset:",
		"closed inside a response":   "S-raw: \"* 3 EX\"\nS-close:",
		"answer to another command":  "S: ip7 OK done",
		"answer that is none":        "S: ip1 MAYBE",
		"continuation request":       "S: + go on",
		"garbage":                    "S: hello there",
		"EXPUNGE of nothing":         "S: * 9 EXPUNGE",
		"EXPUNGE of 0":               "S: * 0 EXPUNGE",
		"VANISHED of too many":       "S: * VANISHED 1:99",
		"VANISHED that is no set":    "S: * VANISHED 1:*",
		"line too long":              "S: * OK " + strings.Repeat("x", 5000),
		"NUL":                        `S-raw: "* OK \x00\r\n"`,
		"literal beyond all measure": "S: * LIST () NIL {99999999}",
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, "", TalkOptions{Told: 3, MaxLine: 4096}, "C: ip1 NOOP\n"+script)
			_, err := k.do(t.Context(), "NOOP", nil)
			var broken *Broken
			if !errors.As(err, &broken) {
				t.Fatalf("got %v, want *Broken", err)
			}
			if _, again := k.do(t.Context(), "NOOP", nil); again != err {
				t.Errorf("the next command: %v", again)
			}
			if _, err := k.Release(); err == nil {
				t.Error("a broken connection is released as a good one")
			}
			if name == "BYE" {
				k.wantPassed(t, "* BYE Server shutting down.")
			}
		})
	}
}

func TestTimeRunsOutAndTheConnectionIsBroken(t *testing.T) {
	k := newTalk(t, "", TalkOptions{}, "C: ip1 NOOP")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.do(ctx, "NOOP", nil)
	var broken *Broken
	if !errors.As(err, &broken) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestARefusalLeavesTheConnectionInStep(t *testing.T) {
	k := newTalk(t, "", TalkOptions{}, `
		C: ip1 NOOP
		S: * NO [ALERT] Disk is 99% full
		S: ip1 NO [SERVERBUG] Internal error
		C: ip2 NOOP
		S: ip2 OK done
		S: * 1 EXISTS
	`)
	_, err := k.do(t.Context(), "NOOP", nil)
	var no *Refusal
	if !errors.As(err, &no) || no.Status != "NO" || no.Code != "SERVERBUG" || no.Verb != "NOOP" {
		t.Fatalf("got %v", err)
	}
	if _, err := k.do(t.Context(), "NOOP", nil); err != nil {
		t.Fatal(err)
	}
	k.wantPassed(t, "* NO [ALERT] Disk is 99% full")
	// What was read beyond the last answer goes on with the connection.
	c, err := k.Release()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("* 1 EXISTS\r\n"))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "* 1 EXISTS\r\n" {
		t.Fatalf("after Release: %q, %v", b, err)
	}
}

func TestEnableIsSaidOnceAndBelievedOnlyWhenConfirmed(t *testing.T) {
	k := newTalk(t, "ENABLE", TalkOptions{Enabled: []string{"condstore"}}, `
		C: ip1 ENABLE QRESYNC
		S: * ENABLED QRESYNC
		S: ip1 OK Enabled.
		C: ip2 ENABLE UTF8=ACCEPT
		S: * ENABLED
		S: ip2 OK Enabled.
	`)
	for range 2 {
		if err := k.Enable(t.Context(), "CONDSTORE", "QRESYNC"); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Enable(t.Context(), "UTF8=ACCEPT"); !errors.Is(err, ErrNotEnabled) {
		t.Fatalf("got %v", err)
	}
}
