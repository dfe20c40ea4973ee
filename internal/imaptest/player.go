package imaptest

import (
	"context"
	"crypto/tls"
	"strings"
	"time"
)

// player is one run of a script.
type player struct {
	s          *Script
	o          RunOptions
	timeout    time.Duration
	vars       map[string]string
	conns      map[string]*playedConn
	normalise  []string
	comparing  bool
	hasCompare bool
}

// A Stream is one connection's dialogue.
type Stream struct {
	Name    string
	Entries []Entry
}

// An Entry is a line sent, as the script has it, or a response.
type Entry struct {
	Sent      string   // "" for a response
	Tags      []string // of the commands in Sent; there may be some that aren't any
	Response  Response
	EOF       bool // the server closed here
	Uncompare bool // before the script's "compare" line
}

// String shows the entry as a transcript does.
func (e Entry) String() string {
	switch {
	case e.EOF:
		return "S: (closed)"
	case e.Sent != "":
		return "C: " + e.Sent
	}
	return "S: " + e.Response.String()
}

// playedConn is one connection of a running script.
type playedConn struct {
	*Conn
	stream *Stream
	// queue holds responses that were read while a literal waited for its "+";
	// expectations take them before they read more.
	queue []Response
	// skip: an "S: ..." stands before the next expectation
	skip        bool
	skipCompare bool
}

// RunOptions say against what, and with what, a transcript runs.
type RunOptions struct {
	Addr string
	Dial DialOptions
	// Connect replaces Addr and Dial; name is the connection's, "" or "1", …
	Connect    func(ctx context.Context, name string) (*Conn, error)
	TLS        *tls.Config // of C-starttls
	Vars       map[string]string
	Conditions map[string]bool
	// Hooks are what "wait NAME ARGS" calls: it does something, or waits for
	// it, and returns when the dialogue may go on.
	Hooks   map[string]func(ctx context.Context, args ...string) error
	Timeout time.Duration // for each expected line; 0 = DefaultTimeout
}

// commandTag is the tag of a line that is a command; "" for DONE, a SASL
// response and the like.
func commandTag(line string) string {
	tag, rest, ok := strings.Cut(line, " ")
	if !ok || rest == "" || tag == "" || strings.ContainsAny(tag, "(){%*\"\\+]") {
		return ""
	}
	return tag
}
