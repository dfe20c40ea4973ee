// Package dev runs a fleet of mail servers in the process, so that people
// can watch the proxy work without installing a server: `imapproxy dev` starts
// it, and tests may. It is go-imap's memory server on several loopback
// addresses over one store (shared storage: whichever backend a user is sent
// to, the mail is the same). The users are alice, bob and carol, each with
// their name for a password; nothing outlives the process.
//
// Imports none of our packages. Imported by cmd/imapproxy.
package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// DefaultBackends is the default number of backends.
const DefaultBackends = 3

// Options are the settings of a fleet. The zero value is three backends on 127.0.0.1.
type Options struct {
	Backends int              // 0 = DefaultBackends
	Host     string           // to listen on, each on a port of the kernel's choice; "" = 127.0.0.1
	Log      *slog.Logger     // receives the servers' errors; nil = nothing is logged
	Now      func() time.Time // the mail's age is counted from here; nil = time.Now
}

// A Fleet is the running backends.
type Fleet struct {
	backends []*backend
	store    *store
	now      func() time.Time
	stop     func() bool // of the context's end closing the fleet
}

// Start runs a fleet until Close, or the end of ctx.
func Start(ctx context.Context, o Options) (*Fleet, error) {
	if o.Backends <= 0 {
		o.Backends = DefaultBackends
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	store, err := newStore(o.Now())
	if err != nil {
		return nil, err
	}
	f := &Fleet{store: store, now: o.Now}
	for i := range o.Backends {
		b, err := startBackend(ctx, o, store, i+1)
		if err != nil {
			return nil, errors.Join(err, f.closeAll())
		}
		f.backends = append(f.backends, b)
	}
	f.stop = context.AfterFunc(ctx, func() { _ = f.closeAll() }) // the caller's Close reports it
	return f, nil
}

// Addresses are the backends' host:port, in their order: d1, d2, ….
func (f *Fleet) Addresses() []string {
	var all []string
	for _, b := range f.backends {
		all = append(all, b.ln.Addr().String())
	}
	return all
}

// Connections returns on how many connections to all backends a user is logged in.
func (f *Fleet) Connections(user string) int { return f.store.connections(user) }

// Deliver adds a new message to a user's INBOX.
func (f *Fleet) Deliver(user string) error { return f.store.deliver(user, f.now()) }

// StopBackend ends the n-th backend (from 0) and its connections, as a crash
// would; the mail stays with the others.
func (f *Fleet) StopBackend(n int) error { return f.backends[n].close() }

// Close ends every backend and waits for their connections to be gone.
func (f *Fleet) Close() error {
	f.stop()
	return f.closeAll()
}

func (f *Fleet) closeAll() error {
	var errs []error
	for _, b := range f.backends {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// backend is one server on one address.
type backend struct {
	ln     *listener
	server *imapserver.Server
	done   chan struct{} // closed when Serve has returned
	once   sync.Once
	err    error // of Serve, valid once done is closed
}

func startBackend(ctx context.Context, o Options, store *store, n int) (*backend, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(o.Host, "0"))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("d%d", n)
	b := &backend{ln: newListener(ln), done: make(chan struct{})}
	b.server = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return store.newSession(), nil, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}, imap.CapNamespace: {}, imap.CapUIDPlus: {}, imap.CapESearch: {},
			imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapMove: {}, imap.CapStatusSize: {}, imap.CapChildren: {},
		},
		Logger:       logger{o.Log.With("backend", name)},
		InsecureAuth: true, // loopback; the proxy in front has the TLS
	})
	go func() { // owned by b; ends when close closes the listener, which waits
		defer close(b.done)
		b.err = b.server.Serve(b.ln)
	}()
	return b, nil
}

// close is safe to call more than once and from several goroutines.
func (b *backend) close() error {
	b.once.Do(func() {
		b.ln.shut()
		<-b.done
		b.ln.wait()
		// nothing is left to close; this makes a later Serve fail
		_ = b.server.Close()
	})
	return b.err
}

// logger passes imapserver's log to the fleet's.
type logger struct{ log *slog.Logger }

// Printf implements imapserver.Logger.
func (l logger) Printf(format string, args ...any) {
	l.log.Debug("a backend in the process says", "said", fmt.Sprintf(format, args...))
}
