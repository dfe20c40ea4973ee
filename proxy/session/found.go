package session

import (
	"math"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// found is the connection with which a session goes on after a loss.
type found struct {
	conn    *upstream.Conn
	enabled []string // on the connection
	// ready says that the client's mailbox is selected and nothing came since missed and uids were found there. another says
	// that the connection doesn't show them.
	ready, another     bool
	missed             view.Difference
	uids               view.UIDs
	selected, readOnly bool // the state of the connection
}

// client returns an IMAP client for the connection. heard gets what isn't the answer to one of its commands.
func (f *found) client(heard func(line []byte)) *resync.Client {
	return resync.NewClient(f.conn.Conn, f.conn.Caps, resync.Options{
		Enabled: f.enabled, Forward: heard,
		Selected: f.selected, ReadOnly: f.readOnly, Messages: math.MaxUint32, // how many it has isn't known, and doesn't matter
	})
}

// heardMeanwhile records what a resumed connection sends after SELECT and before the client has the
// connection: the backend won't send it again.
type heardMeanwhile struct {
	data  bool
	flags view.Flags // of the last FLAGS response
}

// pass implements the Forward of resync.Options.
func (m *heardMeanwhile) pass(line []byte) {
	h := wire.ParseResponseHead(line)
	m.data = m.data || h.Status == wire.NoStatus
	if wire.Is(h.Name, "FLAGS") {
		if f, err := view.ParseFlags(h.Rest); err == nil {
			m.flags = f
		}
	}
}
