package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/pair"
)

// Names of the sockets that aren't listeners of mail clients. A listener's name can't have a blank.
const (
	adminSocket  = "admin api"
	eventsSocket = "push events"
)

// beside is what a process has to do with the other processes of this proxy: its predecessor while it takes over, its
// successor once it is succeeded, and those before it that still serve sessions. nil: the settings have no socket for it.
//
// What each process does is in beside_new.go and beside_old.go. Steps that change an App's parts are made in Run's goroutine.
type beside struct {
	path  string
	table *pair.Table // nil: the agreement of all proxies decides where users are
	steps chan func() // for Run's goroutine
	ended chan struct{}
	over_ chan struct{} // receives when this process has left and has nothing more to do

	listener *handover.Listener // the goroutine of Open and Run replaces it
	waiting  *task.Task         // for other processes
	leaving  *task.Task         // server.Leave; nil: it doesn't leave
	kept     *handover.Sockets  // while it leaves: for the case that the successor ends early
	taken    chan struct{}      // of size 1: full while a successor has asked, and not gone away
	passed   atomic.Bool        // the successor accepts the clients
	orphaned atomic.Bool        // the successor has one of its own
	talking  sync.WaitGroup     // connections

	// Guards what follows; nothing waits under it.
	mu    sync.Mutex
	older []*older
	conns map[*handover.Conn]bool
	cuts  map[string]map[*besideClaim]func() // by user: what ends the wait for a connection's end
}

// newBeside returns nil if the settings have no socket and there is no folder for one.
func newBeside(c *config.Config) *beside {
	path := wiring.HandoverSocket(c, os.Getenv)
	if path == "" {
		return nil
	}
	return &beside{
		path: path, steps: make(chan func()), ended: make(chan struct{}), over_: make(chan struct{}, 1), taken: make(chan struct{}, 1),
		conns: make(map[*handover.Conn]bool), cuts: make(map[string]map[*besideClaim]func()),
	}
}

// next delivers steps for Run's goroutine.
func (b *beside) next() <-chan func() {
	if b == nil {
		return nil
	}
	return b.steps
}

// over delivers once when this process has left and serves no session any more.
func (b *beside) over() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.over_
}

// step has Run's goroutine make a step, and waits for it. false: Run has ended.
func (b *beside) step(f func()) bool {
	done := make(chan struct{})
	select {
	case b.steps <- func() { f(); close(done) }:
		<-done
		return true
	case <-b.ended:
		return false
	}
}

// listen returns the listening socket for a listener of mail clients: one that was bound elsewhere, or a new one.
func (a *App) listen(ctx context.Context, name, address string) (*net.TCPListener, error) {
	if l, err := a.sockets.Take(name, address); l != nil || err != nil {
		return l, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// leftOver closes the sockets that no setting names.
func (a *App) leftOver() {
	for _, one := range a.sockets.Left() {
		a.tel.Log.Warn("a listening socket was passed to this process, and no setting has its address: it is closed", "socket", one)
	}
	a.sockets.Close()
}

// awaitSuccessor listens at the socket, unless another process does until it is succeeded.
func (a *App) awaitSuccessor() (err error) {
	b := a.beside
	if b == nil || b.succeeds() {
		return nil
	}
	if err = os.MkdirAll(filepath.Dir(b.path), 0o700); err == nil {
		b.listener, err = handover.Listen(b.path)
	}
	if err != nil && a.cfg.Shutdown.Socket != "" {
		return wiring.About("shutdown.handover_socket", err)
	}
	if err != nil {
		a.tel.Log.Warn("this process can't hand over to a successor: an upgrade ends the sessions", "socket", b.path, "error", err)
	}
	return nil
}

// beginBeside waits for other processes.
func (a *App) beginBeside() {
	b := a.beside
	if b == nil || b.listener == nil {
		return
	}
	l := b.listener
	b.waiting = task.Start(func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		for {
			k, refused, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case err != nil:
				a.tel.Log.Error("this process doesn't wait for a successor any more", "socket", b.path, "error", err)
				return nil
			case refused != nil:
				a.tel.Log.Warn("a process that may not take over was refused", "socket", b.path, "error", refused)
				continue
			}
			b.talk(k, func() { a.talkedTo(k) })
		}
	})
}

