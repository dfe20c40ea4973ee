package guessing

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"imapproxy/internal/fair"
)

// Rules are the settings. The zero value delays nothing.
type Rules struct {
	Delay   time.Duration  // the first delay; the further ones are longer; 0 or less: there is none
	Longest time.Duration  // the longest delay; 0 or less: there is none
	Trusted []netip.Prefix // the networks whose logins aren't delayed, and whose failures don't count
}

// Guard counts failed logins and says how long a login has to wait before its password is checked. What it
// remembers is bounded (memory.go).
//
// A failed login counts in three buckets: of its address (an IPv6 /64), of its network (/24, /48) and of the
// user, together with users whose names are alike. A bucket that is full delays logins: by Rules.Delay, and for each further failure by twice as
// much, up to Rules.Longest. Buckets leak, so that no delay outlasts a guesser by more than some minutes.
//
//   - Only wrong guesses count: clients that log in at the same time from one address don't delay each other.
//   - The same wrong password from the same address for the same user counts once: a phone goes on with an
//     old one.
//   - An address from which the user has logged in within 30 days waits for its own failures only, not for
//     those of its network or for guesses at the user.
type Guard struct {
	key   key // of the fingerprints
	sleep func(context.Context, time.Duration) error

	mu sync.Mutex // guards what follows; a few lines, no I/O
	memory
	waiting map[netip.Prefix]int // logins that wait, by address and by network
}

// At most so many logins of an address, and of a network, wait at a time: otherwise a client would make as many guesses
// at a time as it has connections. Together they are bounded by the places of clients that haven't logged in.
const (
	waitingOfAddress = 16
	waitingOfNetwork = 256
)

// ErrCrowded means that too many logins of the address or the network wait.
var ErrCrowded = errors.New("too many logins of this address or network wait")

// Options are the options of New.
type Options struct {
	// Sleep waits until the time is over or ctx ends; then its error is that of ctx. Nil: by the clock.
	Sleep func(ctx context.Context, d time.Duration) error
}

// New returns a Guard that remembers nothing yet.
func New(o Options) *Guard {
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &Guard{key: newKey(), sleep: o.Sleep, memory: newMemory(), waiting: map[netip.Prefix]int{}}
}

// sleep waits by the clock.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// By says which bucket delays a login.
type By string

// The buckets.
const (
	ByAddress By = "address"
	ByNetwork By = "network"
	ByUser    By = "user"
)

// Attempt is one login, which one goroutine owns. A nil Attempt is of a login that isn't delayed and doesn't count.
type Attempt struct {
	Wait time.Duration // before the password may be checked
	By   By            // why; "" without a wait

	guard            *Guard
	address, network netip.Prefix
	user             fingerprint
	alike            fingerprint // of all users whose names are alike, whose failures count together
	login            fingerprint // of user and address
	password         fingerprint // of user, address and password
}

// Begin says how long a login has to wait. user is the canonical name.
func (g *Guard) Begin(now time.Time, rules Rules, client netip.Addr, user, password string) *Attempt {
	if rules.Delay <= 0 || rules.Longest <= 0 || !client.IsValid() || fair.In(rules.Trusted, client) {
		return nil
	}
	address, network := places(client)
	a := &Attempt{
		guard: g, address: address, network: network, user: g.key.print(user), alike: g.key.print(alike(user)),
		login: g.key.print(user, address.String()), password: g.key.print(user, address.String(), password),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a.longer(ByAddress, rules.delay(g.addresses.over(now, address)))
	if !g.hasLoggedIn(now, a.user, a.login) {
		a.longer(ByNetwork, rules.delay(g.networks.over(now, network)))
		a.longer(ByUser, rules.delay(g.users.over(now, a.alike)))
	}
	return a
}

// longer has the attempt wait for so long, if that is longer.
func (a *Attempt) longer(by By, wait time.Duration) {
	if wait > a.Wait {
		a.Wait, a.By = wait, by
	}
}

// delay is how long a login waits at a bucket with so many failures more than it holds; below 0 it has room.
func (r Rules) delay(over int) time.Duration {
	if over < 0 {
		return 0
	}
	d := r.Delay
	for ; over > 0 && d < r.Longest; over-- {
		d *= 2
	}
	if over > 0 || d > r.Longest {
		return r.Longest
	}
	return d
}

// places are the address and the network that a client's failures count for.
func places(client netip.Addr) (address, network netip.Prefix) {
	client = client.Unmap().WithZone("")
	bits := [2]int{64, 48}
	if client.Is4() {
		bits = [2]int{32, 24}
	}
	address, _ = client.Prefix(bits[0]) // it has so many
	network, _ = client.Prefix(bits[1])
	return address, network
}

// Sleep waits as long as the attempt has to. Its error is ErrCrowded, at once, or the cause of ctx's end.
func (a *Attempt) Sleep(ctx context.Context) error {
	if a == nil || a.Wait <= 0 {
		return nil
	}
	if !a.guard.enter(a) {
		return ErrCrowded
	}
	defer a.guard.leave(a)
	return a.guard.sleep(ctx, a.Wait)
}

// Pause has a login wait for d for another reason, which counts among those that wait. The attempt may be nil. Its errors
// are those of Sleep.
func (g *Guard) Pause(ctx context.Context, a *Attempt, d time.Duration) error {
	if a != nil {
		if !g.enter(a) {
			return ErrCrowded
		}
		defer g.leave(a)
	}
	return g.sleep(ctx, d)
}

// enter counts an attempt among those that wait, unless there are too many.
func (g *Guard) enter(a *Attempt) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting[a.address] >= waitingOfAddress || g.waiting[a.network] >= waitingOfNetwork {
		return false
	}
	g.waiting[a.address]++
	g.waiting[a.network]++
	return true
}

func (g *Guard) leave(a *Attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range []netip.Prefix{a.address, a.network} {
		if g.waiting[p]--; g.waiting[p] == 0 {
			delete(g.waiting, p)
		}
	}
}

// Waited is how long the attempt had to wait.
func (a *Attempt) Waited() time.Duration {
	if a == nil {
		return 0
	}
	return a.Wait
}

// Right records that the user has logged in.
func (a *Attempt) Right(now time.Time) {
	if a == nil {
		return
	}
	a.guard.mu.Lock()
	defer a.guard.mu.Unlock()
	a.guard.loggedIn(now, a.user, a.login)
}

// Wrong records that the attempt may have been a guess.
func (a *Attempt) Wrong(now time.Time) {
	if a == nil {
		return
	}
	g := a.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.repeated(a.password) {
		return
	}
	g.addresses.fill(now, a.address)
	g.networks.fill(now, a.network)
	g.users.fill(now, a.alike)
}
