package main

import (
	"crypto/tls"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// launchDev runs dev on free ports and returns its addresses.
func launchDev(t testing.TB, more ...string) (r *running, plain, secure, api string) {
	t.Helper()
	r = launch(t, append([]string{"dev", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, more...)...)
	m := r.await(r.stdout, `IMAP on (\S+) \(STARTTLS too\), TLS on (\S+), admin page on http://(\S+)\n(?s:.*)Ctrl-C ends it`)
	return r, m[1], m[2], m[3]
}

func TestDevServesMailAndEndsAtCtrlC(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	began := time.Now()
	r, plain, secure, api := launchDev(t)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v to serve", took)
	}
	insecure := &tls.Config{InsecureSkipVerify: true} // made just now, as dev says
	alice := imaptest.Dial(t, plain)
	alice.Login("alice", "alice")
	alice.MustOK("SELECT INBOX")
	bob := imaptest.DialTLS(t, secure, insecure)
	bob.Login("bob", "bob")
	carol := imaptest.DialStartTLS(t, plain, insecure)
	carol.Login("carol", "carol")
	if a := imaptest.Dial(t, plain).TryLogin("alice", "wrong"); a.OK() {
		t.Errorf("a wrong password got in: %s", a)
	}

	status := command(t, "status", "--admin", api)
	if status.code != exitOK || !regexp.MustCompile(`state +ready\n`).MatchString(status.stdout.String()) ||
		!strings.Contains(status.stdout.String(), "3 up") {
		t.Errorf("status: %d\n%s%s", status.code, status.stdout, status.stderr)
	}
	backends := command(t, "backends", "--admin", api, "--json")
	var fleet admin.Backends
	if err := json.Unmarshal([]byte(backends.stdout.String()), &fleet); err != nil || len(fleet.Backends) != 3 {
		t.Errorf("backends: %v\n%s", err, backends.stdout)
	}
	if text := command(t, "backends", "--admin", api).stdout.String(); strings.Count(text, "\n") != 4 || !strings.Contains(text, "b3 ") {
		t.Errorf("backends:\n%s", text)
	}
	sessions := command(t, "sessions", "--admin", api, "--user", "bob").stdout.String()
	if !regexp.MustCompile(`(?m)^\S+ +bob +b\d \(rendezvous\) +127\.0\.0\.1:\d+ +imaps \(TLS\) +authenticated +attached `).MatchString(sessions) || strings.Count(sessions, "\n") != 2 {
		t.Errorf("sessions:\n%s", sessions)
	}
	var page admin.Sessions
	if err := json.Unmarshal([]byte(command(t, "sessions", "--json", "--limit", "1", "--admin", "http://"+api).stdout.String()), &page); err != nil || len(page.Sessions) != 1 || page.Next == "" {
		t.Errorf("one session: %v %+v", err, page)
	}

	r.interrupt()
	alice.Expect(`/\* BYE .*/`)
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, r.stderr)
	}
	if gone := command(t, "status", "--admin", api); gone.code != exitFailed || !strings.Contains(gone.stderr.String(), "is the proxy running?") {
		t.Errorf("status of nobody: %d %s", gone.code, gone.stderr)
	}
}

func TestDevSaysWhatIsInTheWay(t *testing.T) {
	_, plain, _, _ := launchDev(t, "--backends", "1")
	taken := command(t, "dev", "--listen", plain, "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if taken.code != exitFailed || !strings.Contains(taken.stderr.String(), plain) {
		t.Errorf("%d %s", taken.code, taken.stderr)
	}
	if open := command(t, "dev", "--admin", "0.0.0.0:0"); open.code != exitUsage || !strings.Contains(open.stderr.String(), "loopback") {
		t.Errorf("%d %s", open.code, open.stderr)
	}
	if none := command(t, "dev", "--backends", "0"); none.code != exitUsage {
		t.Errorf("%d %s", none.code, none.stderr)
	}
}
