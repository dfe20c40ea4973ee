package auth

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
)

// maxSaid bounds what is repeated of the words of a server that a source asks, in bytes.
const maxSaid = 200

// saidError is an error of such a server, fit for a log.
type saidError struct {
	err  error
	text string
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.err }

// Discreet returns the text if the error is the network's or the proxy's own; what a server said can name users in its own spelling.
func (e *saidError) Discreet() string {
	if errors.As(e.err, new(*net.OpError)) || errors.Is(e.err, context.DeadlineExceeded) || errors.Is(e.err, context.Canceled) || errors.Is(e.err, io.EOF) {
		return e.text
	}
	return "(text of the server removed)"
}

// Said makes an error of a server that a source asks fit for a log: in one line, printable and bounded.
func Said(err error) error {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > maxSaid {
		text = text[:maxSaid] + "…"
	}
	return &saidError{err, text}
}
