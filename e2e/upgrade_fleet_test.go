package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// outlives waits until an old process has ended.
func (p *runningProxy) outlives(t testing.TB, old *servers.Process) {
	t.Helper()
	p.eventually(t, "the old process's end", func() error {
		select {
		case <-old.Done():
			return nil
		default:
			return fmt.Errorf("process %d serves on", old.Pid())
		}
	})
}

// shows waits until a verb of the command shows words.
func (p *runningProxy) shows(t testing.TB, words string, run func(args ...string) string, args ...string) {
	t.Helper()
	p.eventually(t, strings.Join(args, " ")+" shows "+words, func() error {
		if out := run(args...); !strings.Contains(strings.Join(strings.Fields(out), " "), words) {
			return fmt.Errorf("it shows\n%s", out)
		}
		return nil
	})
}

// Two backends with the same mail, and the new process would choose another one for most users: each is at one backend as long as the
// old process has connections of theirs, whether their sessions are parked or attached. The old process is shown as leaving.
func TestAnUpgradeKeepsUsersAtTheirBackends(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	const users = 12
	r, mail := newReferee(t), servers.DovecotMail(t)
	var backends []backend
	for _, id := range []string{"d1", "d2"} {
		backends = append(backends, backend{id, r.before(id, servers.StartDovecot(t, servers.DovecotOptions{Name: id, Mail: mail}).Addr)})
	}
	p := startProxy(t, proxyOptions{Backends: backends, Linger: "10ms", Shutdown: handingOver(t, "10m")})
	var before []*imaptest.Client
	at := map[string]string{}
	for u := range users {
		user := servers.User(u + 1)
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		c.MustOK("SELECT INBOX")
		if u%2 == 0 {
			c.Write("i IDLE")
			c.Expect("+{*}")
		}
		at[user] = r.backendOf(user)
		before = append(before, c)
	}
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, id := range at {
		count[id]++
	}
	rare := "d1" // the one that fewer users have is to have nearly all
	if count["d2"] < count["d1"] {
		rare = "d2"
	}
	from := fmt.Sprintf("backend %q {", rare)
	writeFile(t, p.Config, strings.Replace(string(text), from, from+"\n    weight = 65535", 1))

	old := p.succeed(t)
	command := func(args ...string) string { return p.command(t, args...) }
	left := fmt.Sprintf("an older process (pid %d, version", old.Pid())
	p.shows(t, "leaving "+left, command, "status")
	p.shows(t, fmt.Sprintf("pid %d leaving", old.Pid()), command, "proxies")
	p.shows(t, "Not listed, since it is leaving: "+left, command, "sessions")
	p.shows(t, fmt.Sprintf("with %d sessions", users), command, "sessions")
	metrics := func(...string) string {
		answer, err := http.Get(p.Admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	p.shows(t, "imapproxy_leaving_processes 1", metrics)
	p.shows(t, fmt.Sprintf("imapproxy_leaving_sessions %d", users), metrics)

	var after []*imaptest.Client
	for u := range users {
		user := servers.User(u + 1)
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		c.MustOK("SELECT INBOX")
		after = append(after, c)
	}
	for u, c := range before {
		if u%2 == 0 {
			c.Write("DONE")
			c.Expect("i OK {*}")
		}
		c.MustOK("STATUS INBOX (UIDNEXT)")
		after[u].MustOK("STATUS INBOX (UIDNEXT)")
		if user := servers.User(u + 1); r.backendOf(user) != at[user] {
			t.Errorf("%s was at %s and is at %q", user, at[user], r.backendOf(user))
		}
		c.MustOK("LOGOUT")
	}
	p.outlives(t, old)
	p.shows(t, "imapproxy_leaving_processes 0", metrics)
	if out := p.command(t, "status"); strings.Contains(out, "leaving") {
		t.Errorf("status shows\n%s", out)
	}
	for _, c := range after {
		c.MustOK("NOOP")
	}
}

// Each process of a proxy that agrees with others is a proxy to them. A drain moves the sessions of the old process as well; the others
// are told that the old one leaves, and not that it doesn't answer; once it has ended none counts with it.
func TestAnUpgradeOfOneOfSeveralProxies(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	for _, id := range []string{"d1", "d2"} {
		registerBackend(t, k.consul, id, k.addBackend(id))
	}
	const pace = "  move_rate = 1000\n  rebalance_rate = 1000\n"
	first := k.startWith(pace, proxyOptions{Consul: k.consul.Address(), Shutdown: handingOver(t, "10m")})
	second := k.start(pace)
	k.proxies = []*runningProxy{first, second}
	k.agreed()
	users := k.usersAt(first, "d1", 2)
	idles, quiet := login(t, first, users[0]), login(t, first, users[1])
	done := idles.Idle()

	old := first.succeed(t)
	first.waitReady(t)
	for _, p := range k.proxies {
		run := func(args ...string) string { out, _ := k.run(p, args...); return out }
		p.shows(t, fmt.Sprintf("pid %d leaving", old.Pid()), run, "proxies")
		p.eventually(t, "all three processes are counted with", func() error {
			if a := k.agreement(p); len(a.Proxies) != 3 {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
		p.eventually(t, "an answer of each", func() error {
			if out, code := k.run(p, "proxies"); code != 0 || strings.Contains(out, "answer") {
				return fmt.Errorf("proxies says (%d)\n%s", code, out)
			}
			return nil
		})
		p.shows(t, "Not listed, since it is leaving", run, "sessions", "--cluster")
	}
	both := login(t, second, users[1])
	k.isAt(second, users[1], "d1")
	k.must(second, "drain", "d1")
	for _, user := range users {
		k.isAt(second, user, "d2")
	}
	done()
	for _, c := range []*imaptest.Client{idles, quiet, both} {
		c.MustOK("STATUS INBOX (UIDNEXT)")
		c.MustOK("LOGOUT")
	}
	first.outlives(t, old)
	k.agreed()
	if all, failed := k.ask(second, "status"); len(all) != 2 || len(failed) > 0 {
		t.Errorf("with the old process's end %v are found; %v", all, failed)
	}
	if err := oneLogin(first.Plain, users[0]); err != nil {
		t.Error(err)
	}
}
