package resync

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// Selected is what a backend says of a mailbox when it selects it. RFC 9051 §6.3.2.
type Selected struct {
	ReadOnly       bool
	Exists         uint32
	UIDValidity    uint32
	UIDNext        uint32 // 0: not said (Courier)
	Flags          view.Flags
	PermanentFlags view.Flags
	ModSeq         uint64 // HIGHESTMODSEQ; 0: not said
	NoModSeq       bool   // it says that the mailbox has none
	UIDNotSticky   bool   // UIDs don't outlive the session: nothing can be parked
}

// Select sends SELECT, or EXAMINE. The mailbox is a canonical name; params are
// what follows it, such as "(CONDSTORE)", without literals; empty for none. A mailbox
// that is selected is deselected first, so that no response of one is taken for
// the other's.
//
// onUntagged is shown every untagged response that isn't about the mailbox as a whole.
// It may be nil. FETCH, UIDFETCH and VANISHED that it doesn't claim are dropped: a caller that
// selects again for a session's client tells it the difference itself.
func (c *Client) Select(ctx context.Context, examine bool, mailbox, params string, onUntagged func(imapclient.Untagged) bool) (Selected, error) {
	if c.selected {
		if err := c.Deselect(ctx); err != nil {
			return Selected{}, err
		}
	}
	name, err := c.MailboxArgument(mailbox)
	if err != nil {
		return Selected{}, err
	}
	verb := "SELECT"
	if examine {
		verb = "EXAMINE"
	}
	command := verb + " " + name
	if params != "" {
		command += " " + params
	}
	var s Selected
	var bad error
	c.messages = 0
	resp, err := c.Do(ctx, command, func(u imapclient.Untagged) bool {
		claimed, err := s.onUntagged(u)
		if err != nil {
			bad = err
		}
		return claimed || onUntagged != nil && onUntagged(u) || u.Is("FETCH") || u.Is("UIDFETCH") || u.Is("VANISHED")
	})
	if err != nil {
		return s, err
	}
	c.selected = true
	switch resp.Code {
	case "READ-ONLY":
		s.ReadOnly = true
	case "READ-WRITE":
	default:
		s.ReadOnly = examine
	}
	c.readOnly = examine || s.ReadOnly
	s.Exists = c.messages
	if bad == nil && s.UIDValidity == 0 {
		bad = fmt.Errorf("%s shows no UIDVALIDITY", verb)
	}
	if bad != nil {
		return s, fmt.Errorf("%w: %w", ErrUnsettled, bad)
	}
	return s, nil
}

// MailboxArgument is a canonical name as an argument of a command: quoted, and encoded as the
// connection has it. ErrName: it can't be sent.
func (c *Client) MailboxArgument(name string) (string, error) {
	utf8Names := c.Enabled().Has("UTF8=ACCEPT") || c.Enabled().Has("IMAP4REV2")
	enc := view.EncodeMailbox(name, utf8Names)
	// As a quoted string at any length a name can have: a literal would need one
	// more round trip, and its own failures. RFC 6855 §3 has UTF-8 in them.
	if enc == "" || len(enc) > 6*view.MaxMailboxName || strings.ContainsAny(enc, "\x00\r\n") {
		return "", ErrName
	}
	return string(wire.AppendQuoted(nil, enc)), nil
}

// onUntagged reads what concerns the mailbox as a whole, and says whether it did.
func (s *Selected) onUntagged(u imapclient.Untagged) (bool, error) {
	switch {
	case u.Status == wire.OK:
		return s.code(u.Rest)
	case u.Is("EXISTS"), u.Is("RECENT"):
		return true, nil // follow counts the one; the other has no use
	case u.Is("FLAGS"):
		var err error
		s.Flags, err = view.ParseFlags(u.Rest)
		return true, err
	}
	return false, nil
}

func (s *Selected) code(rest []byte) (bool, error) {
	name, args := wire.Code(rest)
	var err error
	switch strings.ToUpper(string(name)) {
	case "UIDVALIDITY":
		s.UIDValidity, err = number32(args)
	case "UIDNEXT":
		s.UIDNext, err = number32(args)
	case "HIGHESTMODSEQ":
		s.ModSeq, err = strconv.ParseUint(string(args), 10, 64)
	case "NOMODSEQ":
		s.NoModSeq = true
	case "PERMANENTFLAGS":
		s.PermanentFlags, err = view.ParseFlags(args)
	case "UIDNOTSTICKY":
		s.UIDNotSticky = true
	case "UNSEEN", "MAILBOXID", "CLOSED":
	default:
		return false, nil // an alert, or words for the client
	}
	return true, err
}

func number32(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err
}

// Deselect leaves the selected mailbox without expunging anything: UNSELECT (RFC
// 9051 §6.4.2), or CLOSE where it was selected read-only (§6.4.1).
// ErrCannotDeselect where there is neither: the connection is to be closed.
//
// What the backend says of the mailbox meanwhile is dropped: it came behind the snapshot, so
// the view doesn't have it, and the next resync finds it.
func (c *Client) Deselect(ctx context.Context) error {
	var command string
	switch {
	case !c.selected:
		return nil
	case c.caps.Has("UNSELECT"), c.caps.Has("IMAP4rev2"):
		command = "UNSELECT"
	case c.readOnly:
		command = "CLOSE"
	default:
		return ErrCannotDeselect
	}
	dropped := func(u imapclient.Untagged) bool {
		code, _ := wire.Code(u.Rest)
		return u.Status == wire.NoStatus || u.Status == wire.OK && !strings.EqualFold(string(code), "ALERT")
	}
	if _, err := c.Do(ctx, command, dropped); err != nil {
		return err
	}
	c.selected, c.readOnly, c.messages = false, false, 0
	return nil
}
