package chaos

import (
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation(stamp, "2026-11-28 "+s, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// read reads a log whose times have no day.
func read(t *testing.T, backend, text string) *backendLog {
	t.Helper()
	l := newBackendLog(backend)
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimSpace(line)
		if when, ok := strings.CutPrefix(line, "KILLED "); ok {
			l.killed(at(t, when))
			continue
		}
		if err := l.line("2026-11-28 " + line); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func all(logs ...*backendLog) (sessions []session) {
	for _, l := range logs {
		for _, s := range l.sessions {
			sessions = append(sessions, *s)
		}
	}
	return sessions
}

const (
	annAtD1 = `
10:00:00.000000 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.21, lip=10.77.0.31, mpid=11, session=<a1>
10:00:05.000000 imap(ann)<11><a1>: Info: Logged out in=10 out=400 deleted=0 expunged=0 trashed=0 hdr_count=0 hdr_bytes=0 body_count=0 body_bytes=0
`
	annAtD2Later = `
10:00:05.000001 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.22, lip=10.77.0.32, mpid=21, session=<b1>
10:00:09.000000 imap(ann)<21><b1>: Info: Connection closed (IDLE running for 0.001 + waiting input for 1.4 secs, 2 B in + 10+10 B out, state=wait-input) in=10 out=400 deleted=0
`
	annAtD2Too = `
10:00:04.000000 imap-login: Info: Logged in: user=<ann>, method=PLAIN, rip=10.77.0.22, lip=10.77.0.32, mpid=21, session=<b1>
10:00:09.000000 imap(ann)<21><b1>: Info: Disconnected: Logged out in=10 out=400 deleted=0
`
)

// What the verdict sees in logs, and what it doesn't take for an overlap.
func TestOverlapsInLogs(t *testing.T) {
	end := "11:00:00.000000"
	for _, c := range []struct {
		name, d1, d2 string
		want         time.Duration // of the users in seconds on two backends
		count        int
	}{
		{"one after the other", annAtD1, annAtD2Later, 0, 0},
		{"a planted second", annAtD1, annAtD2Too, time.Second, 1},
		{"two users", annAtD1, strings.ReplaceAll(annAtD2Too, "ann", "bob"), 0, 0},
		{"open at the end", annAtD1[:strings.LastIndex(strings.TrimSpace(annAtD1), "\n")+1], annAtD2Later, 3*time.Second + 999999*time.Microsecond, 1},
		{"open at both", annAtD1[:strings.LastIndex(strings.TrimSpace(annAtD1), "\n")+1],
			"10:59:58.000000 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.22, lip=10.77.0.32, mpid=21, session=<b1>", 2 * time.Second, 1},
		{"one backend, two sessions", annAtD1 + strings.ReplaceAll(annAtD2Too, "b1", "a2"), "", 0, 0},
		{"two sessions against one", annAtD1 + strings.ReplaceAll(annAtD1, "a1", "a2"), annAtD2Too, time.Second, 2},
		{"killed before", "10:00:00.000000 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.21, lip=10.77.0.31, mpid=11, session=<a1>\nKILLED 10:00:03.000000",
			annAtD2Too, 0, 0},
		{"killed meanwhile", "10:00:00.000000 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.21, lip=10.77.0.31, mpid=11, session=<a1>\nKILLED 10:00:04.500000",
			annAtD2Too, 500 * time.Millisecond, 1},
		{"the end is written before the login", "10:00:04.000000 imap(ann)<11><a1>: Info: Logged out in=1 out=2\n10:00:04.500000 imap-login: Info: Login: user=<ann>, method=PLAIN, rip=10.77.0.21, lip=10.77.0.31, mpid=11, session=<a1>",
			annAtD2Too, 500 * time.Millisecond, 1},
		{"a process that dies", strings.ReplaceAll(annAtD1, "Info: Logged out in=10", "Fatal: master: service(imap): child 11 killed with signal 11 in=10"), annAtD2Later, 0, 0},
		{"what isn't a login", "10:00:00.000000 imap-login: Info: Disconnected (auth failed, 1 attempts in 2 secs): user=<ann>, method=PLAIN, rip=10.77.0.21, lip=10.77.0.31, session=<a1>",
			annAtD2Too, 0, 0},
		{"a line that isn't the last", annAtD1[:strings.LastIndex(strings.TrimSpace(annAtD1), "\n")+1] + "\n10:00:01.000000 imap(ann)<11><a1>: Info: expunge: box=INBOX, uid=1", annAtD2Too, 5 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := overlaps(all(read(t, "d1", c.d1), read(t, "d2", c.d2)), at(t, end))
			if len(found) != c.count || userSeconds(found) != c.want {
				t.Errorf("%d overlaps of %v in all, want %d of %v: %v", len(found), userSeconds(found), c.count, c.want, found)
			}
		})
	}
}

// A session's last line lost its name: it is that of the session whose process is gone.
func TestAnEndWithoutAName(t *testing.T) {
	const line = "10:00:05.000000 imap: Info: Disconnected: Connection closed (STATUS finished 34.593 secs ago) in=516 out=5051 deleted=0"
	first := func(log string) string { return strings.SplitAfter(log, "\n")[1] }
	l := read(t, "d1", first(annAtD1)+strings.ReplaceAll(first(annAtD2Too), "ann", "bob")+line)
	l.name(func(*session) bool { return true })
	if len(l.open) != 2 {
		t.Fatal("a session whose process runs has ended")
	}
	l.name(func(s *session) bool { return s.pid == 21 })
	if ann := l.sessions[0]; ann.open || !ann.to.Equal(at(t, "10:00:05.000000")) || !l.sessions[1].open {
		t.Error(l.sessions)
	}
}

// An excuse covers the sessions that a proxy had when it was stopped, as long as it is stopped, and no others.
func TestExcuses(t *testing.T) {
	found := overlaps(all(read(t, "d1", annAtD1), read(t, "d2", annAtD2Too)), at(t, "11:00:00.000000"))
	if len(found) != 1 {
		t.Fatal(found)
	}
	for _, c := range []struct {
		name   string
		excuse excuse
		want   time.Duration
	}{
		{"all of it", excuse{peer: "10.77.0.21", from: at(t, "10:00:01.000000"), to: at(t, "10:00:06.000000")}, 0},
		{"another proxy", excuse{peer: "10.77.0.23", from: at(t, "10:00:01.000000"), to: at(t, "10:00:06.000000")}, time.Second},
		{"it ran again", excuse{peer: "10.77.0.21", from: at(t, "10:00:01.000000"), to: at(t, "10:00:04.200000")}, 800 * time.Millisecond},
		{"it wasn't stopped yet", excuse{peer: "10.77.0.21", from: at(t, "10:00:04.300000"), to: at(t, "10:00:06.000000")}, 300 * time.Millisecond},
		{"before", excuse{peer: "10.77.0.21", from: at(t, "10:00:01.000000"), to: at(t, "10:00:02.000000")}, time.Second},
		{"a session that is made when it runs again", excuse{peer: "10.77.0.21", from: at(t, "09:00:01.000000"), to: at(t, "10:00:06.000000")}, time.Second},
		{"a login whose answer came after the stop", excuse{peer: "10.77.0.21", from: at(t, "09:00:01.000000"), to: at(t, "10:00:06.000000"), again: at(t, "10:00:05.000000")}, 0},
		{"one that it makes while it serves", excuse{peer: "10.77.0.21", from: at(t, "09:00:01.000000"), to: at(t, "10:00:06.000000"), serves: true}, 0},
		{"one that it makes once it is back", excuse{peer: "10.77.0.21", from: at(t, "09:00:01.000000"), to: at(t, "10:00:04.200000"), serves: true}, 800 * time.Millisecond},
		{"one of another proxy's, which serves", excuse{peer: "10.77.0.23", from: at(t, "09:00:01.000000"), to: at(t, "10:00:06.000000"), serves: true}, time.Second},
	} {
		if got := unexcused(found[0], []excuse{c.excuse}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Once it runs again a proxy relays nothing on what it has lost, and closes it.
func TestWhatAStoppedProxyDoes(t *testing.T) {
	sessions := all(read(t, "d1", annAtD1))
	p := stopped{peer: "10.77.0.21", from: at(t, "10:00:01.000000"), again: at(t, "10:00:04.500000")}
	if found := late(sessions, p, time.Second); len(found) != 0 {
		t.Errorf("ended in time: %v", found)
	}
	if n, last := p.ended(sessions); n != (tally{1, 1}) || last != 500*time.Millisecond {
		t.Errorf("%+v, the last after %v", n, last)
	}
	p.again = at(t, "10:00:03.500000")
	if found := late(sessions, p, time.Second); len(found) != 1 {
		t.Errorf("ended late: %v", found)
	}
	p.peer = "10.77.0.22"
	if found := late(sessions, p, time.Second); len(found) != 0 {
		t.Errorf("another's: %v", found)
	}
	log := commands("1764320400.000100 a1 SELECT INBOX\r\n1764320401.500000 a2 APPEND INBOX {10+}\r\nSubject: x\r\n1764320402.000000 a3 NOOP\r\n")
	if len(log) != 4 {
		t.Fatal(log)
	}
	for _, c := range []struct {
		after int64
		want  int
	}{{1764320400, 4}, {1764320401, 3}, {1764320402, 1}, {1764320403, 0}} {
		if got := relayed(log, time.Unix(c.after, 0)); len(got) != c.want {
			t.Errorf("from %d on: %v, want %d", c.after, got, c.want)
		}
	}
}

// A command that the proxy makes itself, and that changes nothing, isn't relayed.
func TestTheProxysOwnCommands(t *testing.T) {
	for text, want := range map[string]bool{
		"ip3 NOOP": true, "ip4 LOGOUT": true, "ip5 EXAMINE INBOX": false, "t3 NOOP": false, "DONE": false, "a1 STORE 1 +FLAGS (ip)": false, "ip7": false, "": false,
	} {
		if ownCommand(text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}

// What a fault explains of what clients saw, and what nothing explains.
func TestWhatFaultsExplain(t *testing.T) {
	const p1, p2 = "10.77.0.21", "10.77.0.22"
	from, to := at(t, "10:00:00.000000"), at(t, "10:00:10.000000")
	during, before, after := at(t, "10:00:05.000000"), at(t, "09:59:00.000000"), at(t, "10:01:00.000000")
	was := func(user, backend string, _, _ time.Time) bool { return user == "ann" && backend == "d1" }
	for _, c := range []struct {
		name  string
		fault fault
		ended ending
		want  bool
	}{
		{"cut off by a drain", fault{moves: true}, ending{at: during, since: before, kind: cutOff, user: "ann", proxy: p1}, false},
		{"a login that is refused in a drain", fault{moves: true}, ending{at: during, since: during, kind: refused, user: "ann", proxy: p1}, true},
		{"a command that is refused in a drain", fault{moves: true}, ending{at: during, since: during, kind: no, user: "ann", proxy: p1}, false},
		{"refused where nothing is moved", fault{}, ending{at: during, since: during, kind: refused, user: "ann", proxy: p1}, false},
		{"cut off with its proxy", fault{proxies: []string{p1}}, ending{at: during, since: before, kind: cutOff, user: "ann", proxy: p1}, true},
		{"cut off at another proxy", fault{proxies: []string{p1}}, ending{at: during, since: before, kind: cutOff, user: "ann", proxy: p2}, false},
		{"before it", fault{proxies: []string{p1}}, ending{at: before, since: before, kind: cutOff, user: "ann", proxy: p1}, false},
		{"after it", fault{proxies: []string{p1}}, ending{at: after, since: after, kind: cutOff, user: "ann", proxy: p1}, false},
		{"asked during it, ended after it", fault{proxies: []string{p1}}, ending{at: after, since: during, kind: silent, user: "ann", proxy: p1}, true},
		{"cut off with its backend", fault{backend: "d1"}, ending{at: during, since: before, kind: cutOff, user: "ann", proxy: p1}, true},
		{"cut off when another backend is killed", fault{backend: "d1"}, ending{at: during, since: before, kind: cutOff, user: "bob", proxy: p1}, false},
		{"a wrong answer", fault{proxies: []string{p1}, waits: true}, ending{at: during, since: during, kind: wrong, user: "ann", proxy: p1}, false},
	} {
		c.fault.from, c.fault.to = from, to
		if got := c.fault.explains(c.ended, was); got != c.want {
			t.Errorf("%s: explained: %v, want %v", c.name, got, c.want)
		}
	}
}
