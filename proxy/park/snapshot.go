package park

import (
	"context"
	"fmt"

	"imapproxy/proxy/park/view"
)

// tries is how often a set is asked for before the mailbox counts as unsettled:
// each try fails only when somebody changes the mailbox during it.
const tries = 3

// Noop asks whether the connection still answers.
func (t *Talk) Noop(ctx context.Context) error {
	_, err := t.do(ctx, "NOOP", nil)
	return err
}

// Snapshot learns the ordered set of the messages that the client counts, on its
// own session connection, after EndIdle. What comes with it is passed to the
// client, so that Told moves along.
//
// The set is what the client counts only if it has as many messages as the client
// was told, and none came or went behind it: Dovecot answers the stale set first
// and says EXPUNGE and EXISTS after it, Cyrus answers the new one and keeps EXPUNGE
// back until a NOOP. Hence NOOP first, and the count. Three tries, then
// ErrUnsettled: the session stays attached.
func (t *Talk) Snapshot(ctx context.Context) (view.UIDs, error) {
	return t.settle(ctx, nil)
}

// settle is Snapshot, with take for untagged responses that the search doesn't
// mean.
func (t *Talk) settle(ctx context.Context, take func(untagged) bool) (view.UIDs, error) {
	for range tries {
		t.tries++
		if _, err := t.do(ctx, "NOOP", take); err != nil {
			return view.UIDs{}, err
		}
		f, shifted, err := t.search(ctx, take)
		if err != nil {
			return view.UIDs{}, err
		}
		if !shifted && f.count == t.told && f.uids.Count() == f.count {
			return f.uids, nil
		}
	}
	return view.UIDs{}, ErrUnsettled
}

// search asks for all UIDs once. shifted: messages came or went behind the answer.
// RFC 9051 §6.4.4, or RFC 3501 §6.4.4 where the backend has no ESEARCH.
func (t *Talk) search(ctx context.Context, take func(untagged) bool) (f found, shifted bool, err error) {
	if t.tooLong() {
		return f, false, ErrTooMany
	}
	extended := t.Caps().Has("ESEARCH") || t.Caps().Has("IMAP4rev2")
	command := "UID SEARCH ALL"
	if extended {
		command = "UID SEARCH RETURN (ALL COUNT) ALL"
	}
	answered, at := false, 0
	var bad error
	tag := t.tag()
	_, err = t.exchange(ctx, tag+" "+command+"\r\n", tag, "UID SEARCH", func(u untagged) bool {
		switch {
		case extended && u.is("ESEARCH"):
			got, perr := parseESearch(u.Rest)
			if perr == nil && got.tag != tag && got.tag != "" {
				return false // another's: a CONTEXT update of the client's
			}
			f, bad = got, perr
		case !extended && u.is("SEARCH"):
			var more view.UIDs // Dovecot and others may split it
			more, bad = parseSearch(u.Rest)
			f.uids = f.uids.Union(more)
			f.count = f.uids.Count()
		default:
			return take != nil && take(u)
		}
		answered, at = true, t.shifts
		return true
	})
	switch {
	case err != nil:
		return f, false, err
	case bad != nil:
		return f, false, fmt.Errorf("%w: UID SEARCH: %w", ErrUnsettled, bad)
	case !answered:
		return f, false, fmt.Errorf("%w: UID SEARCH isn't answered", ErrUnsettled)
	}
	return f, t.shifts != at, nil
}

// tooLong says that the set might not fit into one response: at worst each UID
// has a place of its own, ten digits and a comma. The connection, perhaps a
// session's, would break over it.
func (t *Talk) tooLong() bool { return int64(t.told) > int64(t.opt.MaxLine-100)/11 }

// SnapshotByFetch is Snapshot for a session that is quiet but not in IDLE: with
// `FETCH 1:* (UID)`, which can't produce EXPUNGE (RFC 9051 §7.5.1), so that the
// message numbers in the client's next command mean what it thinks they do.
func (t *Talk) SnapshotByFetch(ctx context.Context) (view.UIDs, error) {
	if t.told == 0 {
		return view.UIDs{}, nil // 1:* of nothing is BAD; whoever comes now is new
	}
	for range tries {
		if t.tooLong() {
			return view.UIDs{}, ErrTooMany
		}
		t.tries++
		uids := make([]uint32, 0, min(t.told, 1<<16))
		inOrder, shrunk := true, false
		before := t.told
		_, err := t.do(ctx, "FETCH 1:* (UID)", func(u untagged) bool {
			switch {
			case u.is("EXPUNGE"), u.is("VANISHED"):
				shrunk = true
				return false
			case !u.is("FETCH"):
				return false
			}
			f, err := parseFetch(u.Rest)
			if err != nil || f.uid == 0 {
				return false // flags that somebody has set: the client's to see
			}
			switch n := int(u.Number); {
			case n == len(uids)+1 && n <= int(t.told) && (n == 1 || f.uid > uids[n-2]):
				uids = append(uids, f.uid)
			case n >= 1 && n <= len(uids) && uids[n-1] == f.uid: // said again, with flags
			default:
				inOrder = false
			}
			return !f.hasFlags && !f.others
		})
		if err != nil {
			return view.UIDs{}, err
		}
		if shrunk {
			break // the backend does what it mustn't
		}
		if inOrder && len(uids) == int(t.told) && t.told >= before {
			return view.UIDsOf(uids...), nil
		}
	}
	return view.UIDs{}, ErrUnsettled
}
