package parking

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// 10,000 messages, of which every twentieth is gone: numbers and UIDs differ
// everywhere.
func TestALargeMailboxWithHoles(t *testing.T) {
	t.Parallel()
	onEach(t, "sdbox-idle cyrus-idle", func(t *testing.T, s *site) { // maildir differs in files alone, and they take it minutes
		l := newLab(t, s, labOptions{})
		user := l.newUser()
		d := l.writer(user, "INBOX", 10)
		d.Timeout = 3 * time.Minute
		for len(d.truth.Messages) < 10000 {
			n := min(len(d.truth.Messages), 10000-len(d.truth.Messages))
			d.MustOK("COPY 1:%d INBOX", n)
			d.MustOK("NOOP")
			for range n {
				d.truth.Append()
			}
		}
		var holes []string
		var gone []uint32
		for uid := uint32(7); uid <= 10000; uid += 20 {
			holes, gone = append(holes, fmt.Sprint(uid)), append(gone, uid)
		}
		d.MustOK(`UID STORE %s +FLAGS.SILENT (\Deleted)`, strings.Join(holes, ","))
		d.MustOK("EXPUNGE")
		d.truth.Expunge(gone...)

		w := l.watch(user, "INBOX", d.truth)
		w.Timeout = time.Minute
		w.idle()
		l.parked(w.Client)
		d.expunge(1, 5000, 9999)
		d.append(1)
		w.told("EXPUNGE", 3)
		for w.model.Count() < len(d.truth.Messages) {
			w.hear(w.Read())
		}
		// By number, the one behind a hole that came while it was parked.
		uid := d.truth.Messages[4747].UID
		w.done()
		w.say(`STORE 4748 +FLAGS (\Flagged)`)
		d.truth.Store(uid, `\Flagged`)
		d.expunge(2, 3, 9000)
		w.idle()
		l.parked(w.Client)
		d.flag(uid, `\Seen`)
		d.expunge(4)
		w.done()
		w.agrees(d.truth)
	})
}
