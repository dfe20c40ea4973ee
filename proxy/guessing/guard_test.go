package guessing

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var rules = Rules{Delay: 2 * time.Second, Longest: 15 * time.Second, Trusted: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}

var begun = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// wrong guesses once, and says what it had to wait for.
func (g *Guard) wrong(now time.Time, client, user, password string) time.Duration {
	a := g.Begin(now, rules, netip.MustParseAddr(client), user, password)
	a.Wrong(now)
	return a.Waited()
}

// right logs in once, and says what it had to wait for.
func (g *Guard) right(now time.Time, client, user string) time.Duration {
	a := g.Begin(now, rules, netip.MustParseAddr(client), user, "right")
	a.Right(now)
	return a.Waited()
}

// each passes n to its caller as text.
func each(format string, n int) string { return fmt.Sprintf(format, n) }

func TestDelaysGrowAndEnd(t *testing.T) {
	const s = time.Second
	for what, c := range map[string]struct {
		client, user string // of the guesses, with their number
		free         int
		then         string // a login that the bucket delays
		by           By
	}{
		"address":         {"192.0.2.1", "u%d", 5, "192.0.2.1", ByAddress},
		"an IPv6 address": {"2001:db8::%d", "u%d", 5, "2001:db8::ffff", ByAddress},
		"network":         {"192.0.2.%d", "u%d", 15, "192.0.2.200", ByNetwork},
		"an IPv6 network": {"2001:db8:0:%d::1", "u%d", 15, "2001:db8:0:ffff::1", ByNetwork},
		"user":            {"192.0.%d.1", "victim", 10, "203.0.113.1", ByUser},
	} {
		g, now := New(Options{}), begun
		guess := func(i int) time.Duration {
			client, user := c.client, c.user
			if client != "192.0.2.1" {
				client = each(c.client, i+1)
			}
			if user != "victim" {
				user = each(c.user, i)
			}
			return g.wrong(now, client, user, each("p%d", i))
		}
		for i := range c.free {
			if d := guess(i); d != 0 {
				t.Errorf("%s: guess %d waits %v", what, i+1, d)
			}
		}
		for i, want := range []time.Duration{2 * s, 4 * s, 8 * s, 15 * s, 15 * s, 15 * s} {
			if d := guess(c.free + i); d != want {
				t.Errorf("%s: guess %d waits %v, want %v", what, c.free+i+1, d, want)
			}
		}
		user := "victim"
		if c.user != user {
			user = "new"
		}
		a := g.Begin(now, rules, netip.MustParseAddr(c.then), user, "right")
		if a.Wait != 15*s || a.By != c.by {
			t.Errorf("%s: a login waits %v by %q", what, a.Wait, a.By)
		}
		now = now.Add(5 * time.Minute)
		if d := g.right(now, c.then, user); d != 0 {
			t.Errorf("%s: after 5 minutes a login waits %v", what, d)
		}
	}
}

func TestWhatDoesntCount(t *testing.T) {
	g := New(Options{})
	for range 100 { // a phone with an old password
		if d := g.wrong(begun, "192.0.2.1", "alice", "old"); d != 0 {
			t.Fatalf("the same wrong password waits %v", d)
		}
	}
	for i := range 100 { // clients that log in at the same time
		if d := g.Begin(begun, rules, netip.MustParseAddr("192.0.2.1"), each("u%d", i), "x").Waited(); d != 0 {
			t.Fatalf("a login beside others waits %v", d)
		}
	}
	for i := range 100 {
		if d := g.wrong(begun, "198.51.100.7", "bob", each("%d", i)); d != 0 {
			t.Fatalf("a trusted network waits %v", d)
		}
	}
	for i := range 100 { // without a delay nothing waits
		a := g.Begin(begun, Rules{Longest: time.Minute}, netip.MustParseAddr("192.0.2.9"), "carol", each("%d", i))
		a.Wrong(begun)
		if err := a.Sleep(context.Background()); err != nil || a.Waited() != 0 {
			t.Fatal(a, err)
		}
	}
	if d := g.right(begun, "192.0.2.1", "bob"); d != 0 {
		t.Errorf("after all that a login waits %v", d)
	}
}

// The same wrong password is free only for the same user and address.
func TestAPasswordTriedAtManyUsersCounts(t *testing.T) {
	g := New(Options{})
	var last time.Duration
	for i := range 9 {
		last = g.wrong(begun, "192.0.2.1", each("u%d", i), "Summer2026")
	}
	if last != 15*time.Second {
		t.Errorf("the ninth user waits %v", last)
	}
	g = New(Options{})
	for i := range 14 {
		last = g.wrong(begun, each("192.0.%d.1", i), "alice", "Summer2026")
	}
	if last != 15*time.Second {
		t.Errorf("the fourteenth address waits %v", last)
	}
}

