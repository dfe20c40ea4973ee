//go:build parking

package parking

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// byed reads until BYE and the end of the connection.
func (w *watcher) byed() {
	w.t.Helper()
	for {
		r := w.Read()
		if r.Tag() == "*" && r.Status() == "BYE" {
			w.ExpectEOF()
			return
		}
		if r.Tag() != "*" {
			w.t.Fatalf("want BYE, got %s", r)
		}
	}
}

// What ends a parked session: its mailbox is deleted, renamed, made anew, or may
// not be read any more.
func TestAMailboxThatIsNoMoreEndsTheSession(t *testing.T) {
	onEach(t, "-idle", labOptions{sweep: time.Second}, func(t *testing.T, l *lab) {
		for name, do := range map[string]func(d *writer){
			"deleted": func(d *writer) {
				d.MustOK("UNSELECT")
				d.MustOK("DELETE Box")
			},
			"renamed": func(d *writer) {
				d.MustOK("UNSELECT")
				d.MustOK("RENAME Box Other")
			},
			"recreated": func(d *writer) {
				d.MustOK("UNSELECT")
				d.MustOK("DELETE Box")
				waitNextSecond() // Cyrus makes UIDVALIDITY of the time
				d.MustOK("CREATE Box")
				d.append(1)
			},
		} {
			for _, when := range []string{"in IDLE", "at a command"} {
				t.Run(name+" "+when, func(t *testing.T) {
					t.Parallel()
					l := l.with(t)
					user := newUser()
					d := l.writer(user, "Box", 3)
					w := l.watch(user, "Box", d.truth)
					w.idle()
					l.parked(w.Client)
					do(d)
					if when != "in IDLE" {
						w.Write("DONE")
						w.Write("x1 UID FETCH 1:* (FLAGS)")
						// Whether DONE was still answered depends on what has been heard.
						for {
							r := w.Read()
							if r.Status() == "BYE" {
								w.ExpectEOF()
								return
							}
							if r.Tag() == "x1" || r.Word(2) == "FETCH" {
								t.Fatalf("answered from another mailbox: %s", r)
							}
						}
					}
					w.byed()
				})
			}
		}
	})
}

func waitNextSecond() {
	now := time.Now()
	time.Sleep(time.Until(now.Truncate(time.Second).Add(1100 * time.Millisecond))) // the clock is what is waited for
}

// Rights to a shared mailbox are taken away.
func TestARightThatIsTakenAwayEndsTheSession(t *testing.T) {
	onEach(t, "-idle", labOptions{sweep: time.Second, warmFor: -1}, func(t *testing.T, l *lab) {
		owner, sharer := newUser(), newUser()
		d := l.writer(owner, "INBOX", 2)
		d.MustOK("SETACL INBOX %s lrswipte", sharer)
		seen := l.server.OtherUsers + owner
		if l.server.Kind == "dovecot" {
			seen += "/INBOX"
		}
		w := l.watch(sharer, `"`+seen+`"`, d.truth)
		w.idle()
		l.parked(w.Client)
		d.append(1)
		for w.model.Count() < 3 {
			w.hear(w.Read())
		}
		d.MustOK("DELETEACL INBOX %s", sharer)
		if l.server.Kind == "dovecot" {
			// A connection of Dovecot's keeps the rights that it has found, the watch's
			// as any client's. A new one hasn't.
			w.done()
			w.Write("x1 UID FETCH 1:* (FLAGS)")
		}
		w.byed()
		l.ended("mailbox_gone")
	})
}

// A client that has a NOTIFY, a $ or more of its own stays attached.
func TestWhatOnlyTheBackendKnowsKeepsASessionAttached(t *testing.T) {
	onEach(t, "sdbox-idle", labOptions{quietAfter: time.Millisecond}, func(t *testing.T, l *lab) {
		for want, commands := range map[string][]string{
			"notify":          {"SELECT INBOX", "NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))"},
			"saved_search":    {"SELECT INBOX", "UID SEARCH RETURN (SAVE) ALL"},
			"message_numbers": {"SELECT INBOX", "FETCH 1:* (UID)"},
			"condstore":       {"SELECT INBOX (CONDSTORE)"},
			"unknown_command": {"COMPARATOR"},
		} {
			t.Run(want, func(t *testing.T) {
				t.Parallel()
				l := l.with(t)
				user := newUser()
				l.writer(user, "INBOX", 2)
				c := l.login(user)
				for _, line := range commands {
					c.Cmd("%s", line)
				}
				must(t, eventually(t.Context(), "the reason", func() error {
					page, _ := l.srv.Sessions(proxy.Filter{User: user})
					if len(page) != 1 || page[0].Attachment != "attached" || page[0].NotParked != want {
						return fmt.Errorf("%+v", page)
					}
					return nil
				}))
			})
		}
	})
}

