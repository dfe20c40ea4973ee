package main

import (
	"fmt"
	"io"
	"time"
)

// crowded is a proxy with idle clients.
type crowded struct {
	*lab
	proxy  *proxy
	crowd  *proc
	before usage // before the first client
	live   int64 // bytes of objects and stacks then, if that is asked for
}

// parksAtOnce is the configuration in which nothing but the watches keeps a backend connection.
const parksAtOnce = `
park {
  linger    = "0s"
  warm_for  = "0s"
  watch     = %q
  events {
    token_file = "$DIR/token"
  }
}
`

// crowd starts all that is needed and has the clients log in.
func crowd(o options, settings string) (*crowded, error) {
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	c := &crowded{lab: l}
	var backends []string
	for i := range o.Backends {
		imap, _, err := l.backend(i)
		if err != nil {
			return c, err
		}
		backends = append(backends, imap)
	}
	if c.proxy, err = l.proxy(backends, settings); err != nil {
		return c, err
	}
	if c.crowd, err = l.self("clients", roleCrowd); err != nil {
		return c, err
	}
	if c.before, err = used(c.proxy.Process.Pid); err != nil {
		return c, err
	}
	if o.live { // not else: a profile has the proxy read tables that it didn't need before
		if c.live, err = c.proxy.live(); err != nil {
			return c, err
		}
	}
	addr := c.proxy.tls
	if !o.TLS {
		addr = c.proxy.plain
	}
	_, err = c.crowd.order(order{Open: true, Addr: addr, TLS: o.TLS, N: o.N, PerUser: o.PerUser, Pace: o.Pace})
	return c, err
}

// settings are those of -attached and -watch.
func (o options) settings() string {
	if o.Attached {
		return "\npark {\n  enabled = false\n}\n"
	}
	return fmt.Sprintf(parksAtOnce, o.Watch)
}

// memory prints what idle clients take of the proxy's memory.
func memory(o options, out io.Writer) error {
	c, err := crowd(o, o.settings())
	if c != nil {
		defer c.close()
	}
	if err != nil {
		return err
	}
	want, err := c.settled()
	if err != nil {
		return err
	}
	after, err := used(c.proxy.Process.Pid)
	if err != nil {
		return err
	}
	if err := c.proxy.profile(o, "heap", "heap.pb.gz"); err != nil {
		return err
	}
	kb := o.kb
	fmt.Fprintf(out, "%d %s sessions, TLS %v, watch %s, PSS in MB: %.1f before, %.1f after; in KB a session: %.2f in all, %.2f added, %.2f without the program's own pages\n",
		o.N, want, o.TLS, o.Watch, float64(c.before.pss)/1e6, float64(after.pss)/1e6, kb(after.pss), kb(after.pss-c.before.pss), kb(after.anon))
	heap, err := c.proxy.heap()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the runtime's figures in KB a session:")
	for _, f := range heap {
		fmt.Fprintf(out, " %s %.2f", f.name, kb(f.bytes))
	}
	fmt.Fprintln(out)
	back, err := c.crowd.order(order{Back: true, Ramp: o.Ramp})
	if err != nil {
		return fmt.Errorf("not all clients got their answers: %w", err)
	}
	fmt.Fprintf(out, "all %d clients got their answers afterwards, p50 %v, p99 %v\n", back.Clients, back.P50.Round(10*time.Microsecond), back.P99.Round(10*time.Microsecond))
	return nil
}

// kb returns a session's part of the bytes, in KB.
func (o options) kb(bytes int64) float64 { return float64(bytes) / 1000 / float64(o.N) }

// settled waits until all sessions are parked, or attached with -attached, and for -settle more. It returns which.
func (c *crowded) settled() (attachment string, err error) {
	attachment = "parked"
	if c.o.Attached {
		attachment = "attached"
	}
	err = await("sessions that are "+attachment, 3*time.Minute, func() error {
		n, err := c.proxy.sessions(attachment)
		if err == nil && n < c.o.N {
			err = fmt.Errorf("%d of %d", n, c.o.N)
		}
		return err
	})
	if err == nil {
		time.Sleep(c.o.Settle)
	}
	return attachment, err
}
