package e2e

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A backend is paused through one of two proxies, and restarted: the sessions of both give up their connections and stay connected to their clients, commands
// and logins wait and are answered after it, no user goes elsewhere although Consul calls the backend critical, and a client in IDLE is told of the mail that
// came meanwhile.
func TestAPausedBackendIsRestartedUnderItsClients(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "  move_rate = 1000\n  rebalance_rate = 1000\n")
	first, second := k.proxies[0], k.proxies[1]
	users, others := k.usersAt(first, "d1", 3), k.usersAt(first, "d2", 1)
	idles, quiet, held := login(t, first, users[0]), login(t, second, users[1]), login(t, second, users[2])
	done := idles.Idle()
	held.MustOK("SEARCH RETURN (SAVE) ALL") // its result belongs to the connection

	k.refuses(first, "there is no backend", "pause", "d9")
	k.refuses(first, "for: want a time", "pause", "d1", "--for", "1h")
	k.refuses(first, "isn't paused", "resume", "d1")
	if out := k.must(second, "pause", "d1", "--dry-run"); !strings.Contains(out, "d1 would be paused: 3 sessions there, 3 connections\nsessions: 3 attached\n") {
		t.Errorf("a dry run says\n%s", out)
	}
	k.isAt(first, users[0], "d1")

	if out := k.must(second, "pause", "d1", "--for", "5m"); !strings.Contains(out, "d1 is paused until ") {
		t.Errorf("pause says\n%s", out)
	}
	k.says(second, []string{"1 connection left; sessions: 2 parked, 1 attached; held by: 1 saved_search"}, "backends", "--cluster")
	held.MustOK("FETCH $ (FLAGS)")
	held.MustOK("LOGOUT")
	if out := k.must(first, "pause", "d1", "--watch"); !strings.Contains(out, "0 connections left; sessions: 2 parked; nothing is left there: restart it now") {
		t.Errorf("pause --watch says\n%s", out)
	}
	for _, user := range users {
		k.isAt(first, user, "")
	}

	k.consul.TTL("service:d1", "critical")
	k.doves[0].Process.Stop()
	quiet.Write("q1 STATUS INBOX (MESSAGES)")
	newcomer := imaptest.Dial(t, second.Plain)
	newcomer.Write(fmt.Sprintf("n1 LOGIN %s %s", users[2], servers.Password))
	quiet.Expect("* OK Still here{*}")
	newcomer.Expect("* OK Still here{*}")
	login(t, second, others[0]).MustOK("NOOP")
	for _, p := range k.proxies {
		if out := k.must(p, "backends"); !strings.Contains(out, "d1: paused for another") {
			t.Errorf("backends says\n%s", out)
		}
		if out := k.must(p, "user", users[2]); strings.Contains(out, "d2") {
			t.Errorf("user says\n%s", out)
		}
	}
	k.doves[0].StartAgain(t)
	direct := imaptest.Dial(t, k.doves[0].Addr)
	direct.Login(users[0], servers.Password)
	direct.MustOK("APPEND INBOX {8+}\r\nA: b\r\n\r\n")
	direct.MustOK("LOGOUT")

	if out := k.must(first, "resume", "d1"); !strings.Contains(out, "d1 isn't paused any more") {
		t.Errorf("resume says\n%s", out)
	}
	answered := func(c *imaptest.Client, tag string) {
		t.Helper()
		for {
			line := c.Read().Text
			switch {
			case strings.HasPrefix(line, tag+" OK"):
				return
			case strings.HasPrefix(line, tag+" "), strings.HasPrefix(line, "* BYE"):
				t.Fatalf("after the pause: %s", line)
			}
		}
	}
	answered(quiet, "q1")
	answered(newcomer, "n1")
	idles.Expect("* 2 EXISTS")
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	idles.MustOK("FETCH 2 (UID)")
	for _, user := range users {
		k.isAt(first, user, "d1")
	}
	k.refuses(second, "isn't paused", "resume", "d1")
	k.consul.TTL("service:d1", "passing")
}

// A proxy alone is upgraded while a backend is paused: the new process goes by the pause, and what it is told of pauses then holds for
// the sessions of the old one, too.
func TestAPauseHoldsOverAnUpgrade(t *testing.T) {
	t.Parallel()
	k, _, p := alone(t, proxyOptions{Linger: "20m", Shutdown: handingOver(t, "10m")})
	c := login(t, p, servers.User(1))
	k.must(p, "pause", "d1", "--for", "5m", "--watch")
	old := p.succeed(t)
	if out := k.must(p, "backends"); !strings.Contains(out, "d1: paused for another") {
		t.Fatalf("after the upgrade the new process says\n%s", out)
	}
	k.must(p, "resume", "d1")
	c.MustOK("SELECT INBOX")
	c.MustOK("SEARCH RETURN (SAVE) ALL") // its result belongs to the connection
	k.must(p, "pause", "d1", "--for", "5m")
	p.eventually(t, "the old process's connections are counted", func() error { // the session's, and its watch's for a time
		if out := k.must(p, "backends"); !strings.Contains(out, "d1: paused for another") || strings.Contains(out, "; 0 connections left") {
			return fmt.Errorf("backends says\n%s", out)
		}
		return nil
	})
	p.eventually(t, "the old process goes by the second pause", func() error {
		if n := strings.Count(old.Output(), "backend is paused"); n < 2 {
			return fmt.Errorf("its log tells of %d", n)
		}
		return nil
	})
	c.MustOK("FETCH $ (FLAGS)")
	c.MustOK("LOGOUT")
	if out := k.must(p, "pause", "d1", "--watch"); !strings.Contains(out, "0 connections left; nothing is left there: restart it now") {
		t.Errorf("pause --watch says\n%s", out)
	}
}

// A proxy alone has a pause as well; it ends by itself.
func TestAPauseEndsByItself(t *testing.T) {
	t.Parallel()
	k, dove, p := alone(t, proxyOptions{Linger: "20m"})
	c := login(t, p, servers.User(1))
	out := k.must(p, "pause", "d1", "--for", "15s")
	if !strings.Contains(out, "this proxy makes no connection to it") || !strings.Contains(out, "0 connections left; sessions: 1 parked; nothing is left there: restart it now") {
		t.Errorf("pause says\n%s", out)
	}
	dove.Process.Stop()
	dove.StartAgain(t)
	c.MustOK("STATUS INBOX (MESSAGES)")
	k.refuses(p, "isn't paused", "resume", "d1")
	if out := k.must(p, "backends"); strings.Contains(out, "failure") || strings.Contains(out, "paused for") {
		t.Errorf("backends says\n%s", out)
	}
}