// 10,000 messages, of which every twentieth is gone: numbers and UIDs differ
// everywhere.
func TestALargeMailboxWithHoles(t *testing.T) {
	onEach(t, "-idle", labOptions{}, func(t *testing.T, l *lab) {
		if l.server.Name == "dovecot-maildir" && testing.Short() {
			t.Skip("slow")
		}
		user := newUser()
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

// NOTIFY falls silent when Dovecot rotates its list log (after about 340 appends):
// it is set anew before anybody notices.
func TestNotifyOverTheRotationOfItsLog(t *testing.T) {
	onEach(t, "sdbox-notify", labOptions{notify: 2 * time.Second}, func(t *testing.T, l *lab) {
		user := newUser()
		d := l.writer(user, "INBOX", 1)
		w := l.watch(user, "INBOX", d.truth)
		w.idle()
		l.parked(w.Client)
		for i := range 8 {
			d.append(50)
			for w.model.Count() < len(d.truth.Messages) {
				w.hear(w.Read())
			}
			t.Logf("%d appends", 50*(i+1))
		}
		w.done()
		w.agrees(d.truth)
	})
}

// Nobody listens for events: the sweep finds what happened, and the user's own
// commands are hints without them.
func TestEventsThatDontCome(t *testing.T) {
	onEach(t, "sdbox-idle", labOptions{}, func(t *testing.T, l *lab) {
		l = newLab(t, l.server, labOptions{watch: "push", events: "127.0.0.1:0", sweep: 3 * time.Second})
		user := newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.truth)
		w.idle()
		l.parked(w.Client)
		began := time.Now()
		d.expunge(2)
		d.append(1)
		w.told("EXPUNGE", 1)
		t.Logf("the sweep took %v", time.Since(began))
		other := l.login(user)
		if a := other.Literal("APPEND INBOX ", imaptest.GeneratedMessage(100, 99), ""); !a.OK() {
			t.Fatal(a)
		}
		d.truth.Append()
		w.done() // told before its answer
		if w.model.Count() != len(d.truth.Messages) {
			t.Errorf("after the user's own APPEND the client counts %d, not %d", w.model.Count(), len(d.truth.Messages))
		}
		w.agrees(d.truth)
	})
}

// The backend is gone at a resume, for a while and for good.
func TestABackendThatIsGoneAtAResume(t *testing.T) {
	onEach(t, "-idle", labOptions{warmFor: -1}, func(t *testing.T, l *lab) {
		if strings.Contains(l.server.Name, "maildir") {
			t.Skip("as with sdbox")
		}
		t.Run("for a while", func(t *testing.T) {
			l := l.with(t)
			user := newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.truth)
			w.idle()
			l.parked(w.Client)
			w.done()
			l.down(true)
			d.expunge(1)
			w.model.Begin("UID FETCH")
			w.Write("x1 UID FETCH 1:* (FLAGS)")
			w.Quiet(3 * time.Second)
			l.down(false)
			w.until("x1")
			w.agrees(d.truth)
		})
		t.Run("answers nothing at first", func(t *testing.T) {
			l := l.with(t)
			user := newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.truth)
			w.Timeout = time.Minute
			w.idle()
			l.parked(w.Client)
			w.done()
			var hung atomic.Bool
			release := make(chan struct{})
			l.onLine(func(_ *tapped, line string) bool {
				if strings.Contains(line, "SELECT \"INBOX\"") && hung.CompareAndSwap(false, true) {
					<-release // the first attempt hangs
					return false
				}
				return true
			})
			w.model.Begin("UID FETCH")
			w.Write("x1 UID FETCH 1:* (FLAGS)")
			defer close(release)
			w.until("x1")
			l.onLine(nil)
			w.agrees(d.truth)
		})
		if l.server.Kind != "dovecot" {
			return // what follows takes 45 s, and nothing of it is the server's
		}
		t.Run("for good", func(t *testing.T) {
			l := l.with(t)
			user := newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.truth)
			w.Timeout = 2 * time.Minute
			w.idle()
			l.parked(w.Client)
			w.done()
			l.down(true)
			w.Write("x1 UID FETCH 1:* (FLAGS)")
			w.byed()
			l.down(false)
			must(t, eventually(t.Context(), "the session's end", func() error {
				if page, _ := l.srv.Sessions(proxy.Filter{User: user}); len(page) > 0 {
					return errors.New("it is there")
				}
				return nil
			}))
		})
	})
}
