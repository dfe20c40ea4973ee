package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// must runs a verb that has to succeed.
func (k *agreeing) must(p *runningProxy, args ...string) string {
	k.several.t.Helper()
	out, code := k.run(p, args...)
	if code != 0 {
		k.several.t.Fatalf("imapproxy %s (%d):\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// refuses runs a verb that has to fail with words.
func (k *agreeing) refuses(p *runningProxy, words string, args ...string) {
	k.several.t.Helper()
	if out, code := k.run(p, args...); code == 0 || !strings.Contains(out, words) {
		k.several.t.Errorf("imapproxy %s (%d), want %q:\n%s", strings.Join(args, " "), code, words, out)
	}
}

// says runs a verb until it says all these words.
func (k *agreeing) says(p *runningProxy, words []string, args ...string) {
	t := k.several.t
	t.Helper()
	p.eventually(t, strings.Join(args, " ")+": "+strings.Join(words, ", "), func() error {
		out := k.must(p, args...)
		for _, w := range words {
			if !strings.Contains(out, w) {
				return fmt.Errorf("without %q:\n%s", w, out)
			}
		}
		return nil
	})
}

// alone is a proxy that agrees with no other, with the admin API's token, before one Dovecot.
func alone(t *testing.T, o proxyOptions) (*agreeing, *servers.Server, *runningProxy) {
	t.Helper()
	servers.Real(t)
	dove := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1"})
	token := servers.Folder(t) + "/admin.token"
	writeFile(t, token, clusterToken+"\n")
	o.Backends, o.AdminToken = []backend{{"d1", dove.Addr}}, token
	return &agreeing{several: &several{t: t, token: token}}, dove, startProxy(t, o)
}

// login is a session with INBOX selected.
func login(t *testing.T, p *runningProxy, user string) *imaptest.Client {
	t.Helper()
	c := imaptest.Dial(t, p.Plain)
	c.Login(user, servers.Password)
	c.MustOK("SELECT INBOX")
	return c
}

// usersAt finds so many users who go to the backend. Each gets a message.
func (k *agreeing) usersAt(p *runningProxy, backend string, n int) (users []string) {
	t := k.several.t
	t.Helper()
	for u := 1; u <= servers.Users && len(users) < n; u++ {
		user := servers.User(u)
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		if k.backendOf(user) == backend {
			users = append(users, user)
			c.MustOK("APPEND INBOX {8+}\r\nA: b\r\n\r\n") // a mailbox without a message may have no mod-sequences
		}
		c.MustOK("LOGOUT")
		p.eventually(t, user+" gone", func() error { // so that nothing of theirs is counted later
			k.must(p, "flush", user) // what is kept warm, once the session has ended
			if at := k.backendOf(user); at != "" {
				return fmt.Errorf("the user is at %q", at)
			}
			return nil
		})
	}
	p.eventually(t, "without a user", func() error {
		if a := k.agreement(p); a.Users != 0 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	if len(users) < n {
		t.Fatalf("%d users go to %s, %d are needed", len(users), backend, n)
	}
	return users
}

// isAt waits until the user's connections are at the backend.
func (k *agreeing) isAt(p *runningProxy, user, backend string) {
	k.several.t.Helper()
	p.eventually(k.several.t, user+" at "+backend, func() error {
		if at := k.backendOf(user); at != backend {
			return fmt.Errorf("the user is at %q", at)
		}
		return nil
	})
}

// A backend is drained through one proxy: the users of both leave it, idle or not, with their sessions connected. No user comes to it, also by a proxy
// that starts meanwhile. Its end brings them back.
func TestADrainMovesUsersWithTheirSessions(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "  move_rate = 1000\n  rebalance_rate = 1000\n")
	first, second := k.proxies[0], k.proxies[1]
	users := k.usersAt(first, "d1", 3)
	idles, quiet := login(t, first, users[0]), login(t, second, users[1])
	both := []*imaptest.Client{login(t, first, users[2]), login(t, second, users[2])}
	done := idles.Idle()
	for _, user := range users {
		k.isAt(first, user, "d1")
	}

	k.refuses(first, "there is no backend", "drain", "d9")
	k.refuses(first, "within", "drain", "d1", "--within", "1ms")
	k.refuses(first, "no operator drains", "undrain", "d1")
	var dry struct {
		Proxies []struct {
			Answer struct {
				Users  int
				Moves  map[string]int
				DryRun bool `json:"dry_run"`
			}
		}
	}
	if err := json.Unmarshal([]byte(k.must(second, "drain", "d1", "--dry-run", "--json")), &dry); err != nil {
		t.Fatal(err)
	}
	moves := 0
	for _, p := range dry.Proxies {
		moves += p.Answer.Moves["d2"]
	}
	if len(dry.Proxies) != 2 || moves != 4 || !dry.Proxies[0].Answer.DryRun {
		t.Errorf("a dry run says %+v", dry)
	}
	if out := k.must(second, "drain", "d1", "--dry-run"); !strings.Contains(out, "connections of 4 users would be moved") || !strings.Contains(out, "4 to d2") {
		t.Errorf("a dry run says\n%s", out)
	}
	for _, p := range k.proxies {
		if out := k.must(p, "backends"); strings.Contains(out, "drain") {
			t.Errorf("a dry run has drained:\n%s", out)
		}
	}

	out := k.must(second, "drain", "d1", "--watch")
	if !strings.Contains(out, "; done\n") {
		t.Errorf("drain --watch says\n%s", out)
	}
	quiet.MustOK("NOOP")
	for _, c := range both {
		c.MustOK("STATUS INBOX (MESSAGES)")
	}
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	idles.MustOK("NOOP")
	for _, user := range users {
		k.isAt(first, user, "d2")
	}
	for _, p := range k.proxies {
		k.says(p, []string{"drained by an operator", "d1: connections of 0 users left"}, "backends")
	}
	k.refuses(first, "no other backend is up", "drain", "d2")
	k.refuses(first, "d1 is draining (drained by an operator)", "move", users[0], "d1")

	third := k.start("  move_rate = 1000\n  rebalance_rate = 1000\n")
	for u := 1; u <= 10; u++ {
		c := imaptest.Dial(t, third.Plain)
		c.Login(servers.User(u), servers.Password)
		if at := k.backendOf(servers.User(u)); at != "d2" {
			t.Errorf("%s goes to %s, by a proxy that has come since", servers.User(u), at)
		}
		c.MustOK("LOGOUT")
	}

	if out := k.must(third, "undrain", "d1"); !strings.Contains(out, "isn't drained") {
		t.Errorf("undrain says\n%s", out)
	}
	for i, c := range []*imaptest.Client{idles, quiet, both[0], both[1]} {
		user := users[min(i, 2)]
		first.eventually(t, user+" back", func() error {
			c.MustOK("NOOP")
			if at := k.backendOf(user); at != "d1" {
				return fmt.Errorf("the user is at %q", at)
			}
			return nil
		})
	}
}

// What can't be parked is ended once a drain's time is over, and nothing else is.
func TestADrainEndsWhatIsLeft(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "  move_rate = 1000\n")
	first, second := k.proxies[0], k.proxies[1]
	users := k.usersAt(first, "d1", 2)
	held, other := login(t, first, users[0]), login(t, second, users[1])
	held.MustOK("SEARCH RETURN (SAVE) ALL") // its result belongs to the connection
	k.must(second, "drain", "d1")
	k.isAt(first, users[1], "")
	k.says(second, []string{"connections of 1 user left", "1 saved_search"}, "backends", "--cluster")
	k.must(second, "drain", "d1", "--within", "1s")
	for late := time.After(2 * time.Minute); k.backendOf(users[0]) == "d1"; { // what is ended is spread over half a minute
		select {
		case <-late:
			t.Fatal("the session isn't ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
	held.Expect("* BYE [UNAVAILABLE] {*}moved to another server{*}")
	other.MustOK("NOOP")
	k.isAt(first, users[0], "")
	c := login(t, first, users[0])
	k.isAt(first, users[0], "d2")
	c.MustOK("LOGOUT")
	k.says(first, []string{"sessions of 1 user ended"}, "backends")
}

// One user is moved, and back, with their sessions on both proxies.
func TestAUserIsMovedByHand(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "")
	first, second := k.proxies[0], k.proxies[1]
	user := k.usersAt(first, "d1", 1)[0]
	a, b := login(t, first, user), login(t, second, user)
	done := b.Idle()
	k.refuses(first, "there is no backend", "move", user, "d9")
	k.refuses(first, "name a backend, or --auto", "move", user)
	k.refuses(first, "name a backend, or --auto", "move", user, "d2", "--auto")
	if out := k.must(second, "move", user, "d2", "--dry-run"); !strings.Contains(out, "would go to d2, from d1") {
		t.Errorf("a dry run says\n%s", out)
	}
	if at := k.backendOf(user); at != "d1" {
		t.Errorf("after a dry run the user is at %q", at)
	}
	if out := k.must(second, "move", user, "d2"); !strings.Contains(out, user+" goes to d2, for all proxies") {
		t.Errorf("move says\n%s", out)
	}
	comes := func(backend string) {
		t.Helper()
		first.eventually(t, user+" at "+backend, func() error {
			a.MustOK("NOOP")
			if at := k.backendOf(user); at != backend {
				return fmt.Errorf("the user is at %q", at)
			}
			return nil
		})
	}
	comes("d2")
	if x := done(); !x.OK() {
		t.Errorf("DONE: %s", x.Tagged)
	}
	b.MustOK("NOOP")
	for _, p := range k.proxies {
		if out := k.must(p, "user", user); !strings.Contains(out, "d2 (override)") && !strings.Contains(out, "d2 (connections)") {
			t.Errorf("user says\n%s", out)
		}
	}
	if out := k.must(first, "move", user, "--auto"); !strings.Contains(out, "aren't sent to d2 any more") {
		t.Errorf("move --auto says\n%s", out)
	}
	comes("d1")
	b.MustOK("NOOP")
}

// Where the proxies don't agree, the verbs say what to do instead.
func TestDrainAndMoveNeedAnAgreement(t *testing.T) {
	t.Parallel()
	k, _, p := alone(t, proxyOptions{})
	for _, args := range [][]string{{"drain", "d1"}, {"undrain", "d1"}, {"move", servers.User(1), "d1"}, {"move", servers.User(1), "--auto"}} {
		k.refuses(p, "maintenance in Consul", args...)
	}
}

// A user is moved to a backend that lacks SORT, which the client of a session was told: the session stays where it is, goes on with SORT, and its
// user with it, also by another proxy. Once these sessions have ended the user goes where they were moved.
func TestASessionStaysWhereWhatItWasToldIs(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	registerBackend(t, k.consul, "d1", k.addBackend("d1"))
	registerBackend(t, k.consul, "d2", k.addBackendWith("d2", "imap_capability = IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN "+
		"MULTIAPPEND UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED CONDSTORE QRESYNC ESEARCH SEARCHRES WITHIN LIST-STATUS MOVE SPECIAL-USE\n"))
	for range 2 {
		k.proxies = append(k.proxies, k.start("  move_rate = 1000\n"))
	}
	k.agreed()
	first, second := k.proxies[0], k.proxies[1]
	sorts := func(c *imaptest.Client) bool { return strings.Contains(c.MustOK("CAPABILITY").String(), " SORT") }
	user, less := k.usersAt(first, "d1", 1)[0], k.usersAt(first, "d2", 1)[0]
	for _, p := range k.proxies { // which so learn what d2 can do
		if sorts(login(t, p, less)) {
			t.Fatal("d2 has SORT")
		}
	}
	c := login(t, first, user)
	if !sorts(c) {
		t.Fatal("d1 has no SORT")
	}

	k.refuses(first, "were told what d2 can't do: ", "move", user, "d2") // the other proxy doesn't know what this client was told
	k.refuses(first, "SORT", "move", user, "d2", "--dry-run")
	k.isAt(first, user, "d1")
	k.must(first, "drain", "d1")
	first.eventually(t, "told what holds the drain", func() error {
		c.MustOK("SORT (ARRIVAL) UTF-8 ALL") // a session that is parked meanwhile would hold nothing
		out := k.must(first, "backends")
		if _, held, _ := strings.Cut(out, "held by: "); !strings.Contains(held, "capabilities") {
			return errors.New(out)
		}
		return nil
	})
	k.must(first, "undrain", "d1")
	k.isAt(first, user, "d1")

	// The session that was to leave is parked now, where it is, and one that is parked follows its user.
	c.MustOK("LOGOUT")
	k.isAt(first, user, "")
	c = login(t, first, user)
	k.isAt(first, user, "d1")
	if !sorts(c) {
		t.Fatal("d1 has no SORT")
	}
	k.must(second, "move", user, "d2")
	first.eventually(t, "told what holds the user", func() error {
		c.MustOK("SORT (ARRIVAL) UTF-8 ALL")
		if out := k.must(first, "sessions", "--user", user); !strings.Contains(out, "(capabilities)") {
			return errors.New(out)
		}
		return nil
	})
	var other *imaptest.Client
	second.eventually(t, "where the user is", func() error { // while it is the user's turn to leave, logins wait
		other = imaptest.Dial(t, second.Plain)
		if a := other.TryLogin(user, servers.Password); !a.OK() {
			return fmt.Errorf("%s", a.Tagged)
		}
		return nil
	})
	if !sorts(other) {
		t.Error("the other proxy sent the user to another backend")
	}
	c.MustOK("SORT (ARRIVAL) UTF-8 ALL")
	k.isAt(first, user, "d1")

	c.MustOK("LOGOUT")
	other.MustOK("LOGOUT")
	k.isAt(first, user, "")
	c = login(t, first, user)
	k.isAt(first, user, "d2")
	if sorts(c) {
		t.Error("the client is told what d2 can't do")
	}
}
