package parking

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// watchQResync is watch for a client that caches, and what SELECT said of
// UIDVALIDITY.
func (l *lab) watchQResync(user, mailbox string, truth *imaptest.ModelMailbox) (w *imaptest.ModelWatcher, validity string) {
	l.t.Helper()
	w = imaptest.NewModelWatcher(l.login(user), imaptest.ModelQResync, truth)
	w.MustOK("ENABLE QRESYNC")
	for _, r := range w.MustOK("SELECT %s", mailbox).Untagged {
		if v, ok := strings.CutPrefix(r.Code(), "UIDVALIDITY "); ok {
			validity = v
		}
		w.Cache(r)
	}
	return w, validity
}

// Transcript 6: a client of QRESYNC parks, VANISHED is owed since it speaks by
// number, it is told of newer changes, and cut off. From the HIGHESTMODSEQ that it was
// told it learns of all that it missed. The MODSEQ of a FETCH doesn't count: Dovecot and
// Cyrus themselves, owing VANISHED, show newer ones than it has.
func aCachingClientThatIsCutWhileVanishedIsOwedMissesNothing(t *testing.T, s *site) {
	for _, command := range []string{"FETCH 1:* (FLAGS)", `STORE 4 +FLAGS (\Answered)`, "SEARCH ALL"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", 6)
			d.Flag(1, `\Seen`)
			w, validity := l.watchQResync(user, "INBOX", d.Truth)
			w.Say("UID FETCH 1:* (FLAGS)")
			w.BeginIdle()
			l.parked(w.Client)
			d.Flag(6, `\Seen`)
			w.Told("FETCH", 7) // six before
			done := l.Once(`SELECT "INBOX"`, func() {
				d.Expunge(2, 5)
				d.Flag(3, `\Flagged`)
				d.Append(1)
			})
			w.EndIdle()
			verb, _, _ := strings.Cut(command, " ")
			w.Model.Begin(verb)
			w.Write("x1 " + command)
			heard, tagged := w.HearUntil("x1") // NO [EXPUNGEISSUED], perhaps
			for _, r := range append(heard, tagged) {
				w.Cache(r)
			}
			l.happens(done, "a resume")
			if w.Heard["VANISHED"] > 0 {
				t.Fatal("VANISHED where it may not be told")
			}
			must(t, w.Reset())

			again := imaptest.Dial(t, l.Plain)
			again.Login(user, servers.Password)
			again.MustOK("ENABLE QRESYNC")
			a := again.MustOK("SELECT INBOX (QRESYNC (%s %d 1:6))", validity, w.Highest)
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
				t.Errorf("from %d on it never hears that 2 and 5 are gone: %v", w.Highest, a.Untagged)
			}
			known := fmt.Sprint(w.Model.Belief())
			if !flagged && !strings.Contains(known, `{3 [\Flagged]`) {
				t.Errorf("from %d on it never hears of UID 3's flag: %v, knowing %s", w.Highest, a.Untagged, known)
			}
		})
	}
}
