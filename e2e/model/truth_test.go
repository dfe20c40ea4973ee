//go:build parking

package model

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

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

func newWitness(addr, user, password, box string, modSeqs bool) (*witness, error) {
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
	untagged, r, err := w.conn.Command(fmt.Sprintf("w%d", w.tags), fmt.Sprintf(format, args...))
	if err == nil && r.Status() != "OK" {
		err = fmt.Errorf("witness: %s: %s", fmt.Sprintf(format, args...), r)
	}
	return untagged, err
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
			// At the latest now: nobody says when.
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
	stored   []uint32
	flag     string // may be added to or removed from those
	on       bool
	expunged func(imaptest.ModelMessage) bool
	all      bool // stored: all of them that are there
	// star: "*" was said. Cyrus takes the last message for it that there is, Dovecot
	// the last that the client was told of.
	star bool
}

func (a allow) named(uid uint32) (sure, perhaps bool) {
	sure = slices.Contains(a.stored, uid)
	return sure, sure || a.star && (len(a.stored) == 0 || uid > slices.Max(a.stored))
}

// check compares two truths.
func (a allow) check(before, now *imaptest.ModelMailbox) error {
	for _, m := range before.Messages {
		after := now.Find(m.UID)
		if after == nil {
			if a.expunged == nil || !a.expunged(m) {
				return fmt.Errorf("UID %d %v is gone, which nobody asked for", m.UID, m.Flags)
			}
			continue
		}
		sure, named := a.named(m.UID)
		want := m.Flags
		if named {
			want = slices.DeleteFunc(slices.Clone(m.Flags), func(f string) bool { return f == a.flag })
			if a.on {
				want = append(want, a.flag)
				slices.Sort(want)
			}
		}
		if !slices.Equal(after.Flags, want) && (!slices.Equal(after.Flags, m.Flags) || sure && a.all) {
			return fmt.Errorf("UID %d had %v and has %v; named were UIDs %v, for %s %v", m.UID, m.Flags, after.Flags, a.stored, a.flag, a.on)
		}
	}
	news := 0
	for _, m := range now.Messages {
		if before.Find(m.UID) == nil {
			news++
		}
	}
	if news < a.appended || news > a.appended+a.maybe {
		return fmt.Errorf("%d messages are new; should be %d, at most %d", news, a.appended, a.appended+a.maybe)
	}
	return nil
}