// Databases and directories take names for one that differ in accents, case or width: a guesser has no more guesses at a user by
// writing the name in many ways. Addresses are known for one name alone.
func TestNamesThatAreAlikeCountTogether(t *testing.T) {
	g, now := New(Options{}), begun
	if g.right(now, "198.18.0.1", "álice@example.org") != 0 {
		t.Fatal("the first login waits")
	}
	for i, name := range []string{"alice", "àlice", "âlice", "ALICE", "ａlice", "alıce", "a\u0301lice", "alicé", "ａｌｉｃｅ", "ÁLICÉ", "älice"} {
		g.wrong(now, each("192.0.%d.1", i), name+"@example.org", each("p%d", i))
	}
	if g.right(now, "203.0.113.1", "alice@example.org") == 0 || g.right(now, "198.18.0.1", "alice@example.org") == 0 {
		t.Error("a guess at a name in another writing doesn't count")
	}
	if d := g.right(now, "198.18.0.1", "álice@example.org"); d != 0 {
		t.Errorf("the user's own address waits for %v", d)
	}
	if d := g.right(now, "203.0.113.2", "bob@example.org"); d != 0 {
		t.Errorf("another user waits for %v", d)
	}
}

func TestAddressesOfTheUserAreSpared(t *testing.T) {
	g := New(Options{})
	g.right(begun, "192.0.2.1", "alice")
	attack := func(now time.Time, password string) {
		for i := range 100 { // from the network of the user, at the user
			g.wrong(now, each("192.0.2.%d", 2+i), "alice", each(password, i))
		}
	}
	attack(begun, "first%d")
	if d := g.right(begun, "192.0.2.1", "alice"); d != 0 {
		t.Errorf("the own address waits %v", d)
	}
	if d := g.right(begun, "192.0.2.1", "bob"); d != 15*time.Second {
		t.Errorf("another user there waits %v", d)
	}
	if d := g.right(begun, "203.0.113.1", "alice"); d != 15*time.Second {
		t.Errorf("a new address of the user waits %v", d)
	}
	if d := g.right(begun, "203.0.113.1", "alice"); d != 0 {
		t.Errorf("that address waits %v once it has logged in", d)
	}
	for i := range 9 { // the own address of the user guesses
		g.wrong(begun, "192.0.2.1", each("u%d", i), "x")
	}
	if d := g.right(begun, "192.0.2.1", "alice"); d != 15*time.Second {
		t.Errorf("an address that guesses waits %v", d)
	}
	late := begun.Add(loginCounts + time.Hour)
	attack(late, "then%d")
	if d := g.right(late, "192.0.2.1", "alice"); d != 15*time.Second {
		t.Errorf("after 30 days the address waits %v", d)
	}
}

// What a user's logins take is bounded, and so is everything else: the others keep what is theirs.
func TestMemoryIsBounded(t *testing.T) {
	g := New(Options{})
	g.right(begun, "192.0.2.1", "alice")
	for i := range 3 * maxOfUser {
		g.right(begun, each("2001:db8:%x::1", i), "bob")
	}
	v, _ := g.known.Peek(g.key.print("bob"))
	if n := len(v.([]seen)); n != maxOfUser {
		t.Errorf("%d addresses of one user", n)
	}
	v, _ = g.known.Peek(g.key.print("alice"))
	if n := len(v.([]seen)); n != 1 {
		t.Errorf("%d addresses of the other user", n)
	}
	const bound = 64
	g.addresses.of.Resize(bound)
	g.networks.of.Resize(bound)
	g.users.of.Resize(bound)
	g.passwords.Resize(bound)
	for i := range 2 * bound {
		g.wrong(begun, each("2001:db8:%x::1", i), each("u%d", i), "x")
	}
	if a, n, u, w := g.addresses.of.Len(), g.networks.of.Len(), g.users.of.Len(), g.passwords.Len(); a != bound || n != bound || u != bound || w != bound {
		t.Errorf("%d addresses, %d networks, %d users, %d passwords", a, n, u, w)
	}
	if g.known.Len() != 2 {
		t.Errorf("%d users have logged in", g.known.Len())
	}
}

