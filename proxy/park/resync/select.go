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

// Selected is what a backend tells of a mailbox when it selects it. RFC 9051 §6.3.2.
type Selected struct {
	ReadOnly       bool
	Exists         uint32
	UIDValidity    uint32
	UIDNext        uint32 // 0: not in the responses (Courier)
	Flags          view.Flags
	PermanentFlags view.Flags
	ModSeq         uint64 // HIGHESTMODSEQ; 0: not in the responses
	NoModSeq       bool   // the response code NOMODSEQ: the mailbox has no mod-sequences
	UIDNotSticky   bool   // UIDs don't outlive the session, so no session can be parked
}

// Select sends SELECT or EXAMINE. mailbox is a canonical name; params are the parameters after the name, such
// as "(CONDSTORE)", without literals; empty for none. If a mailbox is selected, it is deselected first, so
// that no response about one mailbox is taken for the other's.
//
// onUntagged is called with each untagged response that isn't about the mailbox as a whole; it may be nil.
// FETCH, UIDFETCH and VANISHED that it doesn't claim are dropped: a caller that selects again for a session's
// client tells the client the difference itself.
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

// MailboxArgument returns a canonical name as a command's argument: quoted, in the connection's encoding.
// ErrName: the name can't be sent.
func (c *Client) MailboxArgument(name string) (string, error) {
	utf8Names := c.Enabled().Has("UTF8=ACCEPT") || c.Enabled().Has("IMAP4REV2")
	enc := view.EncodeMailbox(name, utf8Names)
	// Any length is sent as a quoted string: a literal would need one more round trip, which may fail. RFC
	// 6855 §3 allows UTF-8 in quoted strings.
	if enc == "" || len(enc) > 6*view.MaxMailboxName || strings.ContainsAny(enc, "\x00\r\n") {
		return "", ErrName
	}
	return string(wire.AppendQuoted(nil, enc)), nil
}

// onUntagged reads a response about the mailbox as a whole, and says whether it was one.
func (s *Selected) onUntagged(u imapclient.Untagged) (bool, error) {
	switch {
	case u.Status == wire.OK:
		return s.code(u.Rest)
	case u.Is("EXISTS"), u.Is("RECENT"):
		return true, nil // follow counts EXISTS; RECENT isn't used
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
		return false, nil // an alert, or text for the client
	}
	return true, err
}

func number32(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err
}

// Deselect deselects the mailbox without expunging: by UNSELECT (RFC 9051 §6.4.2), or by CLOSE if the mailbox
// was selected read-only (§6.4.1). If neither is possible it returns ErrCannotDeselect, and the connection
// has to be closed.
//
// Responses about the mailbox during the command are dropped: they came after the snapshot, so the view
// doesn't have their changes, and the next resync finds them.
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
