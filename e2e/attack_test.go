//go:build attack

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// These measure and judge nothing: docs/security.md has what they printed. ATTACK_PROXY
// names another build to measure in place of this one.
func init() {
	if other := os.Getenv("ATTACK_PROXY"); other != "" {
		_ = os.Setenv(proxyBinary, other)
	}
}

func report(t *testing.T, what string, took []time.Duration, answers []string) {
	ok := 0
	for _, a := range answers {
		if strings.HasPrefix(a, "a OK") {
			ok++
		}
	}
	slices.Sort(took)
	t.Logf("%s: %d of %d let in; median %s, longest %s; e.g. %q", what, ok, len(answers), took[len(took)/2].Round(time.Millisecond),
		took[len(took)-1].Round(time.Millisecond), fmt.Sprintf("%.60s", answers[len(answers)-1]))
}

// victims logs in n times from a network of its own.
func victims(t *testing.T, what, addr string, n int, user func(i int) string, password string) {
	var took []time.Duration
	var answers []string
	for i := range n {
		d, a := attempt(addr, "127.9.9.9", user(i), password)
		took, answers = append(took, d), append(answers, a)
	}
	report(t, what, took, answers)
}

func until(t *testing.T, n *atomic.Int64, want int64) {
	for end := time.Now().Add(30 * time.Second); n.Load() < want && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

func one(addr string) func(int) string { return func(int) string { return addr } }

// always guesses at one user.
func always(user string) func(i, n int) string { return func(int, int) string { return user } }

// bcrypt12 is userPassword at cost 12.
const bcrypt12 = "$2y$12$X/wyk15phCKDXR8NbN8QWOZgE4XACLR.OP4apYtD.hdeXuFx43CX6"

func TestAttackHashing(t *testing.T) {
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	passwd := filepath.Join(servers.Folder(t), "users.passwd")
	writeFile(t, passwd, servers.User(1)+":{BLF-CRYPT}"+bcrypt12+"\n"+servers.User(2)+":{BLF-CRYPT}"+bcrypt12+"\n")
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Master: true, PasswdFile: passwd})
	victims(t, "quiet", p.Plain, 5, one(servers.User(2)), userPassword)
	var begun atomic.Int64
	stop := make(chan struct{})
	g := guess(t, p.Plain, 150, one("127.0.0.2"), always(servers.User(1)), &begun, stop)
	until(t, &begun, 150)
	victims(t, "150 connections of one network guess against bcrypt 12", p.Plain, 5, one(servers.User(2)), userPassword)
	close(stop)
	g.Wait()
}

func TestAttackSilent(t *testing.T) {
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Limits: "connections = 400"})
	for range 399 {
		c, _, err := from(p.Plain, "127.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	time.Sleep(time.Second)
	var took []time.Duration
	var answers []string
	var held []net.Conn
	for i := range 20 { // sessions that stay
		begun := time.Now()
		c, r, err := from(p.Plain, fmt.Sprintf("127.9.%d.9", i))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		_, _ = r.ReadString('\n')
		fmt.Fprintf(c, "a LOGIN %s %s\r\n", servers.User(1+i%3), servers.Password)
		line, _ := r.ReadString('\n')
		took, answers = append(took, time.Since(begun)), append(answers, strings.TrimSpace(line))
	}
	report(t, "399 silent connections of one network, connections = 400: 20 sessions", took, answers)
	for _, c := range held {
		_ = c.Close()
	}
}

func TestAttackPerUser(t *testing.T) {
	server := servers.StartDovecot(t, servers.DovecotOptions{Stock: true})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Limits: "per_user = 3"})
	var begun atomic.Int64
	stop := make(chan struct{})
	g := guess(t, p.Plain, 6, func(i int) string { return fmt.Sprintf("127.0.%d.2", i) }, always(servers.User(1)), &begun, stop)
	until(t, &begun, 6)
	victims(t, "six guessers at a user with per_user = 3", p.Plain, 10, one(servers.User(1)), servers.Password)
	close(stop)
	g.Wait()
}

func TestAttackGuessers(t *testing.T) {
	server := servers.StartDovecot(t, servers.DovecotOptions{Stock: true})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	victims(t, "quiet", p.Plain, 5, func(i int) string { return servers.User(10 + i) }, servers.Password)
	next := 20 // users whose connections don't wait for them yet
	for name, source := range map[string]func(int) string{"one network": one("127.0.0.2"), "250 networks": func(i int) string { return fmt.Sprintf("127.1.%d.2", i) }} {
		var begun atomic.Int64
		stop := make(chan struct{})
		g := guess(t, p.Plain, 250, source, always(servers.User(1)), &begun, stop)
		until(t, &begun, 250)
		time.Sleep(3 * time.Second)
		victims(t, "250 guessers of "+name+" at a default Dovecot", p.Plain, 5, func(i int) string { return servers.User(next + i) }, servers.Password)
		next += 5
		close(stop)
		g.Wait()
	}
}

// 500 guessers at 50 users, while the users, whom their addresses have logged in before, log in again and again: with the default delays, in rounds without
// guessers and with them.
func TestAttackManyAddresses(t *testing.T) {
	for name, swarm := range swarms {
		p := swarmProxy(t, "2s")
		logins := func() time.Duration {
			var mu sync.Mutex // guards took
			var took []time.Duration
			var g sync.WaitGroup
			for i := range honest {
				g.Go(func() {
					for range 20 {
						d, a := attempt(p.Plain, honestAddress(i), servers.User(1+i), userPassword)
						if !strings.HasPrefix(a, "a OK") {
							t.Errorf("user %d: %s", 1+i, a)
						}
						mu.Lock()
						took = append(took, d)
						mu.Unlock()
					}
				})
			}
			g.Wait()
			slices.Sort(took)
			return took[len(took)*99/100]
		}
		logins()
		var without, with, ratios []float64
		begun := new(atomic.Int64)
		for range 7 {
			quiet := logins()
			before, stop := p.metric(t, "imapproxy_login_delays_total"), make(chan struct{})
			g := guess(t, p.Plain, 500, swarm.from, swarmGuess, begun, stop)
			p.swarmWaits(t, before)
			attacked := logins()
			close(stop)
			g.Wait()
			without, with, ratios = append(without, quiet.Seconds()*1000), append(with, attacked.Seconds()*1000), append(ratios, attacked.Seconds()/quiet.Seconds())
		}
		for _, all := range [][]float64{without, with, ratios} {
			slices.Sort(all)
		}
		t.Logf("500 guessers from %s, %d guesses: 99 %% of the users' logins take %.0f ms at most without them and %.0f ms with them, %.2f times as long [%.2f..%.2f] (medians of %d rounds)",
			name, begun.Load(), without[3], with[3], ratios[3], ratios[0], ratios[6], len(ratios))
	}
}

func TestAttackAdmin(t *testing.T) {
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	addr := strings.TrimPrefix(p.Admin, "http://")
	for range 64 {
		c, r, err := from(addr, "127.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		_, _ = r.ReadString('\n')
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	begun := time.Now()
	resp, err := client.Get(p.Admin + "/readyz")
	status := fmt.Sprint(err)
	if err == nil {
		status = resp.Status
		resp.Body.Close()
	}
	t.Logf("64 idle connections: /readyz %s after %s", status, time.Since(begun).Round(time.Millisecond))
}
