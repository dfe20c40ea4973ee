package resync

import (
	"context"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// maxChanges bounds what one QRESYNC answer may take of memory: 32 MB.
const maxChanges = 1 << 19

// ByQResync is the strategy where the backend speaks QRESYNC (RFC 7162 §3.2.5): it
// says what has changed and gone since a mod-sequence.
type ByQResync struct{}

// Name is Strategy's.
func (ByQResync) Name() string { return "qresync" }

// Resync is Strategy's. EXAMINE, never SELECT: that would take \Recent away from
// the client.
func (ByQResync) Resync(ctx context.Context, c *Client, q Query) (*view.State, error) {
	if err := c.Enable(ctx, "QRESYNC"); err != nil {
		return nil, err
	}
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
		// A backend that is asked about another mailbox or a later time says nothing,
		// silently. The state is told from scratch: whether it is the same mailbox is for
		// each view to find out.
		s.Since = sel.ModSeq
		r.changed, r.doubt = nil, true
	} else if sel.UIDNext == 0 || sel.UIDNext > q.UIDNext {
		err = r.arrivals(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	s.UIDs = r.set()
	// A purged history makes VANISHED say too much, which the intersection has taken
	// out; the count shows whether anything else is wrong.
	if r.doubt || s.UIDs.Count() != c.messages {
		if s.UIDs, err = c.settle(ctx, r.onUntagged); err != nil {
			return nil, err
		}
	}
	if r.bad != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsettled, r.bad)
	}
	s.Changed = r.changed
	return s, nil
}

// params are the EXAMINE's. The known UIDs are digits: Dovecot says BAD to 1:*.
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

// builtOn says whether the backend has told what changed since q.
func (q Query) builtOn(sel Selected) bool {
	return q.params() != "" && sel.UIDValidity == q.UIDValidity && sel.ModSeq >= q.ModSeq &&
		(sel.UIDNext == 0 || sel.UIDNext >= q.UIDNext)
}

// qresync follows what a QRESYNC connection says, strictly in order.
type qresync struct {
	next    uint32    // UIDs from here on are new
	uids    view.UIDs // what there is, as far as is known
	fresh   []uint32  // new ones that aren't in uids yet
	changed []view.FlagChange
	doubt   bool  // uids can't be relied on
	bad     error // a response that can't be understood, or too many of them
}

func (r *qresync) onUntagged(u imapclient.Untagged) bool {
	switch {
	case u.Is("VANISHED"):
		_, gone, err := parseVanished(u.Rest) // read before by follow, so it's well-formed
		if err == nil {
			r.uids = r.set().Without(gone)
		}
	case u.Is("EXPUNGE"):
		r.doubt = true // not to a client that has enabled QRESYNC
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

// set is what there is, the new ones included.
func (r *qresync) set() view.UIDs {
	if len(r.fresh) > 0 {
		r.uids = r.uids.Union(view.UIDsOf(r.fresh...))
		r.fresh = r.fresh[:0]
	}
	return r.uids
}

// arrivals learns the UIDs of new messages. `n:*` always means the last message
// too, even when that is below n: onUntagged leaves those out.
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
