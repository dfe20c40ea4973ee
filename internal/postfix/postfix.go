// Package postfix answers the lookups of Postfix, by two of its protocols on one address: tcp_table(5) and
// socketmap_table(5). A connection's first byte says which it speaks.
//
// Imports internal/imaptest, internal/task and proxy/conn. Imported by
// internal/app.
package postfix

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/proxy/conn"
)

// ErrNotFound is the error of a Lookup that knows no value for the key.
var ErrNotFound = errors.New("not found")

// Options are the settings of a Server. Listener and Lookup are required.
type Options struct {
	Listener *net.TCPListener
	// Lookup returns the value of a key; an error other than ErrNotFound is temporary, and its text is shown to Postfix. It may
	// be called by several goroutines.
	Lookup func(ctx context.Context, key string) (value string, err error)
	Log    *slog.Logger // nil: nothing is logged
}

// Bounds of the resources that callers can use.
const (
	maxConns     = 256
	lookupWithin = 5 * time.Second
	idleWithin   = 5 * time.Minute // Postfix ends a connection that it doesn't need earlier
	writeWithin  = 10 * time.Second
)

// Server answers lookups.
type Server struct {
	opts Options
}

// New returns a Server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{opts: o}
}

// Socket returns the listening socket.
func (s *Server) Socket() *net.TCPListener { return s.opts.Listener }

// Serve answers until ctx ends; then it closes the socket and all connections, and waits for them.
func (s *Server) Serve(ctx context.Context) error {
	var serving errgroup.Group
	serving.SetLimit(maxConns) // a further connection waits in the socket's queue
	defer context.AfterFunc(ctx, func() { _ = s.opts.Listener.Close() })()
	for {
		c, err := s.opts.Listener.Accept()
		if err != nil {
			_ = serving.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		serving.Go(func() error { s.serve(ctx, c); return nil })
	}
}

// serve answers the lookups of one connection.
func (s *Server) serve(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReaderSize(c, maxRequest+16)
	for {
		answer, err := s.next(ctx, c, r)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.opts.Log.Debug("a connection for lookups has ended", "client", c.RemoteAddr(), "error", err)
			}
			return
		}
		writing, cancel := context.WithTimeout(ctx, writeWithin)
		stop := conn.Until(writing, c)
		_, err = c.Write(answer)
		stop()
		cancel()
		if err != nil {
			return
		}
	}
}

// next reads a request and returns the answer.
func (s *Server) next(ctx context.Context, c net.Conn, r *bufio.Reader) ([]byte, error) {
	reading, cancel := context.WithTimeout(ctx, idleWithin)
	stop := conn.Until(reading, c)
	protocol, key, err := read(r)
	ended := stop()
	cancel()
	switch {
	case errors.Is(err, errRefused):
		return protocol.answer(outcome{refused: true, text: err.Error()}), nil
	case err != nil:
		return nil, err
	case ended: // the connection's deadline may have passed
		return nil, context.DeadlineExceeded
	}
	asking, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	value, err := s.opts.Lookup(asking, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return protocol.answer(outcome{missing: true, text: "not found"}), nil
	case err != nil:
		s.opts.Log.Warn("a lookup has failed", "client", c.RemoteAddr(), "error", err)
		return protocol.answer(outcome{failed: true, text: err.Error()}), nil
	}
	return protocol.answer(outcome{text: value}), nil
}
