package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"

	"imapproxy/internal/imaptest"
)

// Who is busy and what was slow stands in top: the user with the most commands first, and commands of sessions that have ended.
func TestTop(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	_, plain, _, api := launchDev(t)
	alice, bob := imaptest.Dial(t, plain), imaptest.Dial(t, plain)
	alice.Login("alice", "alice")
	bob.Login("bob", "bob")
	alice.MustOK("SELECT INBOX")
	for range 5 {
		alice.MustOK("NOOP")
	}
	bob.MustOK("LIST \"\" *")
	bob.MustOK("LOGOUT")
	bob.ExpectEOF()

	out := command(t, "top", "--admin", api, "--once", "--seconds", "300")
	text := out.stdout.String()
	at := func(part string) int {
		t.Helper()
		i := strings.Index(text, part)
		if i < 0 {
			t.Errorf("there is no %q:\n%s%s", part, text, out.stderr)
		}
		return i
	}
	if out.code != exitOK || at("ready, no problems") > at("BACKEND") || at("BACKEND") > at("the busiest users:") || at("\nalice") > at("\nbob") || at("\nbob") > at("The slowest commands:") {
		t.Errorf("%d\n%s%s", out.code, text, out.stderr)
	}
	at("SELECT")
	var all topAll
	if err := json.Unmarshal([]byte(command(t, "top", "--admin", api, "--json", "--seconds", "300").stdout.String()), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Top.Users) != 2 || all.Top.Users[0].User != "alice" || all.Top.Users[0].Commands < 6 || all.Top.Users[0].Sessions != 1 || all.Top.Users[1].User != "bob" ||
		all.Top.Commands < 7 || len(all.Top.Slowest) != all.Top.Commands || all.Top.Slowest[0].Took < all.Top.Slowest[1].Took || all.Top.Slowest[0].User == "" || len(all.Backends.Backends) != 3 {
		t.Errorf("%+v", all.Top)
	}
	if wrong := command(t, "top", "--seconds", "0"); wrong.code != exitUsage {
		t.Errorf("%d %s", wrong.code, wrong.stderr)
	}

	// On a terminal it goes on, and fits the screen.
	screen, program := terminal(t, 80)
	vt := vt10x.New(vt10x.WithSize(80, 50))
	ctx, end := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		done <- run(environment{ctx: ctx, stdout: program, stderr: newOutput()}, []string{"top", "--admin", api, "--seconds", "300"})
	}()
	shows := func(part string) {
		t.Helper()
		late := time.AfterFunc(patience, func() { fmt.Fprintln(program, "TOO LATE") }) // ends the reading below
		defer late.Stop()
		for b := make([]byte, 65536); !strings.Contains(vt.String(), part); {
			n, err := screen.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, _ = vt.Write(b[:n]); strings.Contains(vt.String(), "TOO LATE") {
				t.Fatalf("the screen doesn't show %s:\n%s", part, vt)
			}
		}
	}
	shows("The slowest commands:")
	shows("SELECT")
	for range 20 {
		alice.MustOK("STATUS INBOX (MESSAGES)")
	}
	shows("STATUS  ")
	end()
	if code := <-done; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if first, _, _ := strings.Cut(vt.String(), "\n"); !strings.Contains(first, "no problems") {
		t.Errorf("the screen has scrolled:\n%s", vt)
	}
}

// What top shows fits the screen, whatever its size, and each table has rows.
func TestTopFitsTheScreen(t *testing.T) {
	for height := 20; height < 70; height++ {
		for backends := range 40 {
			n := topRows(height, 2, backends)
			lines := 2 + 9 + min(n, backends) + 2*n
			if n < 2 || lines > height {
				t.Errorf("%d lines in %d, with %d backends", lines, height, backends)
			}
		}
	}
}
