package session

import (
	"fmt"
	"testing"

	"imapproxy/proxy/park/view"
)

// Every phase except the end may be followed by the end, the end by no phase, and each phase can be reached
// from the first.
func TestPhasesFollowEachOther(t *testing.T) {
	reached := map[phase]bool{phasePrelogin: true}
	for p := range phase(len(phases)) {
		if !reached[p] {
			t.Errorf("nothing leads to %s", p)
		}
		if p.mayPrecede(phaseEnd) != (p != phaseEnd) {
			t.Errorf("%s may be followed by the end: %v", p, p.mayPrecede(phaseEnd))
		}
		for _, next := range phases[p].before {
			reached[next] = true
		}
	}
}

// A phase that follows one that it may not follow is reported as a bug.
func TestAnIllegalPhaseIsFound(t *testing.T) {
	for from := range phase(len(phases)) {
		for to := range phase(len(phases)) {
			found := ""
			s := bare(t, from)
			s.env.Bug = func(what string) { found = what }
			s.change(to)
			if want := fmt.Sprintf("session %s: %s follows %s", s.id, to, from); (found == want) == from.mayPrecede(to) || found != "" && found != want {
				t.Errorf("%s, then %s: %q", from, to, found)
			}
		}
	}
}

// A signal is taken once, by the phase that it is for, and never by a session that ends.
func TestASignalIsForThePhaseThatTakesIt(t *testing.T) {
	relaying := bare(t, phaseRelay)
	for _, g := range []Signal{SigTell, SigAlive, SigLostWatch, SigOff, SigDoubt} {
		if relaying.Signal(g) {
			t.Errorf("a relay takes signal %b", g)
		}
	}
	relaying.Terminate(ReasonKicked)
	if relaying.Signal(SigPause) {
		t.Error("a session that ends takes a signal")
	}

	parked := bare(t, phaseParked)
	for _, step := range []struct {
		signal Signal
		taken  bool
	}{{SigTell, true}, {SigTell, false}, {SigOff, true}, {SigDoubt, false}, {SigAlive, true}, {SigPause, false}} {
		if got := parked.Signal(step.signal); got != step.taken {
			t.Errorf("signal %b is taken: %v", step.signal, got)
		}
	}
	if got := parked.takeSignals(false); got != SigTell|SigOff|SigAlive || parked.takeSignals(false) != 0 {
		t.Errorf("pending: %b", got)
	}
}

// A session that ends by itself while another goroutine ends it is counted as gone once.
func TestASessionThatEndsTwiceAtOnceIsCountedOnce(t *testing.T) {
	s := bare(t, phaseParked)
	r := s.env.Registry
	for at := range Attachment(len(attachmentNames)) {
		r.counts[at].Store(0)
	}
	r.counts[Parked].Store(1)
	s.setReason(ReasonShutdown) // Terminate has done its first step
	s.change(phaseEnd)
	r.remove(s)
	s.show(Ended) // and its second
	for at := range Attachment(len(attachmentNames)) {
		if n := r.Count(at); n != 0 {
			t.Errorf("%d sessions %s, and there is none", n, at)
		}
	}
}

// A session that has been resumed ignores what the hub sends it for the time when it was parked.
func TestAMailboxThatWasGoneEndsNobodyWhoHasComeBack(t *testing.T) {
	s := bare(t, phaseParked)
	s.park.view = &view.View{}
	m := s.member()
	s.change(phaseResume)
	s.change(phaseRelay)
	m.Gone(fmt.Errorf("NO"))
	if r := s.Reason(); r != "" {
		t.Errorf("it has ended: %s", r)
	}
}

// A session that is parked when its mailbox is gone ends.
func TestAMailboxThatIsGoneEndsAParkedSession(t *testing.T) {
	s := bare(t, phaseParked)
	s.park.view = &view.View{}
	s.member().Gone(fmt.Errorf("NO"))
	if r := s.Reason(); r != ReasonMailboxGone {
		t.Errorf("it has ended: %q", r)
	}
}
