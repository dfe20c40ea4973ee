package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// launchDev runs dev on free ports, without clients of its own, and returns its addresses.
func launchDev(t testing.TB, more ...string) (r *running, plain, secure, api string) {
	t.Helper()
	r = launch(t, append([]string{"dev", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-clients"}, more...)...)
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
	if status.code != exitOK || !regexp.MustCompile(`state +ready, no problems\n`).MatchString(status.stdout.String()) ||
		!strings.Contains(status.stdout.String(), "3 up") {
		t.Errorf("status: %d\n%s%s", status.code, status.stdout, status.stderr)
	}
	backends := command(t, "backends", "--admin", api, "--json")
	var fleet admin.Backends
	if err := json.Unmarshal([]byte(backends.stdout.String()), &fleet); err != nil || len(fleet.Backends) != 3 {
		t.Errorf("backends: %v\n%s", err, backends.stdout)
	}
	if text := command(t, "backends", "--admin", api).stdout.String(); strings.Count(text, "\n") != 4 || !strings.Contains(text, "d3 ") {
		t.Errorf("backends:\n%s", text)
	}
	sessions := command(t, "sessions", "--admin", api, "--user", "bob").stdout.String()
	if !regexp.MustCompile(`(?m)^\S+ +bob +d2 \(rendezvous\) +127\.0\.0\.1:\d+ +imaps \(TLS\) +authenticated +attached `).MatchString(sessions) || strings.Count(sessions, "\n") != 2 {
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

func TestDevShowsParkingOnClientsOfItsOwn(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	r := launch(t, "dev", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	api := r.await(r.stdout, `admin page on http://(\S+)`)[1]
	r.await(r.stdout, `(?s)alice's phone, laptop and tablet, are in IDLE now:.*`+
		`s  3 attached sessions; the backends see 3 connections\n.*`+
		`s  3 parked sessions; the backends see 4 connections: one watches the mailbox, the others wait to be used again\n.*`+
		`s  3 parked sessions; the backends see 1 connection, for 3 clients\n.*`+
		`s  a message has arrived: the phone, laptop and tablet were told of it after \S+, and are parked still\n.*`+
		`s  the bill: 3 sessions with 1 connection to backends \(3\.0 : 1\), so 2 connections are saved`)
	status := parkingStatus(t, api)
	if status.Attachments["parked"] != 3 || status.BackendConnections != 0 || status.Parking.WatchConnections != 1 || status.Parking.WarmConnections != 0 {
		t.Errorf("%+v %+v", status, status.Parking)
	}
	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// Many clients of several users share a watch for each user.
func TestDevShowsWhatManyClientsCost(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	r := launch(t, "dev", "--clients", "20", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	api := r.await(r.stdout, `admin page on http://(\S+)`)[1]
	r.await(r.stdout, `(?s)20 clients of its own, of alice, bob and carol, are in IDLE now:.*`+
		`s  20 attached sessions; the backends see 20 connections\n.*`+
		`s  20 parked sessions; the backends see 3 connections, for 20 clients\n.*`+
		`s  a message has arrived: the 7 clients of alice were told of it after .*`+
		`s  the bill: 20 sessions with 3 connections to backends \(6\.7 : 1\), so 17 connections are saved`)
	if out := command(t, "status", "--admin", api).stdout.String(); !strings.Contains(out, "20 client sessions : 3 backend connections (6.7 : 1)") {
		t.Errorf("status:\n%s", out)
	}
	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if many := command(t, "dev", "--clients", "100000"); many.code != exitUsage || !strings.Contains(many.stderr.String(), "--clients takes 0 to ") {
		t.Errorf("%d %s", many.code, many.stderr)
	}
}

func TestDevEndsWhileItsClientsAreAtIt(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	r := launch(t, "dev", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	r.await(r.stdout, `3 attached sessions`)
	r.interrupt()
	if code := r.wait(); code != exitOK || strings.Contains(r.stdout.String(), "can't show parking") {
		t.Errorf("exit code %d", code)
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

// What changes something works in dev with the token that it prints, by the command line and on the page; without it only reading does.
func TestDevHasATokenForItsVerbs(t *testing.T) {
	r, plain, _, api := launchDev(t)
	m := r.await(r.stdout, `--token-file (\S+)\n +http://(\S+/#token=(\S+)) `)
	file, address, token := m[1], m[2], m[3]
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	var users []*imaptest.Client
	for _, user := range []string{"alice", "bob", "carol"} {
		c := imaptest.Dial(t, plain)
		c.Login(user, user)
		users = append(users, c)
	}
	if out := command(t, "backends", "--columns", "backend,users", "--admin", api).stdout.String(); len(regexp.MustCompile(`(?m)^d\d +1$`).FindAllString(out, -1)) != 3 {
		t.Errorf("three users aren't at three backends:\n%s", out)
	}
	if none := command(t, "kick", "alice", "--admin", api); none.code != exitFailed || !strings.Contains(none.stderr.String(), "requires a token") {
		t.Errorf("without a token: %d %s", none.code, none.stderr)
	}
	if kicked := command(t, "kick", "alice", "--admin", api, "--token-file", file); kicked.code != exitOK || !strings.Contains(kicked.stdout.String(), "1 session of alice ended") {
		t.Errorf("kick: %d %s%s", kicked.code, kicked.stdout, kicked.stderr)
	}
	users[0].Expect("* BYE {*}")

	t.Run("page", func(t *testing.T) {
		b := imaptest.NewBrowser(t)
		const verbs = "[...document.querySelectorAll('.verbs button')].some((e) => e.offsetParent && e.textContent === 'kick')"
		b.Open("http://"+api+"/", 1400)
		b.Await("document.getElementById('access').textContent.includes('they need the operator')", "true")
		b.Await(verbs, "false")
		b.Run("document.querySelector('#access button').click()")
		b.Run("document.getElementById('token').value = 'wrong'; document.querySelector('#login button').click()")
		b.Await("document.getElementById('access').textContent.includes('the token is wrong')", "true")
		b.Run("document.querySelector('#access button').click()")
		b.Run("document.getElementById('token').value = '" + token + "'; document.querySelector('#login button').click()")
		b.Await(verbs, "true")
		b.Run("sessionStorage.clear(); token = ''; refresh()")
		b.Await(verbs, "false")
		b.Open("http://"+address, 390)
		b.Await(verbs, "true")
		b.Await("location.href", "http://"+api+"/") // nothing of the token is left in the address
		b.Run("[...document.querySelectorAll('#sessions tr')].find((r) => r.textContent.includes('bob')).querySelector('.verbs button').click()")
		b.Await("document.getElementById('confirm').open", "true")
		b.Run("document.getElementById('confirm-yes').click()")
		b.Await("document.getElementById('done').className", "well")
		users[1].Expect("* BYE {*}")
	})
	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, r.stderr)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the token's file is left: %v", err)
	}
}
