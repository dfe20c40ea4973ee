package model

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/internal/imaptest"
)

func t0() context.Context { return context.Background() }

var (
	reUID    = regexp.MustCompile(`\bUID (\d+)`)
	reFlags  = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
	reModSeq = regexp.MustCompile(`\bMODSEQ \((\d+)\)`)
	reHigh   = regexp.MustCompile(`HIGHESTMODSEQ (\d+)`)
)

func uidAndFlags(r imaptest.Response) (uid uint32, flags []string, ok bool) {
	if m := reUID.FindStringSubmatch(r.Text); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 32)
		uid = uint32(n)
	}
	if m := reFlags.FindStringSubmatch(r.Text); m != nil {
		flags = []string{}
		for _, f := range strings.Fields(m[1]) {
			if !strings.EqualFold(f, `\Recent`) {
				flags = append(flags, f)
			}
		}
		slices.Sort(flags)
		return uid, flags, true
	}
	return uid, nil, false
}

// witness knows the truth of a mailbox: it talks to the server itself.
type witness struct {
	conn    *imaptest.Conn
	tags    int
	box     string
	modSeqs bool // it asks for them
	truth   *imaptest.ModelMailbox
}

func newWitness(addr, user, password, box string, modSeqs bool, patience time.Duration) (*witness, error) {
	nc, err := imaptest.DialConn(t0(), addr, imaptest.DialOptions{Timeout: patience})
	if err != nil {
		return nil, err
	}
	w := &witness{conn: nc, box: box, modSeqs: modSeqs, truth: imaptest.NewModelMailbox(1)}
	if _, err = nc.Next(); err == nil {
		_, err = w.ok("LOGIN %s %s", user, password)
	}
	if err == nil {
		_, err = w.ok("CREATE %s", box)
	}
	if err == nil {
		_, err = w.ok("CREATE %s-other", box)
	}
	if err == nil {
		_, err = w.ok("EXAMINE %s", box)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return w, nil
}

func (w *witness) ok(format string, args ...any) ([]imaptest.Response, error) {
	w.tags++
	quickAck(w.conn)
	untagged, r, err := w.conn.Command(fmt.Sprintf("w%d", w.tags), fmt.Sprintf(format, args...))
	if err == nil && r.Status() != "OK" {
		err = fmt.Errorf("witness: %s: %s", fmt.Sprintf(format, args...), r)
	}
	return untagged, err
}

// share lets another user do everything in the mailboxes (RFC 4314).
func (w *witness) share(with string) error {
	for _, box := range []string{w.box, w.box + "-other"} {
		if _, err := w.ok("SETACL %s %s lrswipkxte", box, with); err != nil {
			return err
		}
	}
	return nil
}

// look learns the truth anew, and returns what it was before.
func (w *witness) look() (before *imaptest.ModelMailbox, err error) {
	before = w.truth
	now := before.Clone()
	if _, err := w.ok("NOOP"); err != nil {
		return nil, err
	}
	items := "UID FLAGS"
	if w.modSeqs {
		items += " MODSEQ"
		st, err := w.ok("STATUS %s (HIGHESTMODSEQ)", w.box)
		if err != nil {
			return nil, err
		}
		for _, r := range st {
			if m := reHigh.FindStringSubmatch(r.Text); m != nil {
				now.ModSeq, _ = strconv.ParseUint(m[1], 10, 64)
			}
		}
	}
	list, err := w.ok("UID FETCH 1:* (%s)", items)
	if err != nil {
		return nil, err
	}
	now.Messages = now.Messages[:0]
	seen := map[uint32]int{}
	for _, r := range list {
		if r.Word(2) != "FETCH" {
			continue
		}
		uid, flags, ok := uidAndFlags(r)
		if uid == 0 || !ok {
			continue
		}
		m := imaptest.ModelMessage{UID: uid, Flags: flags}
		if q := reModSeq.FindStringSubmatch(r.Text); q != nil {
			m.ModSeq, _ = strconv.ParseUint(q[1], 10, 64)
		}
		if i, again := seen[uid]; again {
			now.Messages[i] = m
			continue
		}
		seen[uid] = len(now.Messages)
		now.Messages = append(now.Messages, m)
	}
	now.Gone = slices.DeleteFunc(now.Gone, func(m imaptest.ModelMessage) bool { _, there := seen[m.UID]; return there })
	for _, m := range before.Messages {
		if _, there := seen[m.UID]; !there {
			// At the latest now: the moment isn't specified.
			now.Gone = append(now.Gone, imaptest.ModelMessage{UID: m.UID, ModSeq: now.ModSeq})
		}
	}
	w.truth = now
	return before, nil
}

// allow says what an operation may do to the mailbox.
type allow struct {
	appended int // so many new messages, exactly
	maybe    int // so many more, perhaps
	stored   named
	flag     string // may be added to or removed from those
	on       bool
	all      bool // and is, to or from all of stored.uids that are there
	expunged func(imaptest.ModelMessage) bool
}

// check compares two truths, between which all that is allowed may have happened, in
// any order.
func check(before, now *imaptest.ModelMailbox, allowed ...allow) error {
	least, most := 0, 0
	for _, a := range allowed {
		least, most = least+a.appended, most+a.appended+a.maybe
	}
	if slices.ContainsFunc(allowed, func(a allow) bool { return a.expunged != nil }) && len(allowed) > 1 {
		least = 0 // what one has appended, the other may have moved away
	}
	for _, m := range before.Messages {
		if after := now.Find(m.UID); after == nil {
			if !mayGo(m, allowed) {
				return fmt.Errorf("UID %d %v is gone, which nobody asked for", m.UID, m.Flags)
			}
		} else if err := mayChange(m, *after, allowed); err != nil {
			return err
		}
	}
	news := 0
	for _, m := range now.Messages {
		if before.Find(m.UID) == nil {
			news++
		}
	}
	if news < least || news > most {
		return fmt.Errorf("%d messages are new; should be %d, at most %d", news, least, most)
	}
	return nil
}

// reborn says whether two truths differ by nothing but what check found and Dovecot's maildir does
// by itself when an EXPUNGE meets another session's EXAMINE, that of a resync for one (seen without a
// proxy, in TestWhatMaildirDoes): a message is there once more or anew, under another UID, and that one
// may go again. ghosts are the UIDs that came so.
func reborn(before, now *imaptest.ModelMailbox, ghosts map[uint32]bool, allowed ...allow) bool {
	gone, spare := 0, 0
	for _, a := range allowed {
		spare -= a.appended + a.maybe
	}
	for _, m := range before.Messages {
		after := now.Find(m.UID)
		switch {
		case after != nil && mayChange(m, *after, allowed) != nil:
			return false
		case after == nil && !mayGo(m, allowed) && !ghosts[m.UID]:
			gone++
		}
	}
	var came []uint32
	for _, m := range now.Messages {
		if before.Find(m.UID) == nil {
			came = append(came, m.UID)
			spare++
		}
	}
	if gone > max(spare, 0) {
		return false
	}
	for _, uid := range came {
		ghosts[uid] = true
	}
	return true
}

func mayGo(m imaptest.ModelMessage, allowed []allow) bool {
	deleted := m
	deleted.Flags = append(slices.Clone(m.Flags), `\Deleted`)
	for _, a := range allowed {
		if a.expunged == nil {
			continue
		}
		marked := slices.ContainsFunc(allowed, func(b allow) bool { return b.flag == `\Deleted` && b.on && b.stored.may(m.UID) })
		if a.expunged(m) || marked && a.expunged(deleted) {
			return true
		}
	}
	return false
}

func mayChange(m, after imaptest.ModelMessage, allowed []allow) error {
	for _, f := range append(slices.Clone(m.Flags), after.Flags...) {
		had, has := slices.Contains(m.Flags, f), slices.Contains(after.Flags, f)
		if had != has && !slices.ContainsFunc(allowed, func(a allow) bool { return a.flag == f && a.on == has && a.stored.may(m.UID) }) {
			return fmt.Errorf("UID %d had %v and has %v, which nobody asked for: %v", m.UID, m.Flags, after.Flags, allowed)
		}
	}
	for i, a := range allowed {
		if !a.all || !slices.Contains(a.stored.uids, m.UID) || slices.Contains(after.Flags, a.flag) == a.on {
			continue
		}
		if !slices.ContainsFunc(allowed, func(b allow) bool { return b.flag == a.flag && b.on != a.on && b.stored.may(m.UID) }) {
			return fmt.Errorf("UID %d had %v and has %v, though %s %v was asked for: %v", m.UID, m.Flags, after.Flags, a.flag, a.on, allowed[i])
		}
	}
	return nil
}
