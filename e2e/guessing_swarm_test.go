package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/e2e/servers"
)

// honest is the number of users who are attacked, and who log in meanwhile.
const honest = 50

// honestAddress is the address from which a user logs in.
func honestAddress(i int) string { return fmt.Sprintf("127.50.%d.1", i) }

// swarms are the addresses of the guessers; an address among theirs from which a user logs in, and one that is new and so has to wait.
var swarms = map[string]struct {
	from       func(i int) string
	known, new string
}{
	"125 networks": {func(i int) string { return fmt.Sprintf("127.60.%d.%d", i/4, 1+i%4) }, "127.60.3.200", "127.70.0.1"},
	"one network":  {func(i int) string { return fmt.Sprintf("127.61.0.%d", 1+i/2) }, "127.61.0.254", "127.61.0.253"}, // it hasn't 500
}

// swarmGuess is the user at whom the i-th guesser's n-th guess is.
func swarmGuess(i, n int) string { return servers.User(1 + (i+n)%honest) }

// guess keeps n connections guessing until stop is closed, each from its source and each guess over a connection of its own. begun counts
// the guesses.
func guess(t *testing.T, addr string, n int, source func(i int) string, user func(i, n int) string, begun *atomic.Int64, stop chan struct{}) *sync.WaitGroup {
	t.Helper()
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			for n := 0; ; n++ {
				c, r, err := from(addr, source(i))
				if err != nil {
					return
				}
				done := make(chan struct{})
				go func() { // ends the connection at stop, or with the attempt
					select {
					case <-stop:
					case <-done:
					}
					_ = c.Close()
				}()
				if _, err := r.ReadString('\n'); err == nil {
					fmt.Fprintf(c, "a LOGIN %s guess%d-%d\r\n", user(i, n), i, n)
					begun.Add(1)
					if answer, _ := r.ReadString('\n'); strings.HasPrefix(answer, "a OK") {
						t.Errorf("a guess at %s is right", user(i, n))
					}
				}
				close(done)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	return &g
}

// swarmProxy is a proxy whose users are those who are attacked, with an auth_failure_delay.
func swarmProxy(t *testing.T, delay string) *runningProxy {
	t.Helper()
	var lines strings.Builder
	for i := range honest {
		lines.WriteString(servers.User(1+i) + ":{PLAIN}" + userPassword + "\n")
	}
	passwd := filepath.Join(servers.Folder(t), "users.passwd")
	writeFile(t, passwd, lines.String())
	return masterProxyWith(t, servers.StartDovecot(t, servers.DovecotOptions{}), func(o *proxyOptions) { o.Guesses, o.PasswdFile, o.Delay = true, passwd, delay })
}

// swarmWaits waits until so many more guesses than before have had to wait as there are guessers.
func (p *runningProxy) swarmWaits(t *testing.T, before float64) {
	t.Helper()
	p.eventually(t, "guesses that wait", func() error {
		if n := p.metric(t, "imapproxy_login_delays_total"); n < before+500 {
			return fmt.Errorf("%v have waited", n-before)
		}
		return nil
	})
}

// 500 guessers attack 50 users, from 500 addresses. The users log in from addresses that have logged them in before: none of
// them is refused or waits. A user whose address is new waits, and is let in.
func TestGuessersDelayNoOneElse(t *testing.T) {
	t.Parallel()
	for name, swarm := range swarms {
		t.Run(name, func(t *testing.T) {
			p := swarmProxy(t, "")
			in := func(i int, address string) {
				t.Helper()
				if _, answer := attempt(p.Plain, address, servers.User(1+i), userPassword); !strings.HasPrefix(answer, "a OK") {
					t.Errorf("user %d from %s: %s", 1+i, address, answer)
				}
			}
			for i := range honest {
				in(i, honestAddress(i))
			}
			in(0, swarm.known)
			begun, stop := new(atomic.Int64), make(chan struct{})
			g := guess(t, p.Plain, 500, swarm.from, swarmGuess, begun, stop)
			p.swarmWaits(t, 0)
			before, during := len(p.Output()), ""
			for rounds := 0; rounds < 100 && !strings.Contains(during, `msg="login failed"`); rounds++ { // until a guess has ended meanwhile
				var users sync.WaitGroup
				for i := range honest {
					users.Go(func() { in(i, honestAddress(i)) })
				}
				users.Wait()
				in(0, swarm.known)
				during = p.Output()[before:]
			}
			close(stop)
			g.Wait()
			for line := range strings.Lines(during) {
				if address := clientOf(line); (strings.HasPrefix(address, "127.50.") || address == swarm.known) &&
					(strings.Contains(line, `msg="login delayed"`) || strings.Contains(line, `msg="login failed"`)) {
					t.Errorf("a login of a known address: %s", line)
				}
			}
			if !strings.Contains(during, `msg="login failed"`) {
				t.Error("no guess has ended while the users logged in")
			}
			p.eventually(t, "let in from a new address", func() error { // what is left of the guesses may fill the places for waiting
				if _, answer := attempt(p.Plain, swarm.new, servers.User(1), userPassword); !strings.HasPrefix(answer, "a OK") {
					return errors.New(answer)
				}
				return nil
			})
			if !delayed(p.Output(), swarm.new) {
				t.Error("a new address doesn't wait: this attack shows nothing")
			}
			p.toldNoSecrets(t, userPassword, "guess0-")
		})
	}
}

// clientOf is the client's address in a line of the log; "" if there is none.
func clientOf(line string) string {
	_, rest, _ := strings.Cut(line, " client=")
	address, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return address
}

// delayed reports whether the log has a login from the address that waited.
func delayed(log, address string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `msg="login delayed"`) && clientOf(line) == address {
			return true
		}
	}
	return false
}
