package resync

import (
	"errors"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
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

// client is a Client of a scripted backend, and what it forwarded to the session's client.
type client struct {
	*Client
	forwarded strings.Builder
}

func newClient(t *testing.T, caps string, opt Options, transcript string) *client {
	t.Helper()
	out := &client{}
	opt.Forward = func(b []byte) { out.forwarded.Write(b) }
	out.Client = NewClient(dial(t, transcript), wire.ParseCaps([]byte("IMAP4rev1 "+caps)), opt)
	return out
}

// wantForwarded compares what was forwarded with lines as a transcript has them.
func (k *client) wantForwarded(t *testing.T, want ...string) {
	t.Helper()
	got := k.forwarded.String()
	if all := strings.Join(want, "\r\n"); got != all && got != all+"\r\n" {
		t.Errorf("forwarded to the client:\n%s\nwant:\n%s", got, all)
	}
}

func TestEndIdleGivesTheClientsAnswerAndForwardsTheRest(t *testing.T) {
	k := newClient(t, "IDLE", Options{Messages: 3, Selected: true, TagInUse: "ip1"}, `
		C: DONE
		S: * 2 EXPUNGE
		S: * 4 EXISTS
		S: * 4 FETCH (FLAGS (\Recent))
		S: ip1 OK [HIGHESTMODSEQ 7] Idle completed.
		C: ip1 NOOP
		S: ip1 OK done
	`)
	answer, err := k.EndIdle(t.Context(), "ip1", nil)
	if err != nil || string(answer.Line) != "ip1 OK [HIGHESTMODSEQ 7] Idle completed." {
		t.Fatalf("%q, %v", answer.Line, err)
	}
	if k.Messages() != 4 {
		t.Errorf("%d messages", k.Messages())
	}
	k.wantForwarded(t, "* 2 EXPUNGE", "* 4 EXISTS", `* 4 FETCH (FLAGS (\Recent))`)
	// From here on the tag is free again.
	if _, err := k.Do(t.Context(), "NOOP", nil); err != nil {
		t.Fatal(err)
	}
}

func TestACountThatCannotBeBreaksTheConnection(t *testing.T) {
	for name, line := range map[string]string{
		"EXPUNGE of nothing":      "* 9 EXPUNGE",
		"EXPUNGE of 0":            "* 0 EXPUNGE",
		"VANISHED of too many":    "* VANISHED 1:99",
		"VANISHED that is no set": "* VANISHED 1:*",
	} {
		t.Run(name, func(t *testing.T) {
			k := newClient(t, "", Options{Messages: 3}, "C: ip1 NOOP\nS: "+line)
			_, err := k.Do(t.Context(), "NOOP", nil)
			var broken *imapclient.Broken
			if !errors.As(err, &broken) || !errors.Is(err, imapclient.ErrProtocol) {
				t.Fatalf("got %v, want *Broken", err)
			}
			if err := k.Release(); err == nil {
				t.Error("a broken connection is released as a good one")
			}
		})
	}
}
