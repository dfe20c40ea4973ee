package imapclient

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"

	"imapproxy/proxy/wire"
)

// dial connects to a backend that plays a transcript.
func dial(t *testing.T, transcript string) *conn.Conn {
	t.Helper()
	c, err := conn.New(imaptest.DialTranscript(t, transcript))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client is a Client of a scripted backend, and what it forwarded.
type client struct {
	*Client
	conn      *conn.Conn
	forwarded strings.Builder
}

func newClient(t *testing.T, opt Options, transcript string) *client {
	t.Helper()
	out := &client{conn: dial(t, transcript)}
	opt.Forward = func(b []byte) { out.forwarded.Write(b) }
	out.Client = New(out.conn, opt)
	return out
}

// wantForwarded compares what was forwarded with lines as a transcript has them.
func (k *client) wantForwarded(t *testing.T, want ...string) {
	t.Helper()
	got := k.forwarded.String()
	if all := strings.Join(want, "\r\n"); got != all && got != all+"\r\n" {
		t.Errorf("forwarded:\n%s\nwant:\n%s", got, all)
	}
}

func TestATagInUseIsLeftOut(t *testing.T) {
	k := newClient(t, Options{TagInUse: "ip1"}, `
		C: ip2 NOOP
		S: ip2 OK done
	`)
	if _, err := k.Do(t.Context(), "NOOP", nil); err != nil {
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
		"line too long":              "S: * OK " + strings.Repeat("x", 5000),
		"NUL":                        `S-raw: "* OK \x00\r\n"`,
		"literal beyond all measure": "S: * LIST () NIL {99999999}",
	} {
		t.Run(name, func(t *testing.T) {
			k := newClient(t, Options{MaxLine: 4096}, "C: ip1 NOOP\n"+script)
			_, err := k.Do(t.Context(), "NOOP", nil)
			var broken *Broken
			if !errors.As(err, &broken) {
				t.Fatalf("got %v, want *Broken", err)
			}
			if _, again := k.Do(t.Context(), "NOOP", nil); again != err {
				t.Errorf("the next command: %v", again)
			}
			if err := k.Release(); err == nil {
				t.Error("a broken connection is released as a good one")
			}
			if name == "BYE" {
				k.wantForwarded(t, "* BYE Server shutting down.")
			}
		})
	}
}

func TestTimeRunsOutAndTheConnectionIsBroken(t *testing.T) {
	k := newClient(t, Options{}, "C: ip1 NOOP")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.Do(ctx, "NOOP", nil)
	var broken *Broken
	if !errors.As(err, &broken) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

// What is written where names may not be has the response code, and not the text, in which a backend names mailboxes.
func TestADiscreetErrorHasNoTextOfTheBackend(t *testing.T) {
	for want, err := range map[string]interface{ Discreet() string }{
		"SELECT: NO [NONEXISTENT]": &Refusal{Verb: "SELECT", Status: "NO", Code: "NONEXISTENT", Text: "Mailbox doesn't exist: Family/Alice"},
		"BYE [UNAVAILABLE]":        &Bye{Response: wire.Response{Status: "BYE", Code: "UNAVAILABLE", Text: "alice is being moved"}},
	} {
		if got := err.Discreet(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestARefusalLeavesTheConnectionInStep(t *testing.T) {
	k := newClient(t, Options{}, `
		C: ip1 NOOP
		S: * NO [ALERT] Disk is 99% full
		S: ip1 NO [SERVERBUG] Internal error
		C: ip2 NOOP
		S: ip2 OK done
		S: * 1 EXISTS
	`)
	_, err := k.Do(t.Context(), "NOOP", nil)
	var no *Refusal
	if !errors.As(err, &no) || no.Status != "NO" || no.Code != "SERVERBUG" || no.Verb != "NOOP" {
		t.Fatalf("got %v", err)
	}
	if _, err := k.Do(t.Context(), "NOOP", nil); err != nil {
		t.Fatal(err)
	}
	k.wantForwarded(t, "* NO [ALERT] Disk is 99% full")
	// What was read beyond the last answer goes on with the connection.
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("* 1 EXISTS\r\n"))
	if _, err := io.ReadFull(k.conn, b); err != nil || string(b) != "* 1 EXISTS\r\n" {
		t.Fatalf("after Release: %q, %v", b, err)
	}
}

func TestEnableIsSaidOnceAndBelievedOnlyWhenConfirmed(t *testing.T) {
	k := newClient(t, Options{Enabled: []string{"condstore"}}, `
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

func TestAnErrorFollowingAResponseBreaksTheConnection(t *testing.T) {
	why := errors.New("no such message")
	k := newClient(t, Options{Follow: func(u Untagged) error {
		if u.Is("expunge") {
			return why
		}
		return nil
	}}, `
		C: ip1 NOOP
		S: * 3 EXISTS
		S: * 9 EXPUNGE
	`)
	_, err := k.Do(t.Context(), "NOOP", nil)
	var broken *Broken
	if !errors.As(err, &broken) || !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	k.wantForwarded(t, "* 3 EXISTS")
}

func TestAnAnswerThatIsIgnoredMayComeFirstOrLast(t *testing.T) {
	for name, script := range map[string]string{
		"first": "S: ip1 OK ID completed\nS: ip2 OK done",
		"last":  "S: ip2 OK done\nS: * 1 EXISTS\nS: ip1 BAD what",
	} {
		t.Run(name, func(t *testing.T) {
			k := newClient(t, Options{}, "C: ip1 ID NIL\nC: ip2 NOOP\n"+script)
			k.IgnoreAnswer(k.Queue("ID NIL\r\n"))
			tag := k.Queue("NOOP\r\n")
			if err := k.Flush(); err != nil {
				t.Fatal(err)
			}
			if resp, err := k.Answer(tag, false, nil); err != nil || resp.Tag != tag {
				t.Fatalf("%+v, %v", resp, err)
			}
			if k.IgnoresAnswer() != (name == "last") {
				t.Errorf("an answer is awaited: %v", k.IgnoresAnswer())
			}
			if err := k.SkipAnswer(nil); err != nil || k.IgnoresAnswer() {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAllResponsesTogetherAreBounded(t *testing.T) {
	k := newClient(t, Options{MaxTotal: 30}, `
		C: ip1 NOOP
		S: * 1 EXISTS
		S: * 2 EXISTS
		S: * 3 EXISTS
		S: * 4 EXISTS
	`)
	if _, err := k.Do(t.Context(), "NOOP", nil); !errors.Is(err, ErrProtocol) {
		t.Fatalf("got %v", err)
	}
	k.wantForwarded(t, "* 1 EXISTS", "* 2 EXISTS")
}

func TestAContinuationRequestIsAnAnswerOnlyWhereItIsDue(t *testing.T) {
	k := newClient(t, Options{}, `
		C: ip1 IDLE
		S: * 1 EXISTS
		S: + idling
		C: DONE
		S: ip1 OK done
		C: ip2 IDLE
		S: ip2 NO [LIMIT] not now
	`)
	tag, err := k.BeginIdle(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.EndIdle(t.Context(), tag, nil); err != nil {
		t.Fatal(err)
	}
	var no *Refusal
	if _, err := k.BeginIdle(t.Context(), "", nil); !errors.As(err, &no) || no.Verb != "IDLE" || !no.Passing() {
		t.Fatalf("got %v", err)
	}
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	k.wantForwarded(t, "* 1 EXISTS")
}

func TestWaitReturnsForBytesAndForAWake(t *testing.T) {
	k := newClient(t, Options{}, `
		C: ip1 IDLE
		S: + idling
		S: * 1 EXISTS
		C: DONE
		S: ip1 OK done
	`)
	tag, err := k.BeginIdle(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var w Waker
	pump := conn.NewPool()
	w.Wake()
	if data, woken, err := k.Wait(&w, pump); data || !woken || err != nil {
		t.Fatalf("woken before: %v, %v, %v", data, woken, err)
	}
	if data, woken, err := k.Wait(&w, pump); !data || woken || err != nil {
		t.Fatalf("bytes: %v, %v, %v", data, woken, err)
	}
	if err := k.Listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	k.wantForwarded(t, "* 1 EXISTS")
	woken := make(chan struct{})
	go func() { defer close(woken); w.Wake() }()
	if data, woken, err := k.Wait(&w, pump); data || !woken || err != nil {
		t.Fatalf("woken: %v, %v, %v", data, woken, err)
	}
	<-woken
	if _, err := k.EndIdle(t.Context(), tag, nil); err != nil {
		t.Fatal(err)
	}
}

// woken is the handler of a client that rests.
type woken chan struct{}

func (w woken) Wake() { w <- struct{}{} }

func TestAClientRestsWithoutAGoroutine(t *testing.T) {
	k := newClient(t, Options{}, `
		C: ip1 IDLE
		S: + idling
		S: * 1 EXISTS
		C: DONE
		S: ip1 OK done
		S: * 2 EXISTS
		S-close:
	`)
	poller, err := conn.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- poller.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	tag, err := k.BeginIdle(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var w Waker
	pump, wakes := conn.NewPool(), make(woken)
	rested := func(wantData, wantWoken bool) {
		t.Helper()
		<-wakes
		if data, woken, err := k.Rested(&w, pump); data != wantData || woken != wantWoken || err != nil {
			t.Fatalf("%v, %v, %v; want %v, %v", data, woken, err, wantData, wantWoken)
		}
	}
	for k.Rest(&w, pump, poller, wakes) {
		<-wakes
		if data, woken, err := k.Rested(&w, pump); !data || woken || err != nil {
			t.Fatalf("bytes: %v, %v, %v", data, woken, err)
		}
	} // until it is false: bytes that were read aren't for the poller
	if data, _, err := k.Wait(&w, pump); !data || err != nil {
		t.Fatalf("bytes read before: %v, %v", data, err)
	}
	if err := k.Listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	k.wantForwarded(t, "* 1 EXISTS")
	w.Wake()
	if k.Rest(&w, pump, poller, wakes) {
		t.Fatal("it rests although it was woken before")
	}
	if data, woken, err := k.Wait(&w, pump); data || !woken || err != nil {
		t.Fatalf("woken before: %v, %v, %v", data, woken, err)
	}
	if !k.Rest(&w, pump, poller, wakes) {
		t.Fatal("it doesn't rest")
	}
	w.Wake()
	w.Wake()
	rested(false, true)
	if _, err := k.EndIdle(t.Context(), tag, nil); err != nil {
		t.Fatal(err)
	}
	if !k.Rest(&w, pump, poller, wakes) {
		if _, _, err := k.Wait(&w, pump); err != nil {
			t.Fatal(err)
		}
	} else {
		rested(true, false)
	}
	if err := k.Listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !k.Rest(&w, pump, poller, wakes) {
		t.Fatal("it doesn't rest")
	}
	<-wakes
	var broken *Broken
	if _, _, err := k.Rested(&w, pump); !errors.As(err, &broken) {
		t.Errorf("the backend has hung up: %v", err)
	}
}

// Cyrus sends no response codes with refusals that are temporary.
func TestATextOfCyrusIsPassing(t *testing.T) {
	for text, passing := range map[string]bool{"System I/O error": true, "Mailbox is locked by POP server": true, "Mailbox does not exist": false, "Permission denied": false, "": false} {
		if got := (&Refusal{Verb: "SELECT", Status: "NO", Text: text}).Passing(); got != passing {
			t.Errorf("%q: %v", text, got)
		}
	}
	if (&Refusal{Verb: "SELECT", Status: "BAD", Text: "System I/O error"}).Passing() {
		t.Error("BAD is passing")
	}
}
