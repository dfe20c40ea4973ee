package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
)

// A table is no wider than the terminal: columns are left out and named, the widest cells are cut, and the last column goes on in further lines with all its words.
func TestTablesFitTheTerminal(t *testing.T) {
	rows := [][]string{
		{"BACKEND", "STATE", "REMARKS"},
		{"imap-17.storage.example.org", "down", "connection refused: dial tcp 192.0.2.17:143; 40 failures in a row; tags ssd"},
		{"b", "up", "-"},
	}
	if got, want := fitted(rows, 0), "BACKEND                      STATE  REMARKS\nimap-17.storage.example.org  down   "+rows[1][2]+"\nb                            up     -\n"; got != want {
		t.Errorf("without a terminal:\n%s\nwant\n%s", got, want)
	}
	for width := 40; width < 140; width++ {
		got := fitted(rows, width)
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > width {
				t.Errorf("%d columns in %d:\n%s", n, width, got)
			}
		}
		for _, word := range strings.Fields(rows[1][2]) {
			if !strings.Contains(got, word) && len(word) < 24 {
				t.Errorf("in %d columns %q is lost:\n%s", width, word, got)
			}
		}
	}
	if got := wrapped(strings.Repeat("x", 25), 10); got != "xxxxxxxxxx\nxxxxxxxxxx\nxxxxx" {
		t.Errorf("a long word: %q", got)
	}
}

// terminal returns both ends of a terminal of a width.
func terminal(t *testing.T, width uint16) (screen, program *os.File) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	check(err)
	t.Cleanup(func() { _ = screen.Close() })
	check(unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	check(err)
	check(unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: width}))
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	check(err)
	t.Cleanup(func() { _ = program.Close() })
	return screen, program
}

// someSessions are two sessions.
func someSessions() []admin.Session {
	return []admin.Session{
		{ID: "aaaaaaaaaaaaaaaa", User: "alice", Backend: "imap1", Why: "rendezvous", Client: "192.0.2.1:50000", Listener: "imaps", TLS: true, State: "selected", Attachment: "attached", NotParked: "message_numbers"},
		{ID: "bbbbbbbbbbbbbbbb", User: "bob@a-rather-long-domain.example.org", Backend: "imap2", Client: "192.0.2.2:50000", Listener: "imaps", State: "selected", Idle: true, Attachment: "parked"},
	}
}

// On a terminal the width is asked for; what is left out is said.
func TestATableAsksTheTerminalForItsWidth(t *testing.T) {
	screen, program := terminal(t, 60)
	columns, _, err := chosen(environment{}, columnsFlag{}, false, sessionColumns())
	if err != nil {
		t.Fatal(err)
	}
	if err := listing(program, columns, someSessions()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(program, "END")
	var text string
	for b := make([]byte, 4096); !strings.Contains(text, "END"); {
		n, err := screen.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b[:n])
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\r\n ")); n > 60 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(text, "The terminal is too narrow for") || !strings.Contains(text, "in, ") || !strings.Contains(text, "alice") || strings.Contains(text, "LISTENER") {
		t.Errorf("%s", text)
	}
}

// --columns chooses columns of a table; one that doesn't exist is refused with the names of those that do, before anything is asked.
func TestColumns(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	_, plain, _, api := launchDev(t)
	c := imaptest.Dial(t, plain)
	c.Login("alice", "alice")
	out := command(t, "sessions", "--admin", api, "--columns", "user,compressed, in_flight")
	if lines := strings.Split(out.stdout.String(), "\n"); out.code != exitOK || strings.Join(strings.Fields(lines[0]), " ") != "USER COMPRESSED IN FLIGHT" || strings.Join(strings.Fields(lines[1]), " ") != "alice no 0" {
		t.Errorf("%d %s%s", out.code, out.stdout, out.stderr)
	}
	for verb, columns := range map[string]string{
		"backends": "backend,dial,login,answer,share,attachments,failed_logins,refused", "ended": "reason,why", "events": "event", "failing": "name,failures", "slow": "command,took,backend_wait",
		"proxies": "version",
	} {
		args := []string{verb, "--admin", api}
		if out := command(t, append(args, "--columns", columns)...); out.code != exitOK || !strings.Contains(out.stdout.String(), strings.ToUpper(strings.ReplaceAll(strings.Split(columns, ",")[0], "_", " "))) {
			t.Errorf("%s: %d %s%s", verb, out.code, out.stdout, out.stderr)
		}
		if out := command(t, append(args, "--columns=?")...); out.code != exitOK || !strings.Contains(","+strings.TrimSpace(out.stdout.String())+",", ","+strings.Split(columns, ",")[0]+",") {
			t.Errorf("%s: %d %s%s", verb, out.code, out.stdout, out.stderr)
		}
		wrong := command(t, verb, "--admin", "127.0.0.1:1", "--columns", "nonsense")
		if wrong.code != exitUsage || !strings.Contains(wrong.stderr.String(), `there is no column "nonsense"; there are `) || !strings.Contains(wrong.stderr.String(), strings.Split(columns, ",")[0]) {
			t.Errorf("%s: %d %s", verb, wrong.code, wrong.stderr)
		}
	}
	if out := command(t, "backends", "--cluster", "--admin", api, "--columns", "backend,attachments"); out.code != exitOK || !strings.Contains(out.stdout.String(), "1 attached") {
		t.Errorf("%d %s%s", out.code, out.stdout, out.stderr)
	}
	if out := command(t, "sessions", "--admin", api, "--json", "--columns", "user"); out.code != exitUsage || !strings.Contains(out.stderr.String(), "--json prints all") {
		t.Errorf("%d %s", out.code, out.stderr)
	}
}