// talk runs f with a connection, which it closes at the end.
func (b *beside) talk(k *handover.Conn, f func()) {
	b.mu.Lock()
	b.conns[k] = true
	b.mu.Unlock()
	b.talking.Go(func() { // ends with the connection, which close closes
		defer func() {
			_ = k.Close()
			k.Drop()
			b.mu.Lock()
			delete(b.conns, k)
			b.mu.Unlock()
		}()
		f()
	})
}

// close ends all that concerns other processes. Run has ended, or hasn't run.
func (b *beside) close() {
	if b == nil {
		return
	}
	close(b.ended)
	_ = b.waiting.Stop()
	if b.listener != nil {
		_ = b.listener.Close()
	}
	b.mu.Lock()
	for k := range b.conns {
		_ = k.Close()
	}
	older := b.older
	b.mu.Unlock()
	for _, o := range older { // talk doesn't have one that this process hasn't succeeded
		_ = o.conn.Close()
		o.down.end()
	}
	b.talking.Wait()
	if b.kept != nil {
		b.kept.Close()
	}
}

// Where implements routing.Beside.
func (b *beside) Where(user string) string { return b.table.Where(user) }

// freeWithin bounds the wait for other processes to let go of a user.
const freeWithin = 10 * time.Second

// Free implements routing.Beside. Connections to backends that are down are closed at once.
func (b *beside) Free(ctx context.Context, user, backend string, down func(string) bool) error {
	at := b.table.Where(user)
	if at == "" || at == backend {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freeWithin)
	defer cancel()
	return b.table.Free(ctx, user, backend, down(at))
}

// besideClaims implements upstream.Claims for a proxy that decides alone.
type besideClaims struct{ *beside }

// Claim implements upstream.Claims.
func (c besideClaims) Claim(ctx context.Context, user, backend string) (upstream.Claim, error) {
	elsewhere, err := c.table.Claim(ctx, user, backend)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", routing.ErrNotAgreed, err)
	case elsewhere != "":
		return nil, &upstream.Elsewhere{User: user, Backend: elsewhere}
	}
	return &besideClaim{of: c.beside, user: user, backend: backend}, nil
}

// besideClaim is the right of a connection to exist.
type besideClaim struct {
	of            *beside
	user, backend string
	released      atomic.Bool
}

// Release implements upstream.Claim.
func (c *besideClaim) Release() {
	if c.released.Swap(true) {
		return
	}
	b := c.of
	b.mu.Lock()
	if all := b.cuts[c.user]; all != nil {
		if delete(all, c); len(all) == 0 {
			delete(b.cuts, c.user)
		}
	}
	b.mu.Unlock()
	b.table.Release(c.user, c.backend)
}

// Ends implements upstream.Claim. There is one entry for each connection that was closed and whose end hasn't been seen.
func (c *besideClaim) Ends(cut func()) {
	b := c.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cuts[c.user] == nil {
		b.cuts[c.user] = make(map[*besideClaim]func())
	}
	b.cuts[c.user][c] = cut
}

// giveUp ends this process's connections of a user, since the successor needs the user at another backend. It doesn't
// wait. abort: the backend is lost, and the ends of connections aren't waited for.
func (a *App) giveUp(user string, abort bool) {
	a.server.LetGo(user, abort)
	a.parking.hub.LetGo(user)
	a.parking.pool.LetGo(user)
	if !abort {
		return
	}
	b := a.beside
	var cuts []func()
	b.mu.Lock()
	for _, cut := range b.cuts[user] {
		cuts = append(cuts, cut)
	}
	b.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
}

// pids returns the processes before this one that haven't ended.
func (b *beside) pids() (all []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.older {
		all = append(all, o.pids...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
