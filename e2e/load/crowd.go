package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A crowd is a process with idle clients. It reads its orders as lines of JSON and answers each with one.

// roleBackend and roleCrowd are the roles of processes that this program starts.
const (
	roleBackend = "backend"
	roleCrowd   = "crowd"
	roleBare    = "bare"
)

// order is what a crowd is to do.
type order struct {
	// Open has N clients log in at Addr, Pace of them a second, select a mailbox and go into IDLE. PerUser of them have one user, each in
	// another mailbox.
	Open bool
	// Back has all clients send DONE and FETCH, Ramp of them at a time.
	Back bool
	// Idle has all of them send IDLE again.
	Idle bool

	Addr       string
	TLS        bool
	N, PerUser int
	Pace, Ramp int
}

// outcome is a crowd's answer.
type outcome struct {
	Clients       int
	Err           string `json:",omitempty"`
	Took          time.Duration
	P50, P90, P99 time.Duration // of the time from DONE to the answer to FETCH
}

func mailboxName(i int) string {
	if i == 0 {
		return "INBOX"
	}
	return "folder" + strconv.Itoa(i)
}

// serveCrowd serves orders until in ends.
func serveCrowd(in io.Reader, out io.Writer) error {
	var clients []*client
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		began := time.Now()
		var got outcome
		var err error
		switch {
		case o.Open:
			clients, err = o.open()
		case o.Back:
			got, err = o.back(clients)
		case o.Idle:
			err = each(len(clients), o.Ramp, func(i int) error {
				defer clients[i].rest()
				return clients[i].send("+", "i IDLE\r\n")
			})
		}
		got.Clients, got.Took = len(clients), time.Since(began)
		if err != nil {
			got.Err = err.Error()
		}
		if err := answers.Encode(got); err != nil {
			return err
		}
	}
	return lines.Err()
}

// each calls f with 0 to n-1, at most at of them at a time. It returns the first error.
func each(n, at int, f func(int) error) error {
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(at, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					mu.Lock()
					if first == nil {
						first = fmt.Errorf("client %d: %w", i, err)
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return first
}

func (o order) open() ([]*client, error) {
	clients := make([]*client, o.N)
	cfg := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: nil}
	tick := time.NewTicker(time.Second / time.Duration(max(o.Pace, 1)))
	defer tick.Stop()
	err := each(o.N, 32, func(i int) error {
		<-tick.C
		c, err := dialClient(o.Addr, o.TLS, cfg)
		if err != nil {
			return err
		}
		clients[i] = c
		if err := c.login("u"+strconv.Itoa(i/o.PerUser), mailboxName(i%o.PerUser)); err != nil {
			return err
		}
		if err := c.send("+", "i IDLE\r\n"); err != nil {
			return err
		}
		c.rest()
		return nil
	})
	return slices.DeleteFunc(clients, func(c *client) bool { return c == nil }), err
}

func (o order) back(clients []*client) (outcome, error) {
	took := make([]time.Duration, len(clients))
	err := each(len(clients), o.Ramp, func(i int) error {
		c := clients[i]
		_ = c.SetDeadline(time.Now().Add(patience))
		began := time.Now()
		if err := c.send("f", "DONE\r\nf UID FETCH 1 (FLAGS)\r\n"); err != nil {
			return err
		}
		took[i] = time.Since(began)
		return nil
	})
	slices.Sort(took)
	at := func(part float64) time.Duration { return took[int(part*float64(len(took)-1))] }
	var got outcome
	if len(took) > 0 {
		got.P50, got.P90, got.P99 = at(0.5), at(0.9), at(0.99)
	}
	return got, err
}

// failed returns the outcome's error.
func (o outcome) failed() error {
	if o.Err == "" {
		return nil
	}
	return fmt.Errorf("clients: %s", strings.TrimSpace(o.Err))
}
