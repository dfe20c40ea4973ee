package imaptest

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// mailbox is a server on which connections see each other's mail: enough to
// try the runner's every step.
func mailbox(t *testing.T, cert Cert, text string) *Backend {
	idle := "another connection idles"
	d := Dialogue{TLS: cert.Server}
	d.Commands = map[string]CommandFunc{
		"IDLE": func(c *BackendConn, cmd Command) error {
			if err := c.Send("+ idling"); err != nil {
				return err
			}
			c.Backend.Fire(idle)
			if err := c.Backend.Wait("mail"); err != nil {
				return err
			}
			if err := c.Send("* 4 EXISTS", "* 1 RECENT"); err != nil {
				return err
			}
			if _, err := c.Expect("DONE"); err != nil {
				return err
			}
			return c.Send(cmd.Tag() + " OK done")
		},
		"APPEND": func(c *BackendConn, cmd Command) error {
			if err := c.Backend.Wait(idle); err != nil {
				return err
			}
			c.Backend.Fire("mail")
			return c.Sendf("%s OK [APPENDUID 7 4] %s", cmd.Tag(), text)
		},
		"FETCH": func(c *BackendConn, cmd Command) error {
			m := GeneratedMessage(100_000, 1)
			if err := c.Sendf("* 1 FETCH (UID 9 BODY[] {%d}", m.Size); err != nil {
				return err
			}
			if err := c.SendPayload(m); err != nil {
				return err
			}
			return c.Send(")", cmd.Tag()+" OK Fetch completed (0.001 + 0.000 secs).")
		},
		"REFUSE": func(c *BackendConn, cmd Command) error { return c.Send(cmd.Tag() + " NO never") },
		"ORDER": func(c *BackendConn, cmd Command) error {
			return c.Send("* X 2", "* X 1", cmd.Tag()+" OK")
		},
		"SLOW": func(c *BackendConn, cmd Command) error {
			fast, err := c.Expect("{w} FAST")
			if err != nil {
				return err
			}
			return c.Send("* FAST", fast.Tag()+" OK", "* SLOW", cmd.Tag()+" OK")
		},
	}
	return NewBackend(t, d.Serve)
}

const everyStep = `
# every step that a client has
require IDLE ID
timeout 15s
S0: * OK [CAPABILITY {*}] ready
C0: s STARTTLS
S0: s OK
C0-starttls:
[never] C0: x IMPOSSIBLE
[!never] C0: x0 NOOP
S0: x0 OK

C: a1 LOGIN {<<user.raw} ${password}
S: a1 OK [CAPABILITY ${caps=[^]]+}] logged in
compare
normalise modseq
C: a2 SELECT INBOX
S?: * 99 EXISTS
S?: * FLAGS {*}
S: ... a2 OK [READ-WRITE]

C1: i IDLE
S1: + idling
C: a3 APPEND INBOX {<<gen:70KB:2+}
S: a3 OK [APPENDUID ${validity=\d+} ${uid=\d+}]
S1|: * 1 RECENT
S1|: * {n} EXISTS
C1: DONE
S1: i OK
C: a4 FETCH 1 BODY[]
S: * {n} FETCH (UID {n} BODY[] {{n}}<<gen:100000:1>>)
S: a4 OK
set question what is ${uid}
wait says ${question}
C: a5 ORDER
S|: * X 1
S|: * X 2
S: a5
C-raw: "a6 SLOW\r\na7 FA"
C: ST
S: ...
S: a7 OK
S: ... a6 OK
C: a8 REFUSE
S: a8 NO never
C: <<raw
S: a9 BAD
S-quiet: 20ms
C1: z LOGOUT
S1: * BYE bye
S1: z OK
S1-eof:
C-close:
-- user.raw --
alice
-- raw --
a9 WHATEVER
`

