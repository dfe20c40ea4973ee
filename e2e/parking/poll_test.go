package parking

import (
	"testing"
	"time"
)

// A NOOP is a poll (RFC 9051 §6.1.2): it sees what another's command or a delivery has
// changed before it was said, whatever hints there are and however late they are.
func aNOOPSeesWhatWasAcknowledged(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{quietAfter: time.Nanosecond})
	user := l.newUser()
	d := l.writer(user, "INBOX", 3)
	w := l.watch(user, "INBOX", d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	for round := range 5 {
		l.parked(w.Client)
		d.Append(1)
		w.Say("NOOP")
		if n := len(d.Truth.Messages); w.Model.Count() != n {
			t.Errorf("round %d: NOOP right behind an APPEND: the client counts %d, there are %d", round, w.Model.Count(), n)
		}
		l.parked(w.Client)
		d.Expunge(d.Truth.UIDs()[0])
		w.Say("NOOP")
		if n := len(d.Truth.Messages); w.Model.Count() != n {
			t.Errorf("round %d: NOOP right behind an EXPUNGE: the client counts %d, there are %d", round, w.Model.Count(), n)
		}
	}
	// A FETCH that sets \Seen is acknowledged with its flags.
	l.parked(w.Client)
	before := w.Heard["FETCH"]
	d.MustOK("FETCH 1 (BODY[])")
	w.Say("NOOP")
	if w.Heard["FETCH"] == before {
		t.Error(`NOOP right behind a FETCH that sets \Seen told of no flags`)
	}
}
