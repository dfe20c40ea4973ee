package imaptest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClientLogsInToADialogueInEveryWay(t *testing.T) {
	cert := NewCert(t)
	var got []Login
	d := Dialogue{TLS: cert.Server, Check: func(_ *BackendConn, l Login) string {
		got = append(got, l)
		if l.Password != `p"w` {
			return "NO [AUTHENTICATIONFAILED] wrong"
		}
		return ""
	}}
	b := NewBackend(t, d.Serve)
	d.Implicit = true
	bs := NewBackend(t, d.Serve)

	c := DialStartTLS(t, b.Addr, cert.Client)
	if a := c.TryLogin("alice", "no"); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Fatalf("wrong password: %s", a)
	}
	if a := c.Login("alice", `p"w`); !strings.HasPrefix(a.Tagged.Code(), "CAPABILITY IMAP4rev1 IDLE") {
		t.Fatalf("login: %s", a)
	}
	if a := DialTLS(t, bs.Addr, cert.Client).Plain("alice", "proxy", `p"w`); !a.OK() {
		t.Fatal(a)
	}
	c = Dial(t, b.Addr)
	c.Write("x AUTHENTICATE PLAIN")
	c.Expect("+")
	c.Write(PlainInitial("", "bob", `p"w`))
	c.Expect("x OK")
	if a := c.Literal("LOGIN carol ", BytesPayload([]byte(`p"w`)), ""); !a.OK() {
		t.Fatal(a)
	}
	c.MustOK("SELECT INBOX")
	done := c.Idle()
	if a := done(); !a.OK() {
		t.Fatal(a)
	}
	if a := c.Cmd("XYZZY {3+}\r\nabc"); a.Tagged.Status() != "BAD" {
		t.Fatal(a)
	}
	want := []Login{{"LOGIN", "", "alice", "no"}, {"LOGIN", "", "alice", `p"w`}, {"PLAIN", "alice", "proxy", `p"w`},
		{"PLAIN", "", "bob", `p"w`}, {"LOGIN", "", "carol", `p"w`}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("logins\n got  %v\n want %v", got, want)
	}
	if cmd := b.WaitCommand("XYZZY"); string(cmd.Literals[0].Data) != "abc" || !cmd.Literals[0].NoSync {
		t.Fatalf("the backend read %v", cmd)
	}
}

func TestScriptedBackendSpeaksItsTranscript(t *testing.T) {
	b := NewScripted(t, `
S: * OK ready
C: ${tag=\w+} LOGIN {5} {w}
S: ${tag} OK [CAPABILITY ${caps}] in
C: ${t=\w+} FETCH {n} BODY[]
S: * 1 FETCH (BODY[] {<<m.eml} UID 7)
S-split: 1
S: ${t} OK slowly
C: ${t=\w+} APPEND x {{n}}<<gen:3000:5>>
S-cut: 6 reset
S: ${t} OK never whole

# the second connection waits for the test
S1-wait: go
S1: * BYE no
S1-close:
-- m.eml --
Subject: hi

there
`, ScriptedOptions{Vars: map[string]string{"caps": "IMAP4rev1"}})

	c := Dial(t, b.Addr)
	c.Literal("LOGIN ", BytesPayload([]byte("alice")), " x")
	a := c.Cmd("FETCH 1 BODY[]")
	if len(a.Untagged) != 1 || string(a.Untagged[0].Literals[0].Data) != "Subject: hi\r\n\r\nthere\r\n" {
		t.Fatal(a)
	}
	c.Write("a APPEND x {3000}")
	c.Expect("+ go ahead")
	if err := c.SendPayload(GeneratedMessage(3000, 5)); err != nil {
		t.Fatal(err)
	}
	c.Write("")
	r, err := c.Next()
	// a RST may overtake the bytes sent before it
	if !errors.Is(err, syscall.ECONNRESET) && !(errors.Is(err, io.ErrUnexpectedEOF) && len(r.Text) == 6) {
		t.Fatalf("after the cut: %q, %v", r.Text, err)
	}
	two, err := DialConn(t.Context(), b.Addr, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if _, err := two.NextWithin(30 * time.Millisecond); err == nil {
		t.Fatal("an answer before its event")
	}
	b.Fire("go")
	if r, err := two.Next(); err != nil || r.Status() != "BYE" {
		t.Fatalf("after the event: %v, %v", r, err)
	}
}

// recorder is a testing.TB that remembers failures instead of failing.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }

func TestScriptedBackendComplainsOfAnotherCommand(t *testing.T) {
	for name, send := range map[string]string{"another command": "a LOGOUT\r\n", "none": "", "half of one": "a NO"} {
		t.Run(name, func(t *testing.T) {
			rec := &recorder{TB: t}
			b := NewScripted(rec, "S: * OK\nC: {w} NOOP\n", ScriptedOptions{})
			c := Dial(t, b.Addr)
			if err := c.SendRaw(send); err != nil {
				t.Fatal(err)
			}
			if err := c.Conn.Close(); err != nil {
				t.Fatal(err)
			}
			b.WaitOpen(0)
			b.Close()
			if len(rec.errors) != 1 || !strings.Contains(rec.errors[0], ":2: ") {
				t.Fatalf("complaints: %q", rec.errors)
			}
		})
	}
}

func TestBackendFaults(t *testing.T) {
	b := NewBackend(t, func(c *BackendConn) error {
		switch c.Index {
		case 0: // in the middle of a literal
			c.CutAfter(50, FaultClose)
			return c.Send("* 1 FETCH (BODY[] {100}", strings.Repeat("x", 100)+")")
		case 1:
			if err := c.Do(FaultHalfClose); err != nil {
				return err
			}
			if _, err := c.Expect("{w} NOOP"); err != nil {
				return err
			}
			c.Backend.Fire("heard")
			return nil
		case 2:
			return c.Garbage(5000, 3)
		default:
			return c.StallForever()
		}
	})
	dial := func() *Conn {
		c, err := DialConn(t.Context(), b.Addr, DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	if r, err := dial().Next(); !errors.Is(err, io.ErrUnexpectedEOF) || r.Literals[0].Size != 100 {
		t.Errorf("cut literal: %v, %v", r, err)
	}
	half := dial()
	if _, err := half.Next(); err != io.EOF {
		t.Errorf("half-closed: %v", err)
	}
	if err := half.Send("a NOOP"); err != nil {
		t.Error(err)
	}
	if err := b.Wait("heard"); err != nil {
		t.Error(err)
	}
	if r, err := dial().Next(); !errors.Is(err, io.ErrUnexpectedEOF) || len(r.Text) != 5000 {
		t.Errorf("garbage: %d bytes, %v", len(r.Text), err)
	}
	dial()
	b.WaitAccepted(4)
	b.StopListening()
	if _, err := DialConn(t.Context(), b.Addr, DialOptions{}); err == nil {
		t.Error("still listens")
	}
	b.Close() // ends the one that stalls
	if b.Open() != 0 {
		t.Error("a handler survived Close")
	}
}
