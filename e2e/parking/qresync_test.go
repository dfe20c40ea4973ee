package parking

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// watchQResync is watch for a client that caches, and what SELECT said of
// UIDVALIDITY.
func (l *lab) watchQResync(user, mailbox string, truth *imaptest.ModelMailbox) (w *watcher, validity string) {
	l.t.Helper()
	w = &watcher{Client: l.login(user), t: l.t, model: imaptest.NewModelClient(imaptest.ModelQResync, truth), heard: map[string]int{}}
	w.MustOK("ENABLE QRESYNC")
	for _, r := range w.MustOK("SELECT %s", mailbox).Untagged {
		if v, ok := strings.CutPrefix(r.Code(), "UIDVALIDITY "); ok {
			validity = v
		}
		w.cache(r)
	}
	return w, validity
}

// cache keeps a HIGHESTMODSEQ.
func (w *watcher) cache(r imaptest.Response) {
	if v, ok := strings.CutPrefix(r.Code(), "HIGHESTMODSEQ "); ok {
		n, err := strconv.ParseUint(v, 10, 64)
		must(w.t, err)
		w.highest = max(w.highest, n)
	}
}

// Transcript 6: a client of QRESYNC parks, VANISHED is owed since it speaks by
// number, it is told of newer changes, and cut off. From the HIGHESTMODSEQ that it was
// told it learns of all that it missed. The MODSEQ of a FETCH doesn't count: Dovecot and
// Cyrus themselves, owing VANISHED, show newer ones than it has.
func TestACachingClientThatIsCutWhileVanishedIsOwedMissesNothing(t *testing.T) {
	onEach(t, "-idle", func(t *testing.T, s *site) {
		for _, command := range []string{"FETCH 1:* (FLAGS)", `STORE 4 +FLAGS (\Answered)`, "SEARCH ALL"} {
			t.Run(command, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, labOptions{})
				user := l.newUser()
				d := l.writer(user, "INBOX", 6)
				d.flag(1, `\Seen`)
				w, validity := l.watchQResync(user, "INBOX", d.truth)
				w.say("UID FETCH 1:* (FLAGS)")
				w.idle()
				l.parked(w.Client)
				d.flag(6, `\Seen`)
				w.told("FETCH", 7) // six before
				done := l.Once(`SELECT "INBOX"`, func() {
					d.expunge(2, 5)
					d.flag(3, `\Flagged`)
					d.append(1)
				})
				w.done()
				verb, _, _ := strings.Cut(command, " ")
				w.model.Begin(verb)
				w.Write("x1 " + command)
				heard, tagged := w.hearUntil("x1") // NO [EXPUNGEISSUED], perhaps
				for _, r := range append(heard, tagged) {
					w.cache(r)
				}
				l.happens(done, "a resume")
				if w.heard["VANISHED"] > 0 {
					t.Fatal("VANISHED where it may not be told")
				}
				must(t, w.Reset())

				again := imaptest.Dial(t, l.Plain)
				again.Login(user, servers.Password)
				again.MustOK("ENABLE QRESYNC")
				a := again.MustOK("SELECT INBOX (QRESYNC (%s %d 1:6))", validity, w.highest)
				var gone []uint32
				flagged := false
				for _, r := range a.Untagged {
					if uids, ok := strings.CutPrefix(r.Text, "* VANISHED (EARLIER) "); ok {
						set, err := imaptest.ModelSet(uids)
						must(t, err)
						gone = append(gone, set...)
					}
					flagged = flagged || strings.Contains(r.Text, "UID 3") && strings.Contains(r.Text, `\Flagged`)
				}
				if !slices.Contains(gone, 2) || !slices.Contains(gone, 5) {
					t.Errorf("from %d on it never hears that 2 and 5 are gone: %v", w.highest, a.Untagged)
				}
				known := fmt.Sprint(w.model.Belief())
				if !flagged && !strings.Contains(known, `{3 [\Flagged]`) {
					t.Errorf("from %d on it never hears of UID 3's flag: %v, knowing %s", w.highest, a.Untagged, known)
				}
			})
		}
	})
}
