package parking

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// 10,000 messages, of which every twentieth is gone: numbers and UIDs differ
// everywhere.
func aLargeMailboxWithHoles(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{})
	user := l.newUser()
	d := l.writer(user, "INBOX", 10)
	d.Timeout = 3 * time.Minute
	for len(d.Truth.Messages) < 10000 {
		n := min(len(d.Truth.Messages), 10000-len(d.Truth.Messages))
		d.MustOK("COPY 1:%d INBOX", n)
		d.MustOK("NOOP")
		for range n {
			d.Truth.Append()
		}
	}
	var holes []string
	var gone []uint32
	for uid := uint32(7); uid <= 10000; uid += 20 {
		holes, gone = append(holes, fmt.Sprint(uid)), append(gone, uid)
	}
	d.MustOK(`UID STORE %s +FLAGS.SILENT (\Deleted)`, strings.Join(holes, ","))
	d.MustOK("EXPUNGE")
	d.Truth.Expunge(gone...)

	w := l.watch(user, "INBOX", d.Truth)
	w.Timeout = time.Minute
	w.BeginIdle()
	l.parked(w.Client)
	d.Expunge(1, 5000, 9999)
	d.Append(1)
	w.Told("EXPUNGE", 3)
	w.Counts(len(d.Truth.Messages))
	// By number, the one behind a hole that came while it was parked.
	uid := d.Truth.Messages[4747].UID
	w.EndIdle()
	w.Say(`STORE 4748 +FLAGS (\Flagged)`)
	d.Truth.Store(uid, `\Flagged`)
	d.Expunge(2, 3, 9000)
	w.BeginIdle()
	l.parked(w.Client)
	d.Flag(uid, `\Seen`)
	d.Expunge(4)
	w.EndIdle()
	w.Agrees(d.Truth)
}