func TestRunnerPlaysEveryStepAndComparesTwoRuns(t *testing.T) {
	cert := NewCert(t)
	s, err := ParseScript("every.txtar", []byte(everyStep))
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Missing("IMAP4rev1 idle"); fmt.Sprint(m) != "[ID]" {
		t.Errorf("missing: %v", m)
	}
	options := func(text string) RunOptions {
		return RunOptions{
			Addr: mailbox(t, cert, text).Addr, TLS: cert.Client,
			Vars: map[string]string{"password": "secret"},
			Hooks: map[string]func(context.Context, ...string) error{"says": func(_ context.Context, a ...string) error {
				if strings.Join(a, " ") != "what is 4" {
					return fmt.Errorf("said %q", a)
				}
				return nil
			}},
		}
	}
	d, err := s.Compare(t.Context(), options("appended"), options("appended"), CompareOptions{})
	if err != nil || d != "" {
		t.Fatalf("the same twice: %v\n%s", err, d)
	}
	d, err = s.Compare(t.Context(), options("appended"), options("added"), CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--- direct", "+++ proxy", "-S: a3 OK [APPENDUID <v2> 4] appended", "+S: a3 OK [APPENDUID <v2> 4] added"} {
		if !strings.Contains(d, want) {
			t.Errorf("the diff has no %q:\n%s", want, d)
		}
	}
	rec, err := s.Run(t.Context(), options("appended"))
	if err != nil {
		t.Fatal(err)
	}
	if rec.Vars["validity"] != "7" || !strings.Contains(rec.Vars["caps"], "UIDPLUS") {
		t.Errorf("captured %v", rec.Vars)
	}
}

func TestRunnerSaysWhereAndWhy(t *testing.T) {
	b := NewBackend(t, Dialogue{Commands: map[string]CommandFunc{
		"DIE": func(c *BackendConn, _ Command) error { return c.SendRaw("* 1 FET") },
		"LOGOUT": func(c *BackendConn, cmd Command) error {
			return c.Do(FaultClose)
		},
	}}.Serve)
	for name, tc := range map[string]struct{ script, want string }{
		"another answer":    {"C: a NOOP\nS: a NO\n", "t:2: connection \"\"\n  want  S: a NO\n  got   S: a OK done\n  before that:\n        S: * OK"},
		"skips only *":      {"C: a SELECT x\nS: ... b OK\n", "t:2: "},
		"nothing":           {"timeout 30ms\nC: a NOOP\nS: a OK\nS: * 1 EXISTS\n", "t:4: connection \"\"\n  want  S: * 1 EXISTS\n  but   nothing came within 30ms"},
		"a closed door":     {"C: a LOGOUT\nS: a OK\n", "the server closed"},
		"an open door":      {"C: a NOOP\nS-eof:\n", "want  S: (closed)\n  got   S: a OK"},
		"no silence":        {"C: a NOOP\nS-quiet: 5s\n", "want  S: (nothing for 5s)\n  got   S: a OK"},
		"unset":             {"C: a ${who}\n", "nothing has set ${who}"},
		"no file":           {"C: a X {<<none}\n", `no file "none"`},
		"no hook":           {"wait x\n", "no such hook"},
		"half a response":   {"timeout 30ms\nC: a DIE\nS: * 1 FETCH\n", `* 1 FET`},
		"the backend's own": {"C: a NOOP\nS-cut: 3\n", "scripted backends"},
		"not a dialogue":    {"C-zzz: a\n", "neither"},
		"no colon":          {"C a NOOP\n", "t:1: "},
		"empty":             {"# nothing\n", "no dialogue"},
		"bad duration":      {"timeout soon\nC: a", "t:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseScript("t", []byte(tc.script))
			if err == nil {
				_, err = s.Run(t.Context(), RunOptions{Addr: b.Addr})
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant …%s…", err, tc.want)
			}
		})
	}
}