func TestSleepIsThatOfTheOptions(t *testing.T) {
	var slept []time.Duration
	stop := errors.New("stop")
	g := New(Options{Sleep: func(_ context.Context, d time.Duration) error {
		slept = append(slept, d)
		return stop
	}})
	for i := range 6 {
		a := g.Begin(begun, rules, netip.MustParseAddr("192.0.2.1"), "alice", each("%d", i))
		if err := a.Sleep(context.Background()); (err != nil) != (i == 5) {
			t.Error(i, err)
		}
		a.Wrong(begun)
	}
	if len(slept) != 1 || slept[0] != 2*time.Second {
		t.Error(slept)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(stop)
	if err := sleep(ctx, time.Hour); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// Logins that wait are bounded for each address and each network, and those of others wait all the same.
func TestAnAddressHasFewLoginsThatWait(t *testing.T) {
	ended := make(chan error)
	entered := make(chan struct{})
	g := New(Options{Sleep: func(ctx context.Context, _ time.Duration) error {
		entered <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	for i := range 30 {
		g.wrong(begun, each("192.0.2.%d", i), "alice", each("%d", i)) // the network's bucket is full, and the user's
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := 0
	wait := func(client string) {
		t.Helper()
		a := g.Begin(begun, rules, netip.MustParseAddr(client), "alice", "x")
		go func() { ended <- a.Sleep(ctx) }()
		<-entered
		waits++
	}
	refused := func(client string) {
		t.Helper()
		if err := g.Begin(begun, rules, netip.MustParseAddr(client), "alice", "x").Sleep(ctx); !errors.Is(err, ErrCrowded) {
			t.Errorf("%s: %v", client, err)
		}
	}
	for host := range waitingOfNetwork / waitingOfAddress {
		for range waitingOfAddress {
			wait(each("192.0.2.%d", host))
		}
		refused(each("192.0.2.%d", host))
	}
	refused("192.0.2.200")
	wait("203.0.113.1")
	cancel()
	for range waits {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if len(g.waiting) != 0 {
		t.Errorf("%d are counted after the end", len(g.waiting))
	}
}

// login is a login at a time.
type login struct {
	at   time.Time
	who  int
	next func(now time.Time) (again time.Time)
}

type logins []login

func (l logins) Len() int { return len(l) }
func (l logins) Less(i, j int) bool {
	return l[i].at.Before(l[j].at) || l[i].at.Equal(l[j].at) && l[i].who < l[j].who
}
func (l logins) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *logins) Push(x any)   { *l = append(*l, x.(login)) }
func (l *logins) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

// 500 guessers attack 50 users for some minutes, from 500 addresses in 125 networks, or all in one. Meanwhile 50 honest
// users log in from addresses that have logged them in before, 50 from new ones, and one has the attackers'
// network. The clock is the test's: what is asserted are the delays that are handed out.
func TestAttack(t *testing.T) {
	const minutes = 5
	for what, c := range map[string]struct {
		from  func(i int) string
		known string // honest addresses
	}{
		"125 networks": {func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/4, 1+i%4) }, "10.0.%d.200"},
		"one network":  {func(i int) string { return fmt.Sprintf("10.0.0.%d", 1+i/2) }, "10.1.%d.200"}, // two guessers an address
	} {
		g := New(Options{})
		for i := range 50 {
			g.right(begun, each(c.known, i), each("user%d", i))
		}
		g.right(begun, "10.0.0.254", "neighbour")
		end := begun.Add(minutes * time.Minute)
		guesses, ok := 0, 0
		var longest time.Duration
		var all logins
		for i := range 500 {
			n := 0
			all = append(all, login{begun, i, func(now time.Time) time.Time {
				n++
				guesses++
				d := g.wrong(now, c.from(i), each("user%d", (i+n)%50), fmt.Sprintf("%d-%d", i, n))
				return now.Add(max(d, rules.Delay))
			}})
		}
		for i := range 51 {
			user, client := each("user%d", i), each(c.known, i)
			if i == 50 {
				user, client = "neighbour", "10.0.0.254"
			}
			all = append(all, login{begun.Add(time.Second), 500 + i, func(now time.Time) time.Time {
				if d := g.right(now, client, user); d != 0 {
					t.Errorf("%s: %s waits %v at %s", what, user, d, client)
				}
				ok++
				return now.Add(time.Minute)
			}})
		}
		for i := range 50 {
			n := 0
			all = append(all, login{begun.Add(2 * time.Second), 600 + i, func(now time.Time) time.Time {
				n++
				longest = max(longest, g.right(now, fmt.Sprintf("172.16.%d.%d", i, n), each("user%d", i)))
				return now.Add(time.Minute)
			}})
		}
		heap.Init(&all)
		for all[0].at.Before(end) {
			l := heap.Pop(&all).(login)
			l.at = l.next(l.at)
			heap.Push(&all, l)
		}
		if ok != 51*minutes {
			t.Errorf("%s: %d honest logins", what, ok)
		}
		if longest == 0 || longest > rules.Longest {
			t.Errorf("%s: new addresses wait %v at most", what, longest)
		}
		// 500 guessers who wait the longest time each: four a minute; without delays it would be thirty.
		if most := 500 * (4*minutes + 10); guesses > most {
			t.Errorf("%s: %d guesses in %d minutes, want %d at most", what, guesses, minutes, most)
		}
		t.Logf("%s: %d guesses in %d minutes; new addresses wait %v at most", what, guesses, minutes, longest)
	}
}
