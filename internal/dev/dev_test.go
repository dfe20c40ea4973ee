package dev_test

import (
	"context"
	"log/slog"
	"mime"
	"net"
	"net/mail"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"imapproxy/internal/dev"
	"imapproxy/internal/imaptest"
)

func start(t *testing.T, o dev.Options) *dev.Fleet {
	t.Helper()
	imaptest.VerifyNoLeaks(t)
	f, err := dev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestEveryBackendShowsTheSameMailAtOnce(t *testing.T) {
	f := start(t, dev.Options{})
	addrs := f.Addresses()
	if len(addrs) != dev.DefaultBackends {
		t.Fatalf("%d backends", len(addrs))
	}
	one, two := imaptest.Dial(t, addrs[0]), imaptest.Dial(t, addrs[2])
	for _, c := range []*imaptest.Client{one, two} {
		c.Login("alice", "alice")
		if a := c.MustOK("SELECT INBOX"); !contains(a, "* 5 EXISTS") {
			t.Fatalf("INBOX: %s", a)
		}
	}
	if a := two.Literal("APPEND INBOX (\\Flagged) ", imaptest.GeneratedMessage(4000, 1), ""); !a.OK() {
		t.Fatal(a)
	}
	two.MustOK("STORE 1 +FLAGS (\\Deleted)")
	two.MustOK("EXPUNGE")
	// Not by IDLE: go-imap's server says "+" a moment before it listens for changes,
	// and what falls in between is told with the next one only.
	if a := one.MustOK("NOOP"); !contains(a, "* 6 EXISTS") || !contains(a, "* 1 EXPUNGE") {
		t.Fatal(a)
	}
	if a := one.MustOK("STATUS Projects/2026 (MESSAGES UNSEEN)"); !contains(a, `* STATUS "Projects/2026" (MESSAGES 2 UNSEEN 0)`) {
		t.Error(a)
	}
	for user, password := range map[string]string{"alice": "bob", "dave": "dave"} {
		if a := imaptest.Dial(t, addrs[1]).TryLogin(user, password); a.OK() {
			t.Errorf("%s logs in with %s", user, password)
		}
	}
}

func TestAClientIsToldOfMailThatArrivesAndTheFleetKnowsIt(t *testing.T) {
	f := start(t, dev.Options{})
	c, err := dev.Idle(t.Context(), f.Addresses()[1], "bob")
	if err != nil {
		t.Fatal(err)
	}
	if n := f.Connections("bob"); n != 1 || f.Connections("alice") != 0 {
		t.Errorf("%d connections of bob's", n)
	}
	// go-imap's server says "+" a moment before it listens for changes: what falls in
	// between is told with the next one.
	for told := uint32(0); told == 0; {
		if err := f.Deliver("bob"); err != nil {
			t.Fatal(err)
		}
		select {
		case told = <-c.Told:
			if told < 6 {
				t.Errorf("%d messages after one more", told)
			}
		case <-time.After(time.Second):
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	imaptest.Dial(t, f.Addresses()[0]).Login("bob", "bob")
	for deadline := time.Now().Add(10 * time.Second); f.Connections("bob") != 1; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections of bob's after one has ended", f.Connections("bob"))
		}
		time.Sleep(time.Millisecond)
	}
	if err := f.Deliver("dave"); err == nil {
		t.Error("dave got mail")
	}
	if _, err := dev.Idle(t.Context(), f.Addresses()[0], "dave"); err == nil {
		t.Error("dave is logged in")
	}
}

func contains(a imaptest.Answer, text string) bool {
	for _, r := range a.Untagged {
		if r.Text == text {
			return true
		}
	}
	return false
}

func TestABackendThatStopsTakesItsConnectionsAndNoMail(t *testing.T) {
	f := start(t, dev.Options{Backends: 2, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	addrs := f.Addresses()
	c := imaptest.Dial(t, addrs[0])
	c.Login("bob", "bob")
	if err := f.StopBackend(0); err != nil {
		t.Fatal(err)
	}
	c.ExpectEOF()
	if _, err := net.Dial("tcp", addrs[0]); err == nil {
		t.Error("it still listens")
	}
	c = imaptest.Dial(t, addrs[1])
	c.Login("bob", "bob")
	if a := c.MustOK("SELECT Archive"); !contains(a, "* 60 EXISTS") {
		t.Error(a)
	}
}

func TestTheEndOfTheContextEndsTheFleet(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := dev.Start(ctx, dev.Options{Backends: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := imaptest.Dial(t, f.Addresses()[0])
	cancel()
	c.ExpectEOF()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestGoIMAPsClientReadsEveryMessage(t *testing.T) {
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	f := start(t, dev.Options{Backends: 1, Now: func() time.Time { return now }})
	c, err := imapclient.DialInsecure(f.Addresses()[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("carol", "carol").Wait(); err != nil {
		t.Fatal(err)
	}
	boxes, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for _, b := range boxes {
		data, err := c.Select(b.Mailbox, nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		if data.NumMessages == 0 {
			continue
		}
		section := &imap.FetchItemBodySection{Peek: true}
		all, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: data.NumMessages}}, &imap.FetchOptions{
			Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{}, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		if err != nil {
			t.Fatalf("%s: %v", b.Mailbox, err)
		}
		for _, m := range all {
			body := string(m.FindBodySection(section))
			parsed, err := mail.ReadMessage(strings.NewReader(body))
			if err != nil {
				t.Fatalf("%s: %v", b.Mailbox, err)
			}
			if at, err := parsed.Header.Date(); err != nil || at.After(now) {
				t.Errorf("%s: dated %v, %v", b.Mailbox, at, err)
			}
			if strings.Contains(body, "{") || strings.Count(body, "\n") != strings.Count(body, "\r\n") {
				t.Errorf("%s: a placeholder or a bare LF is left:\n%s", b.Mailbox, body)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
			if err != nil {
				t.Error(err)
			}
			subjects[subject] = true
		}
	}
	for _, want := range []string{"Welcome, Carol", "Mittagessen am Freitag? 🥗", "レポート / Report with an attachment", "The Weekly Mailbox, number 9"} {
		if !subjects[want] {
			t.Errorf("no message %q", want)
		}
	}
	if len(boxes) != 7 {
		t.Errorf("%d mailboxes", len(boxes))
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

func TestCurlReadsMail(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("this test needs curl: run ./test, which installs it, or apt-get install curl")
	}
	f := start(t, dev.Options{Backends: 1})
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "-u", "alice:alice",
		"imap://"+f.Addresses()[0]+"/INBOX;MAILINDEX=1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Subject: Welcome, Alice\r\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
