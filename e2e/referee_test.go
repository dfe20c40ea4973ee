package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A referee stands between proxies and backends, and sees each connection of a user from before its login reaches the backend until the backend has closed
// it. It fails the test where a user has connections at two backends.
type referee struct {
	t    testing.TB
	mu   sync.Mutex                // guards at and made
	at   map[string]map[string]int // user → backend → connections
	made map[string]map[string]int // the same, with those that have ended
}

func newReferee(t testing.TB) *referee {
	return &referee{t: t, at: map[string]map[string]int{}, made: map[string]map[string]int{}}
}

// before is an address in front of a backend.
func (r *referee) before(id, addr string) string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex // guards open
	open := map[net.Conn]bool{}
	r.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", addr)
			if err != nil {
				c.Close()
				continue
			}
			mu.Lock()
			open[c], open[b] = true, true
			mu.Unlock()
			running.Go(func() {
				r.relay(id, c.(*net.TCPConn), b.(*net.TCPConn))
				mu.Lock()
				delete(open, c)
				delete(open, b)
				mu.Unlock()
			})
		}
	})
	return l.Addr().String()
}

// relay is one connection of a proxy's. Its end reaches the proxy once the backend has closed it.
func (r *referee) relay(id string, proxy, backend *net.TCPConn) {
	defer proxy.Close()
	defer backend.Close()
	user := ""
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		in := bufio.NewReader(proxy)
		for user == "" {
			line, err := in.ReadString('\n')
			if user = userOf(line); user != "" {
				r.enter(user, id)
			}
			if _, werr := io.WriteString(backend, line); err != nil || werr != nil {
				_ = backend.CloseWrite()
				return
			}
		}
		_, _ = io.Copy(backend, in)
		_ = backend.CloseWrite()
	}()
	_, _ = io.Copy(proxy, backend)
	_ = backend.SetLinger(0)
	backend.Close() // the other direction can't write any more
	_ = proxy.CloseRead()
	<-asked
	if user != "" {
		r.leave(user, id)
	}
}

// userOf is whom a line logs in; "": it doesn't.
func userOf(line string) string {
	words := strings.Fields(line)
	for i, w := range words {
		if strings.EqualFold(w, "PLAIN") && i+1 < len(words) {
			if text, err := base64.StdEncoding.DecodeString(words[i+1]); err == nil {
				if parts := strings.Split(string(text), "\x00"); len(parts) == 3 {
					if parts[0] != "" {
						return parts[0]
					}
					return parts[1]
				}
			}
		}
	}
	return ""
}

func (r *referee) enter(user, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.at[user] {
		if other != id {
			r.t.Errorf("%s has connections at %s and gets one at %s", user, other, id)
		}
	}
	if r.at[user] == nil {
		r.at[user] = map[string]int{}
	}
	if r.made[user] == nil {
		r.made[user] = map[string]int{}
	}
	r.at[user][id]++
	r.made[user][id]++
}

func (r *referee) leave(user, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at[user][id]--; r.at[user][id] == 0 {
		delete(r.at[user], id)
	}
}

// backendOf is where a user has connections; "": nowhere.
func (r *referee) backendOf(user string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.at[user] {
		return id
	}
	return ""
}

// left returns the users who have connections.
func (r *referee) left() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for user, at := range r.at {
		for id, n := range at {
			all = append(all, fmt.Sprintf("%s at %s: %d", user, id, n))
		}
	}
	slices.Sort(all)
	return all
}
