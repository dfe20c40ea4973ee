package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"imapproxy/internal/app"
	"imapproxy/internal/dev"
	"imapproxy/proxy"
)

// devPatience is how long the clients of dev wait for an expected event, and devLook how often they check for
// it.
const (
	devPatience = 15 * time.Second
	devLook     = 50 * time.Millisecond
)

// devClients are three clients of one user that demonstrate parking: they are in IDLE, lose their backend
// connections, and are told of a new message nevertheless.
type devClients struct {
	w     io.Writer
	a     *app.App
	fleet *dev.Fleet
	user  string
	names []string

	clients []*dev.Client
	own     map[netip.AddrPort]bool // the clients' addresses: others may be logged in as well
	begun   time.Time
}

// run starts and shows the clients, and keeps them until ctx ends. It prints errors, since its output is what
// a new user of the proxy sees.
func (d *devClients) run(ctx context.Context) error {
	defer func() {
		for _, c := range d.clients {
			_ = c.Close() // ends commands in progress
		}
	}()
	if err := d.show(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(d.w, "The clients of its own can't show parking:", err)
	}
	<-ctx.Done()
	return nil
}

// show runs the demonstration and prints a line for each step.
func (d *devClients) show(ctx context.Context) error {
	d.begun, d.own = time.Now(), map[netip.AddrPort]bool{}
	for range d.names {
		c, err := dev.Idle(ctx, d.a.Addrs()["imap"], d.user)
		if err != nil {
			return err
		}
		d.clients = append(d.clients, c)
		d.own[c.Addr()] = true
	}
	fmt.Fprintf(d.w, "\nThree clients of its own, %s's %s, are in IDLE now:\n\n", d.user, list(d.names))
	d.line("%d attached sessions; the backends see %s", len(d.clients), count(d.fleet.Connections(d.user), "connection"))

	if err := d.await(ctx, "they aren't parked", func() bool { return d.parked() == len(d.clients) }); err != nil {
		return err
	}
	d.line("%d parked sessions; the backends see %s: one watches the mailbox, the others wait to be used again",
		len(d.clients), count(d.fleet.Connections(d.user), "connection"))
	before := d.fleet.Connections(d.user)
	if err := d.await(ctx, "no connection is given up", func() bool { return d.fleet.Connections(d.user) < min(before, 2) }); err != nil {
		return err
	}
	d.line("%d parked sessions; the backends see %s, for %d clients", len(d.clients), count(d.fleet.Connections(d.user), "connection"), len(d.clients))

	for _, c := range d.clients {
		drain(c.Told)
	}
	delivered := time.Now()
	if err := d.fleet.Deliver(d.user); err != nil {
		return err
	}
	for n, c := range d.clients {
		select {
		case <-c.Told:
		case <-time.After(devPatience):
			return fmt.Errorf("the %s isn't told of a message that has arrived", d.names[n])
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.line("a message has arrived: the %s were told of it after %v, and are parked still", list(d.names), time.Since(delivered).Round(time.Millisecond/10))
	fmt.Fprintf(d.w, "\nThe admin page and imapproxy sessions show them: Attachment is parked.\n")
	return nil
}

// line prints one line of the demonstration.
func (d *devClients) line(format string, args ...any) {
	fmt.Fprintf(d.w, "%6.1f s  %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, args...))
}

// await waits until ok returns true.
func (d *devClients) await(ctx context.Context, otherwise string, ok func() bool) error {
	limit := time.After(devPatience)
	look := time.NewTicker(devLook)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-limit:
			return fmt.Errorf("%s after %v", otherwise, devPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// parked counts the clients' own sessions that are parked.
func (d *devClients) parked() int {
	n := 0
	sessions, _ := d.a.Server().Sessions(proxy.Filter{User: d.user, Limit: proxy.MaxPage})
	for _, s := range sessions {
		if d.own[s.Client] && s.Attachment == proxy.Parked.String() {
			n++
		}
	}
	return n
}

// drain removes earlier elements.
func drain(told <-chan uint32) {
	for {
		select {
		case <-told:
		default:
			return
		}
	}
}

// list is "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
