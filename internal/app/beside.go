package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// newBeside returns nil if the settings have no socket and there is no folder for one.
func newBeside(c *config.Config) *beside {
	path := wiring.HandoverSocket(c, os.Getenv)
	if path == "" {
		return nil
	}
	return &beside{
		path: path, steps: make(chan func()), ended: make(chan struct{}), still: make(chan struct{}), over_: make(chan struct{}, 1), taken: make(chan struct{}, 1), starting: make(chan struct{}, 1),
		conns: make(map[*handover.Conn]bool), silence: signsWithin, asks: askWithin, alone: aloneFor,
		first: os.Getpid() == 1, find: handover.Find, kill: (*handover.Process).Kill,
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
	text := "a listening socket was passed to this process, and no setting has its address: it is closed"
	if a.beside.succeeds() {
		text = "the process before this one has a listening socket at an address that no setting has: its connections are closed"
	}
	for _, one := range a.sockets.Left() {
		a.tel.Log.Warn(text, "socket", one)
	}
	if !a.beside.succeeds() {
		a.sockets.Close()
	}
}

// turnAway closes the connections to addresses that an older process has listened at, and this one doesn't. The older one keeps
// those sockets until its end, so the kernel takes connections there, and clients would wait for a greeting that never comes.
func (a *App) turnAway(o *older) {
	b := a.beside
	for _, l := range a.sockets.Rest() {
		b.talking.Go(func() {
			select {
			case <-o.ended:
			case <-b.ended:
			}
			_ = l.Close()
		})
		b.talking.Go(func() { // ends with l
			for {
				c, err := l.Accept()
				switch {
				case errors.Is(err, net.ErrClosed):
					return
				case err != nil: // a shortage
					select {
					case <-time.After(turnAwayPause):
					case <-o.ended:
						return
					case <-b.ended:
						return
					}
				default:
					_ = c.Close()
				}
			}
		})
	}
}

// turnAwayPause follows an accept that has failed.
const turnAwayPause = time.Second

// awaitSuccessor listens at the socket, unless this process takes over from another one, which listens there.
func (a *App) awaitSuccessor() (err error) {
	b := a.beside
	if b == nil || b.succeeds() {
		return nil
	}
	b.listener, err = b.listen()
	if err != nil && a.cfg.Shutdown.Socket != "" {
		return wiring.About("shutdown.handover_socket", err)
	}
	if err != nil {
		a.tel.Log.Warn("this process can't hand over to a successor yet: an upgrade would end the sessions", "socket", b.path, "error", err)
	}
	return nil
}

// listen listens at the socket, in a folder that it makes where there is none.
func (b *beside) listen() (*handover.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return nil, err
	}
	return handover.Listen(b.path)
}

// close ends the communication with other processes. Run has ended, or hasn't run.
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
	b.mu.Unlock()
	older := b.before()
	for _, o := range older { // talk doesn't have one that this process hasn't succeeded
		_ = o.signs.Stop()
		l := o.link.Load()
		_ = l.k.Close()
		l.end()
	}
	b.talking.Wait()
	for _, o := range older {
		o.forget()
	}
	b.letGoOfSockets()
}

// letGoOfSockets closes the listening sockets that this process has kept for the case that its successor ends early. As long as a process has them
// open the kernel takes connections, which no process would accept once all of them stop. Run's goroutine calls it, or close.
func (b *beside) letGoOfSockets() {
	if b != nil {
		b.kept.Close()
		b.kept = nil
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
func (c besideClaims) Claim(ctx context.Context, user, backend string, _ upstream.Use) (upstream.Claim, error) {
	elsewhere, err := c.table.Claim(ctx, user, backend)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", routing.ErrNotAgreed, err)
	case elsewhere != "":
		return nil, &upstream.Elsewhere{User: user, Backend: elsewhere}
	}
	return &besideClaim{of: c.beside, user: user, backend: backend}, nil
}

// Release implements upstream.Claim.
func (c *besideClaim) Release() {
	if c.released.Swap(true) {
		return
	}
	c.of.ends.seen(c.user, c)
	c.of.table.Release(c.user, c.backend)
}

// Ends implements upstream.Claim.
func (c *besideClaim) Ends(cut func()) { c.of.ends.await(c.user, c, cut) }
