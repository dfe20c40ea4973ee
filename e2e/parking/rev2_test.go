package parking

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// A client that has enabled IMAP4rev2 is parked. It is told of no RECENT, its mailbox' name is in UTF-8, as it
// said it, and its searches are answered by ESEARCH (RFC 9051 appendix E), also by numbers of before.
func aClientOfRev2IsParked(t *testing.T, s *site) {
	const name, utf7 = "R&D Gr\xc3\xbcn", "R&-D Gr&APw-n"
	if s.Kind == "cyrus" && !newLab(t, s, labOptions{}).knows("IMAP4rev2") {
		return // Debian 12's Cyrus doesn't know it, mox and Debian 13's do
	}
	for _, quiet := range []bool{false, true} {
		t.Run(map[bool]string{false: "idle", true: "quiet"}[quiet], func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{quietAfter: map[bool]time.Duration{true: time.Nanosecond}[quiet], warmFor: -1})
			user := l.newUser()
			d := l.writer(user, `"`+utf7+`"`, 4)
			w := imaptest.NewModelWatcher(l.login(user), imaptest.ModelPlain, d.Truth)
			w.MustOK("ENABLE IMAP4rev2")
			w.MustOK(`SELECT "` + name + `"`)
			w.Say("UID FETCH 1:* (FLAGS)")
			if quiet {
				l.parked(w.Client)
				d.Append(1)
				d.Expunge(2)
				w.Say("NOOP")
				w.Agrees(d.Truth)
			}
			w.BeginIdle()
			l.parked(w.Client)
			d.Append(1)
			w.Counts(len(d.Truth.Messages))
			w.EndIdle()
			d.Expunge(1) // owed to a client that searches by number
			w.Model.Begin("SEARCH")
			w.Write("s1 SEARCH ALL")
			heard, tagged := w.HearUntil("s1")
			if tagged.Status() != "OK" {
				t.Fatal(tagged)
			}
			found := false
			for _, r := range heard {
				found = found || strings.HasPrefix(r.Text, `* ESEARCH (TAG "s1")`)
			}
			if !found || w.Heard["EXPUNGE"] > 1 {
				t.Errorf("answered by %v", heard)
			}
			w.Agrees(d.Truth)
			if w.Heard["RECENT"] > 0 {
				t.Error("told of RECENT")
			}
			if a := w.MustOK(`STATUS "` + name + `" (MESSAGES)`); !strings.Contains(a.String(), "Gr\xc3\xbcn") {
				t.Errorf("not in IMAP4rev2: %v", a)
			}
			w.MustOK("LOGOUT")
		})
	}
}

// knows says whether the server has a capability after login.
func (l *lab) knows(capability string) bool {
	l.t.Helper()
	a := l.direct(l.newUser()).MustOK("CAPABILITY")
	return strings.Contains(" "+a.String()+" ", " "+capability+" ")
}