func TestPipeliningInOneWriteIsSeenByTheDiff(t *testing.T) {
	s, err := ParseScript("t", []byte("C-raw: \"a X\\r\\nb Y\\r\\n\"\nS|: a OK\nS|: b OK\nS|: * 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(answers ...string) RunOptions {
		return RunOptions{Addr: NewBackend(t, func(c *BackendConn) error {
			if err := c.Send("* OK"); err != nil {
				return err
			}
			for range 2 {
				if _, err := c.ReadCommand(); err != nil {
					return err
				}
			}
			return c.Send(answers...)
		}).Addr}
	}
	d, err := s.Compare(t.Context(), run("a OK", "* 1", "b OK"), run("b OK", "* 1", "a OK"), CompareOptions{})
	if err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestDiffMatchesPipelinedAnswersByTagAndOthersByPlace(t *testing.T) {
	rec := func(entries ...string) *Recording {
		s := &Stream{}
		for _, e := range entries {
			side, text, _ := strings.Cut(e, ": ")
			if side == "C" {
				s.Entries = append(s.Entries, Entry{Sent: text, Tags: []string{commandTag(text)}})
			} else {
				s.Entries = append(s.Entries, Entry{Response: Response{Text: text}})
			}
		}
		return &Recording{Streams: []*Stream{s}}
	}
	for name, tc := range map[string]struct {
		a, b *Recording
		o    CompareOptions
		same bool
	}{
		"overtaking":        {rec("C: a X", "C: b Y", "S: * 1", "S: a OK", "S: b OK"), rec("C: a X", "C: b Y", "S: b OK", "S: * 1", "S: a OK"), CompareOptions{}, true},
		"untagged order":    {rec("C: a X", "C: b Y", "S: * 1", "S: * 2", "S: a OK", "S: b OK"), rec("C: a X", "C: b Y", "S: * 2", "S: * 1", "S: a OK", "S: b OK"), CompareOptions{}, false},
		"place, one by one": {rec("C: a X", "S: * 1", "S: a OK", "C: b Y", "S: b OK"), rec("C: a X", "S: a OK", "C: b Y", "S: * 1", "S: b OK"), CompareOptions{}, false},
		"uidvalidity":       {rec("S: * OK [UIDVALIDITY 7] x", "S: * STATUS a (UIDVALIDITY 8)", "S: a OK [COPYUID 7 1 1] y"), rec("S: * OK [UIDVALIDITY 70] x", "S: * STATUS a (UIDVALIDITY 9)", "S: a OK [COPYUID 70 1 1] y"), CompareOptions{}, true},
		"another mailbox's": {rec("S: * OK [UIDVALIDITY 7] x", "S: * STATUS a (UIDVALIDITY 8)"), rec("S: * OK [UIDVALIDITY 7] x", "S: * STATUS a (UIDVALIDITY 7)"), CompareOptions{}, false},
		"capabilities":      {rec("S: a OK [CAPABILITY A STARTTLS B AUTH=X] in"), rec("S: a OK [CAPABILITY A B] in"), CompareOptions{IgnoreCaps: []string{"STARTTLS", "AUTH=*"}}, true},
		"their order":       {rec("S: * CAPABILITY A B"), rec("S: * CAPABILITY B A"), CompareOptions{IgnoreCaps: []string{"C"}}, false},
		"timing":            {rec("S: a OK Fetch (0.001 + 0.000 secs)."), rec("S: a OK Fetch (0.011 + 0.020 + 0.001 secs)."), CompareOptions{}, true},
		"Cyrus' timing":     {rec("S: a OK Completed (0.040 sec)", "S: b OK (2 msgs in 0.000 secs)"), rec("S: a OK Completed (0.001 sec)", "S: b OK (2 msgs in 1.000 secs)"), CompareOptions{}, true},
		"a body like a tag": {rec("C: a X", "C: Hello Ben", "S: * 1", "S: a OK", "C: b Y", "S: b OK", "S: * 2"), rec("C: a X", "C: Hello Ben", "S: * 1", "S: a OK", "C: b Y", "S: * 2", "S: b OK"), CompareOptions{}, false},
		"modseq unasked":    {rec("S: * OK [HIGHESTMODSEQ 5] x"), rec("S: * OK [HIGHESTMODSEQ 6] x"), CompareOptions{}, false},
		"modseq":            {rec("S: * OK [HIGHESTMODSEQ 5] x", "S: * 1 FETCH (MODSEQ (3))"), rec("S: * OK [HIGHESTMODSEQ 6] x", "S: * 1 FETCH (MODSEQ (4))"), CompareOptions{Normalise: []string{"modseq"}}, true},
		"replaced":          {rec("S: * X u1"), rec("S: * X u2"), CompareOptions{Replace: strings.NewReplacer("u1", "U", "u2", "U")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Diff(tc.a, tc.b, tc.o)
			if err != nil || (d == "") != tc.same {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
	if _, err := Diff(rec("S: x"), rec("S: x"), CompareOptions{Normalise: []string{"moon"}}); err == nil {
		t.Error("an unknown normaliser is accepted")
	}
}
