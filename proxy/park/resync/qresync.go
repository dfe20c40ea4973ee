package resync

import (
	"context"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// maxChanges bounds the memory for the answer to one QRESYNC: 32 MB.
const maxChanges = 1 << 19

// ByQResync is the strategy for backends with QRESYNC (RFC 7162 §3.2.5): the backend tells which messages
// have changed or vanished since a mod-sequence.
type ByQResync struct{}

// Name implements Strategy.
func (ByQResync) Name() string { return "qresync" }

// Resync implements Strategy. It uses EXAMINE and not SELECT, which would remove \Recent before the client
// has seen it.
//
// Changes after the state's own bound, which came during the exchange, are asked for again: the second EXAMINE has a bound that covers
// them. If it doesn't, the backend's HIGHESTMODSEQ is lower than the mod-sequences of its messages (RFC 7162 §3.1.2.1 has it be the highest
// one). These changes then count as ones whose mod-sequence isn't known: no later bound would cover them, and clients would never be told.
func (by ByQResync) Resync(ctx context.Context, c *Client, q Query) (*view.State, error) {
	if err := c.Enable(ctx, "QRESYNC"); err != nil {
		return nil, err
	}
	s, err := by.examine(ctx, c, q)
	if err != nil {
		return nil, err
	}
	type change struct {
		uid    uint32
		modSeq uint64
	}
	before := map[change]bool{}
	for _, m := range s.Changed {
		if m.ModSeq > s.ModSeq {
			before[change{m.UID, m.ModSeq}] = true
		}
	}
	if len(before) == 0 {
		return s, nil
	}
	if s, err = by.examine(ctx, c, q); err != nil {
		return nil, err
	}
	for i := range s.Changed {
		if m := &s.Changed[i]; m.ModSeq > s.ModSeq && before[change{m.UID, m.ModSeq}] {
			m.ModSeq = 0
		}
	}
	return s, nil
}

// examine sends one EXAMINE and finds the state by its answer.
func (ByQResync) examine(ctx context.Context, c *Client, q Query) (*view.State, error) {
	if last := q.UIDs.Last(); last >= q.UIDNext && last < 1<<32-1 {
		q.UIDNext = last + 1
	}
	r := qresync{next: q.UIDNext, uids: q.UIDs}
	sel, err := c.Select(ctx, true, q.Mailbox, q.params(), r.onUntagged)
	switch {
	case err != nil:
		return nil, err
	case sel.NoModSeq, sel.ModSeq == 0:
		return nil, ErrNoModSeq
	}
	s := &view.State{
		UIDValidity: sel.UIDValidity, UIDNext: sel.UIDNext, ModSeq: sel.ModSeq,
		FlagList: sel.Flags, Since: q.ModSeq,
	}
	if !q.builtOn(sel) {
		// A backend that is asked about another mailbox or a later mod-sequence tells no changes, and gives
		// no error. So the state has no history; each view finds out whether it is the same mailbox.
		s.Since = sel.ModSeq
		r.changed, r.doubt = nil, true
	} else if sel.UIDNext == 0 || sel.UIDNext > q.UIDNext {
		err = r.arrivals(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	s.UIDs = r.set()
	// If the backend has purged its history, VANISHED names more UIDs than those of removed messages, which
	// Without ignores; the count shows other errors.
	if r.doubt || s.UIDs.Count() != c.messages {
		if s.UIDs, err = c.settle(ctx, false, r.onUntagged); err != nil {
			return nil, err
		}
	}
	if r.bad != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsettled, r.bad)
	}
	s.Changed = r.changed
	return s, nil
}

// params are the parameters of EXAMINE. The known UIDs are digits: Dovecot answers BAD to 1:*.
func (q Query) params() string {
	if q.ModSeq == 0 || q.UIDValidity == 0 {
		return ""
	}
	known := ""
	if q.UIDNext > 1 {
		known = " " + view.UIDRange(1, q.UIDNext-1).String()
	}
	return fmt.Sprintf("(QRESYNC (%d %d%s))", q.UIDValidity, q.ModSeq, known)
}

// builtOn says whether the backend has told the changes since q.
func (q Query) builtOn(sel Selected) bool {
	return q.params() != "" && sel.UIDValidity == q.UIDValidity && sel.ModSeq >= q.ModSeq &&
		(sel.UIDNext == 0 || sel.UIDNext >= q.UIDNext)
}

// qresync follows the responses on a QRESYNC connection, in order.
type qresync struct {
	next    uint32    // UIDs from here on are new
	uids    view.UIDs // the known UIDs
	fresh   []uint32  // new UIDs that aren't in uids yet
	changed []view.FlagChange
	doubt   bool  // uids isn't reliable
	bad     error // a response that can't be understood, or too many changes
}

func (r *qresync) onUntagged(u imapclient.Untagged) bool {
	switch {
	case u.Is("VANISHED"):
		_, gone, err := parseVanished(u.Rest) // follow has parsed it before, so it's well-formed
		if err == nil {
			r.uids = r.set().Without(gone)
		}
	case u.Is("EXPUNGE"):
		r.doubt = true // a backend must not send it once QRESYNC is enabled
	case u.Is("FETCH"):
		r.fetch(u.Rest)
	default:
		return false
	}
	return true
}

func (r *qresync) fetch(rest []byte) {
	f, err := parseFetch(rest)
	switch {
	case err != nil:
		r.bad = err
	case f.uid == 0 && f.hasFlags:
		r.bad = fmt.Errorf("%w: FETCH without UID after ENABLE QRESYNC", errProtocol)
	case f.uid == 0:
	default:
		if f.uid >= r.next {
			r.fresh = append(r.fresh, f.uid)
		}
		if f.hasFlags && len(r.changed) < maxChanges {
			r.changed = append(r.changed, view.FlagChange{UID: f.uid, Flags: f.flags, ModSeq: f.modSeq})
		} else if f.hasFlags {
			r.bad = ErrTooMany
		}
	}
}

// set returns all known UIDs, including the new ones.
func (r *qresync) set() view.UIDs {
	if len(r.fresh) > 0 {
		r.uids = r.uids.Union(view.UIDsOf(r.fresh...))
		r.fresh = r.fresh[:0]
	}
	return r.uids
}

// arrivals fetches the UIDs of new messages. `n:*` always includes the last message, even if its UID is below
// n; onUntagged ignores that one.
func (r *qresync) arrivals(ctx context.Context, c *Client) error {
	if c.messages == 0 {
		return nil
	}
	if c.tooLong() {
		return ErrTooMany
	}
	_, err := c.Do(ctx, fmt.Sprintf("UID FETCH %d:* (UID)", max(r.next, 1)), r.onUntagged)
	return err
}
