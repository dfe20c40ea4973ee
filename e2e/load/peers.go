package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// staysAttached is the configuration in which no client of a comparison is parked between its turns.
const staysAttached = `
park {
  linger = "20m"
}
`

const nginxConfig = `
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
worker_processes 2;
pid $DIR/nginx.pid;
error_log $DIR/nginx-error.log error;
events {
  worker_connections 16384;
}
mail {
  server_name imap.test;
  auth_http $WEB/;
  timeout 1h;
  proxy_timeout 1h;
  ssl_certificate $DIR/cert.pem;
  ssl_certificate_key $DIR/key.pem;
  server {
    listen $PLAIN;
    protocol imap;
  }
  server {
    listen $TLS ssl;
    protocol imap;
  }
}
`

const haproxyConfig = `
global
  nbthread 2
  maxconn 8000
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend plain
  bind $PLAIN
  default_backend null
frontend secure
  bind $TLS ssl crt $DIR/both.pem
  default_backend null
backend null
  server b1 $IMAP
`

// target is a program that is compared.
type target struct {
	name       string
	plain, tls string
	pid        int
}

// peer starts a program with a configuration.
func (l *lab) peer(name, config, imap, web string, args ...string) (*target, error) {
	t := &target{name: name}
	var err error
	for _, a := range []*string{&t.plain, &t.tls} {
		if *a, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	text := strings.NewReplacer("$DIR", l.dir, "$PLAIN", t.plain, "$TLS", t.tls, "$IMAP", imap, "$WEB", web).Replace(config)
	file := filepath.Join(l.dir, name+".conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	p, err := l.start(name, name, append(args, file)...)
	if err != nil {
		return nil, fmt.Errorf("%w (apt-get install --no-install-recommends nginx libnginx-mod-mail haproxy)", err)
	}
	t.pid = p.Process.Pid
	return t, await(name+" doesn't answer (its log is in "+l.dir+"; -keep keeps it)", patience, func() error {
		c, err := dialClient(t.plain, false, nil)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// targets starts all that are compared, each before the same backend: imapproxy first, and with -against that one alone beside it.
func (l *lab) targets() ([]*target, error) {
	imap, web, err := l.backend(0)
	if err != nil {
		return nil, err
	}
	p, err := l.proxy([]string{imap}, staysAttached)
	if err != nil {
		return nil, err
	}
	if l.o.Against != "" {
		beside, err := l.other(l.o.Against)
		if err != nil {
			return nil, err
		}
		q, err := beside.proxy([]string{imap}, staysAttached)
		if err != nil {
			return nil, err
		}
		return []*target{{"imapproxy", p.plain, p.tls, p.Process.Pid}, {"the other", q.plain, q.tls, q.Process.Pid}}, nil
	}
	ours := &target{"imapproxy", p.plain, p.tls, p.Process.Pid}
	nginx, err := l.peer("nginx", nginxConfig, imap, web, "-c")
	if err != nil {
		return nil, err
	}
	if l.o.Bare {
		all := []*target{ours}
		for _, kind := range []string{bareGoroutines, bareLoop} {
			bare, err := l.self(kind, roleBare, kind, imap)
			if err != nil {
				return nil, err
			}
			t := &target{name: kind, pid: bare.Process.Pid}
			if _, err := fmt.Fscanln(bare.out, &t.plain); err != nil {
				return nil, fmt.Errorf("the bare relay: %w", err)
			}
			all = append(all, t)
		}
		return append(all, nginx), nil
	}
	haproxy, err := l.peer("haproxy", haproxyConfig, imap, web, "-db", "-f")
	return []*target{ours, nginx, haproxy}, err
}

// cell is what is measured of a target: so many clients, each with one command at a time.
type cell struct {
	clients int
	secure  bool
	command string
}

func (c cell) String() string {
	how := "plain"
	if c.secure {
		how = "TLS"
	}
	return fmt.Sprintf("%s, %s, %d", strings.TrimPrefix(c.command, "UID "), how, c.clients)
}

// figures are those of one cell of one target in one round.
type figures struct {
	cpu  float64 // µs for each command
	rate float64 // commands a second
	p50  float64 // µs
	p99  float64
}

// peers compares the proxy with nginx and HAProxy, or with another build, and prints the comparison.
func peers(o options, out io.Writer) error {
	targets, cells, got, err := compare(o)
	if err != nil {
		return err
	}
	return report(out, targets, cells, got)
}

// compare measures the proxy, which is the first target, and those that it is compared with.
func compare(o options) (targets []*target, cells []cell, got map[cell]map[*target][]figures, err error) {
	l, err := newLab(o)
	if err != nil {
		return nil, nil, nil, err
	}
	defer l.close()
	if targets, err = l.targets(); err != nil {
		return nil, nil, nil, err
	}
	secures := []bool{false, true}
	if o.Bare {
		secures = secures[:1]
	}
	open := map[*target]map[bool][]*client{}
	most := 0
	for _, n := range strings.Split(o.Clients, ",") {
		clients, err := strconv.Atoi(n)
		if err != nil || clients < 1 {
			return nil, nil, nil, fmt.Errorf("-clients %q", o.Clients)
		}
		most = max(most, clients)
		for _, secure := range secures {
			for _, command := range []string{"NOOP", "UID FETCH 7 (FLAGS)"} {
				cells = append(cells, cell{clients, secure, command})
			}
		}
	}
	for _, t := range targets {
		open[t] = map[bool][]*client{}
		for _, secure := range secures {
			if open[t][secure], err = t.logins(most, secure); err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	if err := l.idle(targets); err != nil {
		return nil, nil, nil, err
	}
	got = map[cell]map[*target][]figures{}
	for round := range o.Rounds {
		for _, c := range cells {
			if got[c] == nil {
				got[c] = map[*target][]figures{}
			}
			for i := range targets {
				t := targets[(round+i)%len(targets)]
				f, err := t.measure(c, open[t][c.secure], o.Each)
				if err != nil {
					return nil, nil, nil, fmt.Errorf("%s: %w", t.name, err)
				}
				got[c][t] = append(got[c][t], f)
			}
		}
	}
	return targets, cells, got, nil
}

// idle gives each program -idle clients that send nothing.
func (l *lab) idle(targets []*target) error {
	if l.o.Idle == 0 {
		return nil
	}
	for _, t := range targets {
		crowd, err := l.self("idle-"+t.name, roleCrowd)
		if err != nil {
			return err
		}
		if _, err := crowd.order(order{Open: true, Addr: t.plain, N: l.o.Idle, PerUser: l.o.PerUser, Pace: l.o.Pace}); err != nil {
			return fmt.Errorf("%s: idle clients: %w", t.name, err)
		}
	}
	time.Sleep(l.o.Settle)
	return nil
}

func (t *target) logins(n int, secure bool) ([]*client, error) {
	addr := t.plain
	if secure {
		addr = t.tls
	}
	clients := make([]*client, n)
	cfg := &tls.Config{InsecureSkipVerify: true}
	return clients, each(n, 16, func(i int) (err error) {
		if clients[i], err = dialClient(addr, secure, cfg); err != nil {
			return err
		}
		err = clients[i].login("u"+strconv.Itoa(i), "INBOX")
		_ = clients[i].SetDeadline(time.Time{})
		return err
	})
}

func (t *target) measure(c cell, clients []*client, d time.Duration) (figures, error) {
	before, err := cpu(t.pid)
	if err != nil {
		return figures{}, err
	}
	began := time.Now()
	end := began.Add(d)
	var mu sync.Mutex
	var all []time.Duration
	line := "x " + c.command + "\r\n"
	err = each(c.clients, c.clients, func(i int) error {
		var took []time.Duration
		for now := time.Now(); now.Before(end); {
			if err := clients[i].send("x", line); err != nil {
				return err
			}
			then := now
			now = time.Now()
			took = append(took, now.Sub(then))
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, took...)
		return nil
	})
	lasted := time.Since(began)
	after, cpuErr := cpu(t.pid)
	if err == nil {
		err = cpuErr
	}
	if err != nil {
		return figures{}, err
	}
	slices.Sort(all)
	n := float64(len(all))
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return figures{micros(after-before) / n, n / lasted.Seconds(), micros(all[len(all)/2]), micros(all[len(all)*99/100])}, nil
}

// report prints the medians, and the medians of the rounds' ratios with their 95 % intervals by bootstrap.
func report(out io.Writer, targets []*target, cells []cell, got map[cell]map[*target][]figures) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range []struct {
		name string
		of   func(figures) float64
	}{
		{"CPU, µs a command", func(f figures) float64 { return f.cpu }},
		{"commands a second", func(f figures) float64 { return f.rate }},
		{"p50, µs", func(f figures) float64 { return f.p50 }},
		{"p99, µs", func(f figures) float64 { return f.p99 }},
	} {
		fmt.Fprintf(w, "%s\t", f.name)
		for _, t := range targets {
			fmt.Fprintf(w, "%s\t", t.name)
		}
		for _, t := range targets[1:] {
			fmt.Fprintf(w, "/ %s\t", t.name)
		}
		fmt.Fprintln(w)
		for _, c := range cells {
			fmt.Fprintf(w, "%v\t", c)
			for _, t := range targets {
				var all []float64
				for _, one := range got[c][t] {
					all = append(all, f.of(one))
				}
				fmt.Fprintf(w, "%.1f\t", median(all))
			}
			for _, t := range targets[1:] {
				ratios := against(got[c], targets[0], t, f.of)
				low, high := interval(ratios)
				fmt.Fprintf(w, "%.2f [%.2f..%.2f]\t", median(ratios), low, high)
			}
			fmt.Fprintln(w)
		}
	}
	return w.Flush()
}

// against returns a figure of ours as ratios to that of another target, of each round.
func against(got map[*target][]figures, ours, other *target, of func(figures) float64) (ratios []float64) {
	for i, one := range got[ours] {
		ratios = append(ratios, of(one)/of(got[other][i]))
	}
	return ratios
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// interval is the 95 % interval of the median, by bootstrap.
func interval(x []float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(1, 2)) // the same each time
	medians := make([]float64, 2000)
	sample := make([]float64, len(x))
	for i := range medians {
		for j := range sample {
			sample[j] = x[rng.IntN(len(x))]
		}
		medians[i] = median(sample)
	}
	slices.Sort(medians)
	return medians[len(medians)*25/1000], medians[len(medians)*975/1000]
}
