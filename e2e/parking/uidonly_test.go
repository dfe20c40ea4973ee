package parking

import (
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// A client that has enabled UIDONLY (RFC 9586) is parked. It is told by UID of what has changed, without EXPUNGE
// and FETCH, also behind a resume; its commands by number are refused by the backend, as if it had stayed attached.
func aClientOfUIDOnlyIsParked(t *testing.T, s *site) {
	if !newLab(t, s, labOptions{}).knows("UIDONLY") {
		return // Debian 12's Cyrus doesn't know it, mox and Debian 13's do
	}
	for _, quiet := range []bool{false, true} {
		for _, dialect := range []imaptest.ModelDialect{imaptest.ModelPlain, imaptest.ModelQResync} {
			if quiet && dialect != imaptest.ModelPlain {
				continue // which isn't parked outside IDLE
			}
			name := map[bool]string{false: "idle", true: "quiet"}[quiet] + map[bool]string{true: ", QRESYNC"}[dialect == imaptest.ModelQResync]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, labOptions{quietAfter: map[bool]time.Duration{true: time.Nanosecond}[quiet], warmFor: -1})
				user := l.newUser()
				d := l.writer(user, "INBOX", 4)
				w := imaptest.NewModelWatcher(l.login(user), dialect, d.Truth)
				w.Model.UIDOnly = true
				w.MustOK("ENABLE UIDONLY%s", map[bool]string{true: " QRESYNC"}[dialect == imaptest.ModelQResync])
				w.MustOK("SELECT INBOX")
				w.Say("UID FETCH 1:* (FLAGS)")
				if quiet {
					l.parked(w.Client)
					d.Append(1)
					d.Expunge(2)
					d.Flag(3, `\Flagged`)
					w.Say("UID FETCH 1:* (FLAGS)")
					w.Say("NOOP")
					w.Agrees(d.Truth)
				}
				w.BeginIdle()
				l.parked(w.Client)
				d.Append(1)
				w.Counts(len(d.Truth.Messages))
				d.Expunge(1)
				w.Counts(len(d.Truth.Messages))
				w.EndIdle()
				d.Append(1)
				d.Expunge(3)
				d.Flag(4, `\Flagged`)
				gone := w.Heard["VANISHED"]
				w.Model.Begin("UID FETCH")
				w.Write("n1 FETCH 1 (UID)")
				heard, tagged := w.HearUntil("n1")
				if tagged.Status() != "BAD" || tagged.Code() != "UIDREQUIRED" {
					t.Errorf("answered by %v", tagged)
				}
				if !slices.ContainsFunc(heard, func(r imaptest.Response) bool { return strings.Contains(r.Text, "VANISHED") }) || w.Heard["VANISHED"] == gone {
					t.Errorf("not told of what went before %v: %v", tagged, heard)
				}
				w.Say("UID FETCH 1:* (FLAGS)")
				w.Say("NOOP")
				w.Agrees(d.Truth)
				w.MustOK("LOGOUT")
			})
		}
	}
}
