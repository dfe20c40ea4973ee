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

// What a NOOP of a parked session costs its backend: four lines on a watch that idles (DONE,
// UNSELECT, EXAMINE, IDLE), three on a warm connection (ENABLE, EXAMINE, UNSELECT). The times,
// beside those of an attached session, are logged and not judged.
func whatANOOPCosts(t *testing.T, s *site) {
	const rounds = 20
	l := newLab(t, s, labOptions{})
	user := l.newUser()
	d := l.writer(user, "INBOX", 300)
	w := l.watch(user, "INBOX", d.Truth)
	attached := l.login(user)
	attached.MustOK("SELECT INBOX")
	w.BeginIdle()
	l.parked(w.Client)
	w.EndIdle()
	w.Say("NOOP")
	before := len(l.Sent())
	began := time.Now()
	for range rounds {
		w.Say("NOOP")
	}
	parked := time.Since(began) / rounds
	if n := len(l.Sent()) - before; n > 4*rounds+8 { // the last one's, and the watch going back to IDLE
		t.Errorf("%d lines to the backend for %d NOOPs", n, rounds)
	}
	began = time.Now()
	for range rounds {
		attached.MustOK("NOOP")
	}
	t.Logf("a NOOP: parked %v, attached %v", parked, time.Since(began)/rounds)
}
