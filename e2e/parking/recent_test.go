package parking

import (
	"strings"
	"testing"
)

// \Recent is a client's whose session saw the message first (RFC 3501 §2.3.2). What the proxy does
// by itself takes it from no client; the SELECT of a resume takes it for the client that is
// resumed.
func whoseIsRecent(t *testing.T, s *site) {
	for name, c := range map[string]struct {
		o    labOptions
		own  bool // the client comes back, and asks
		left string
	}{
		"another client's": {labOptions{}, false, "1"},
		"the client's own": {labOptions{warmFor: -1}, true, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, c.o)
			user := l.newUser()
			d := l.writer(user, "INBOX", 2)
			d.MustOK("UNSELECT")
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			d.Append(1)
			w.Told("EXISTS", 1) // the watch and its resync have seen it
			if c.own {
				w.EndIdle()
				recent := false
				for _, r := range w.Say("UID FETCH 3 (FLAGS)") {
					recent = recent || strings.Contains(r.Text, `\Recent`)
				}
				if !recent {
					t.Error("what came while it was parked isn't recent to the client")
				}
			}
			a := l.direct(user).MustOK("SELECT INBOX")
			if r, ok := a.Find("RECENT"); !ok || r.Word(1) != c.left {
				t.Errorf("the next client is told %v", a.Untagged)
			}
		})
	}
}
