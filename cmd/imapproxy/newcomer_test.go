package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"imapproxy/internal/imaptest"
)

// onTerminal runs a command line on a terminal and returns what it shows.
func onTerminal(t *testing.T, width uint16, args ...string) string {
	t.Helper()
	screen, program := terminal(t, width)
	text := make(chan string)
	go func() { // ends with what it waits for, or with the terminal
		var all strings.Builder
		for b := make([]byte, 4096); !strings.Contains(all.String(), "\x00"); {
			n, err := screen.Read(b)
			if err != nil {
				break
			}
			all.Write(b[:n])
		}
		text <- strings.ReplaceAll(all.String(), "\r\n", "\n")
	}()
	code := run(environment{ctx: t.Context(), stdout: program, stderr: program, stdin: strings.NewReader("")}, args)
	if _, err := program.WriteString("\x00"); err != nil {
		t.Fatal(err)
	}
	shown := strings.TrimRight(<-text, "\x00^@")
	if code != exitOK {
		t.Errorf("%s: exit code %d\n%s", strings.Join(args, " "), code, shown)
	}
	return shown
}

// What a verb prints is no wider than the terminal, whichever verb it is.
func TestEachVerbFitsTheTerminal(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	_, plain, _, api := launchDev(t)
	c := imaptest.Dial(t, plain)
	c.Login("alice", "alice")
	c.MustOK("SELECT INBOX")
	guesser := imaptest.Dial(t, plain)
	if a := guesser.TryLogin("bob", "wrong"); a.OK() {
		t.Fatal(a.Tagged)
	}
	gone := imaptest.Dial(t, plain)
	gone.Login("carol", "carol")
	gone.MustOK("LOGOUT")
	gone.ExpectEOF()
	session := strings.Fields(strings.Split(command(t, "sessions", "--admin", api, "--user", "alice").stdout.String(), "\n")[1])[0]
	for _, verb := range []string{"status", "backends", "sessions", "bill", "events", "ended", "failing", "slow", "proxies", "user alice", "commands " + session, "top --once", "explain", "explain kicked"} {
		for _, width := range []uint16{40, 60, 80} {
			args := strings.Fields(verb)
			if args[0] != "explain" {
				args = append(args, "--admin", api)
			}
			text := onTerminal(t, width, args...)
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, " \n")); n > int(width) {
					t.Errorf("%s: %d columns in %d: %s", verb, n, width, line)
				}
			}
		}
	}
	if text := onTerminal(t, 80, "bill", "--admin", api); strings.Contains(text, "…") {
		t.Errorf("headings of the bill are cut:\n%s", text)
	}
}

// What new operators try has an answer that says how to go on.
func TestAnswersSayHowToGoOn(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	_, plain, _, api := launchDev(t)
	for _, user := range []string{"carol", "alice", "bob"} {
		imaptest.Dial(t, plain).Login(user, user)
	}
	for line, want := range map[string]string{
		"status --columns x":   "imapproxy status --help shows",
		"proxies remove":       "imapproxy proxies remove --help shows",
		"nonsense":             "\nimapproxy --help shows",
		"explain bad_password": "the password is wrong",
		"explain backend_slow": "(Problems)",
		"explain backend_lost": "docs/failures.md",
	} {
		if r := command(t, strings.Fields(line)...); !strings.Contains(r.stdout.String()+r.stderr.String(), want) {
			t.Errorf("%s: %s%s", line, r.stdout, r.stderr)
		}
	}
	ask := func(line string) string {
		t.Helper()
		r := command(t, append(strings.Fields(line), "--admin", api)...)
		if r.code != exitOK {
			t.Errorf("%s: %d %s", line, r.code, r.stderr)
		}
		return r.stdout.String()
	}
	for line, want := range map[string]string{
		"commands x":                      `Nothing is remembered of a session "x"`,
		"ended":                           "(none)",
		"slow":                            "(none)",
		"failing":                         "(none)",
		"sessions --user dave":            "(none)",
		"sessions --client 192.0.2.0/24":  "(none)",
		"sessions --attachment parked":    "(none)",
		"sessions --not-parked off":       "(none)",
		"sessions --client 127.0.0.1":     "alice",
		"sessions --sort age --limit 1":   "carol",
		"sessions --attachment attached":  "bob",
		"sessions --sort quiet --cluster": "carol",
	} {
		if text := ask(line); !strings.Contains(text, want) {
			t.Errorf("%s: %s", line, text)
		}
	}
	if text := ask("sessions --sort age --limit 1"); strings.Count(text, "\n") != 2 {
		t.Errorf("more than the oldest:\n%s", text)
	}
	all := ask("sessions")
	if a, b, c := strings.Index(all, " alice "), strings.Index(all, " bob "), strings.Index(all, " carol "); a < 0 || a > b || b > c {
		t.Errorf("not by user:\n%s", all)
	}
	text := ask("failing")
	since, err := time.ParseInLocation(time.DateTime, strings.TrimPrefix(strings.Split(text, "\n")[0], "0 failed logins since "), time.Local)
	if err != nil || time.Since(since) > 10*time.Minute {
		t.Errorf("failures are said to be known since before the start: %v\n%s", err, text)
	}
}
