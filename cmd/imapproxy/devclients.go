package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
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

// device is a client and its user.
type device struct{ user, name string }

// devicesOf returns n devices: three of one user, or others of all users in turn.
func devicesOf(n int) (all []device) {
	users, names := dev.Users(), []string{"phone", "laptop", "tablet"}
	for i := range n {
		d := device{users[0], names[i%len(names)]}
		if n > len(names) {
			d = device{users[i%len(users)], fmt.Sprintf("%s %d", names[i/len(users)%len(names)], i/len(users)/len(names)+1)}
		}
		all = append(all, d)
	}
	return all
}

// devClients are clients that demonstrate parking: they are in IDLE, lose their backend connections, and are told of a new message
// nevertheless.
type devClients struct {
	w       io.Writer
	a       *app.App
	fleet   *dev.Fleet
	devices []device

	clients []*dev.Client
	users   []string                // of the devices, each once
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
	for _, device := range d.devices {
		c, err := dev.Idle(ctx, d.a.Addrs()["imap"], device.user)
		if err != nil {
			return err
		}
		d.clients = append(d.clients, c)
		d.own[c.Addr()] = true
		if !slices.Contains(d.users, device.user) {
			d.users = append(d.users, device.user)
		}
	}
	n, first := len(d.clients), d.users[0]
	fmt.Fprintf(d.w, "\n%s of its own, %s, %s in IDLE now:\n\n", capital(count(n, "client")), d.whose(), verbFor(n))
	d.line("%s; the backends see %s", count(n, "attached session"), count(d.connections(), "connection"))

	if err := d.await(ctx, "they aren't parked", func() bool { return d.parked() == n }); err != nil {
		return err
	}
	d.line("%s; the backends see %s: %s, the others wait to be used again", count(n, "parked session"), count(d.connections(), "connection"), watching(len(d.users)))
	if err := d.await(ctx, "no connection is given up", func() bool { return d.connections() <= len(d.users) }); err != nil {
		return err
	}
	d.line("%s; the backends see %s, for %s", count(n, "parked session"), count(d.connections(), "connection"), count(n, "client"))

	for _, c := range d.clients {
		drain(c.Told)
	}
	delivered := time.Now()
	if err := d.fleet.Deliver(first); err != nil {
		return err
	}
	var told []string
	for i, c := range d.clients {
		if d.devices[i].user != first {
			continue
		}
		select {
		case <-c.Told:
			told = append(told, d.devices[i].name)
		case <-time.After(devPatience):
			return fmt.Errorf("%s's %s isn't told of a message that has arrived", first, d.devices[i].name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.line("a message has arrived: the %s were told of it after %v, and are parked still", toldWords(told, first, n), time.Since(delivered).Round(time.Millisecond/10))
	d.bill(n)
	fmt.Fprintf(d.w, "\nThe admin page and imapproxy sessions show them: Attachment is parked.\n")
	return nil
}

// bill says what parking saves now.
func (d *devClients) bill(n int) {
	connections := d.connections()
	saved := n - connections
	if saved <= 0 {
		d.line("the bill: %s of one client saves nothing, since its mailbox needs a watch; two clients of a user share one", count(n, "session"))
		return
	}
	d.line("the bill: %s with %s to backends (%.1f : 1), so %s saved, and as many backend processes; imapproxy bill adds it up",
		count(n, "session"), count(connections, "connection"), float64(n)/float64(connections), are(count(saved, "connection"), saved))
}

// connections counts the clients' users' connections at the backends.
func (d *devClients) connections() (n int) {
	for _, user := range d.users {
		n += d.fleet.Connections(user)
	}
	return n
}

// whose names the devices.
func (d *devClients) whose() string {
	if len(d.users) > 1 {
		return "of " + list(d.users)
	}
	var names []string
	for _, device := range d.devices {
		names = append(names, device.name)
	}
	return d.users[0] + "'s " + list(names)
}

// toldWords names the clients that were told of a message, a few by their names.
func toldWords(names []string, user string, clients int) string {
	if clients == len(names) && len(names) <= 3 {
		return list(names)
	}
	return fmt.Sprintf("%d clients of %s", len(names), user)
}

func watching(users int) string {
	if users == 1 {
		return "one watches the mailbox"
	}
	return fmt.Sprintf("%d watch mailboxes, one for each user", users)
}

func are(what string, n int) string {
	if n == 1 {
		return what + " is"
	}
	return what + " are"
}

func verbFor(n int) string { return strings.TrimSpace(are("", n)) }

func capital(s string) string {
	if words, ok := strings.CutPrefix(s, "3 "); ok {
		return "Three " + words
	}
	return s
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
	for _, user := range d.users {
		sessions, _ := d.a.Server().Sessions(proxy.Filter{User: user, Limit: proxy.MaxPage})
		for _, s := range sessions {
			if d.own[s.Client] && s.Attachment == proxy.Parked.String() {
				n++
			}
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
