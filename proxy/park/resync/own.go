package resync

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// Own is what a new connection of a session's own shows of the mailbox that the session's client had selected on a
// connection that was lost. The session goes on with the connection, so nothing is enabled on it that the client hasn't
// enabled: after ENABLE QRESYNC a client would be told VANISHED in place of EXPUNGE, and after each use of
// CHANGEDSINCE, or of STATUS (HIGHESTMODSEQ), MODSEQ in each FETCH response (RFC 7162 §3.1, §3.2.3).
type Own struct {
	Selected Selected
	Seen     view.Seen

	c       *Client
	dialect view.Dialect
	since   uint64 // what Selected's QRESYNC parameter had; 0: it had none
	changed []view.FlagChange
	heard   bool  // there was a FETCH response with flags
	bad     error // a response that doesn't say what it is about, or can't be understood
}

// SeeOwn selects the mailbox of at as the client had selected it, and asks which messages it has. dialect is the client's; its
// extensions are enabled on c. It has no history, and so can't find each view (view.Tally.Found), unless the client
// has enabled QRESYNC. The errors are those of a Strategy.
func SeeOwn(ctx context.Context, c *Client, at *view.View, dialect view.Dialect) (*Own, error) {
	o := &Own{c: c, dialect: dialect}
	params := ""
	if dialect == view.QResync && at.UIDValidity != 0 {
		o.since = max(1, at.ModSeq)
		params, o.Seen.QResync = fmt.Sprintf("(QRESYNC (%d %d))", at.UIDValidity, o.since), true
	}
	var err error
	if o.Selected, err = c.Select(ctx, at.ReadOnly, at.Mailbox, params, o.onUntagged); err != nil {
		return nil, err
	}
	sel := o.Selected
	if sel.UIDNotSticky {
		return nil, fmt.Errorf("%w: UIDNOTSTICKY", ErrUnsettled)
	}
	s := &o.Seen
	s.UIDValidity, s.UIDNext, s.ModSeq = sel.UIDValidity, sel.UIDNext, sel.ModSeq
	if s.QResync && (sel.NoModSeq || sel.ModSeq == 0) {
		return nil, ErrNoModSeq
	}
	if s.UIDs, err = c.settle(ctx, false, o.onUntagged); err != nil {
		return nil, err
	}
	return o, o.bad
}

// onUntagged claims what the client is told later, as a part of the difference.
func (o *Own) onUntagged(u imapclient.Untagged) bool {
	switch {
	case u.Is("VANISHED"):
		_, gone, err := parseVanished(u.Rest) // follow has parsed it before, so it's well-formed
		if o.dialect != view.QResync || err != nil {
			o.bad = fmt.Errorf("%w: VANISHED without QRESYNC", ErrUnsettled)
			return true
		}
		o.Seen.Vanished = o.Seen.Vanished.Union(gone)
	case u.Is("FETCH"):
		o.fetch(u.Rest)
	default:
		return false
	}
	return true
}

func (o *Own) fetch(rest []byte) {
	f, err := parseFetch(rest)
	switch {
	case err != nil:
		o.bad = fmt.Errorf("%w: %w", ErrUnsettled, err)
	case !f.hasFlags:
	case o.dialect == view.Plain: // State asks for all flags
		o.heard = true
	case f.uid == 0 || f.modSeq == 0:
		o.bad = fmt.Errorf("%w: a FETCH response without UID or MODSEQ", ErrUnsettled)
	case len(o.changed) >= maxChanges:
		o.bad = ErrTooMany
	default:
		o.heard = true
		o.changed = append(o.changed, view.FlagChange{UID: f.uid, Flags: f.flags, ModSeq: f.modSeq})
	}
}

// Quiet says whether nothing has happened to the mailbox since the mod-sequence up to which the client of v knows all
// flags.
func (o *Own) Quiet(v *view.View) bool {
	return v.ModSeq > 1 && o.Selected.ModSeq == v.ModSeq && !o.heard
}

// State returns the state from which the difference to v is computed; SeeOwn came directly before. A client with mod-sequences
// gets the flags that have changed since v's, any other one all flags: then State has no mod-sequences,
// and the difference has all flags that v doesn't know (view.View.Known). asTable: the backend has no mod-sequences,
// and the flags are a table. maxMessages bounds how many messages' flags are asked for; zero: DefaultMaxDiffMessages.
//
// ErrUnsettled means that the mailbox was changed meanwhile, so that both calls have to be repeated.
func (o *Own) State(ctx context.Context, v *view.View, asTable bool, maxMessages uint32) (*view.State, error) {
	sel := o.Selected
	s := &view.State{UIDValidity: sel.UIDValidity, UIDNext: sel.UIDNext, UIDs: o.Seen.UIDs, ModSeq: sel.ModSeq, FlagList: sel.Flags}
	shifts := o.c.shifts
	switch {
	case o.Quiet(v):
		s.Since = v.ModSeq
		return s, nil
	case asTable || o.dialect == view.Plain:
		return s, o.all(ctx, s, asTable, maxMessages)
	case sel.NoModSeq || sel.ModSeq == 0:
		return nil, ErrNoModSeq
	case o.since != 0 && o.since <= v.ModSeq:
		s.Since = o.since
	default:
		s.Since = v.ModSeq
		if o.c.messages == 0 {
			break
		}
		if _, err := o.c.Do(ctx, fmt.Sprintf("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)", max(1, s.Since)), o.onUntagged); err != nil {
			return nil, err
		}
	}
	if o.bad == nil && o.c.shifts != shifts {
		o.bad = fmt.Errorf("%w: messages came or went meanwhile", ErrUnsettled)
	}
	s.Changed = o.changed
	return s, o.bad
}

// all asks for the flags of all messages.
func (o *Own) all(ctx context.Context, s *view.State, asTable bool, maxMessages uint32) error {
	rows := comparison{limit: int(cmp.Or(maxMessages, DefaultMaxDiffMessages))}
	if !rows.resize(o.c.messages) {
		return ErrTooMany
	}
	if o.c.messages > 0 {
		if _, err := o.c.Do(ctx, "UID FETCH 1:* (FLAGS)", rows.onUntagged); err != nil {
			return err
		}
	}
	switch {
	case rows.bad != nil:
		return fmt.Errorf("%w: %w", ErrUnsettled, rows.bad)
	case rows.tooMany:
		return ErrTooMany
	case !rows.complete():
		return ErrUnsettled
	}
	s.UIDs = rows.uids()
	if asTable {
		s.Table, s.ModSeq = view.NewFlagTable(rows.rows), 0
	} else {
		s.Changed = rows.rows
	}
	return nil
}

// NotByOwn says whether an error of SeeOwn or State means that another connection, on which more is enabled, may show
// what a session's own one doesn't.
func NotByOwn(err error) bool {
	if refusal, ok := errors.AsType[*imapclient.Refusal](err); ok {
		return refusal.Verb != "SELECT" && refusal.Verb != "EXAMINE"
	}
	for _, e := range []error{ErrUnsettled, ErrTooMany, ErrNoModSeq, ErrNotEnabled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
