package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/upstream"
)

// A backend whose answer waits for a client that doesn't read isn't silent, however long that takes.
func TestAClientThatDoesntReadIsntTheBackendsSilence(t *testing.T) {
	const size = 64 << 20 // more than fits between the two
	backend := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.SendRaw(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)\r\n", size, strings.Repeat("x", size))); err != nil {
			return err
		}
		return c.Send(cmd.Tag() + " OK done")
	}}))
	r := newRig(t, backend)
	c := r.login("alice")
	s := r.only()
	c.Write("f FETCH 1 BODY[]")
	eventually(t, "an answer that waits for the client", func() bool {
		owed, owes := s.inFlight.Owed()
		_, waits := s.unanswered(s.backend.Load(), time.Now().Add(time.Hour), owed, owes)
		return s.inFlight.Waiting() > 0 && !waits
	})
}

// The sweep looks at a connection that its session gives back at the same time: the handle that the session had
// can't be used any more.
func TestASweepDoesntUseAConnectionThatWasGivenBack(t *testing.T) {
	silent := make(chan struct{})
	backend := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"NOOP": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		close(silent)
		return c.StallForever()
	}}))
	r := newRig(t, backend)
	c := r.login("alice")
	s := r.only()
	c.Write("n NOOP")
	<-silent
	eventually(t, "an outstanding answer", func() bool { _, owes := s.inFlight.Owed(); return owes })
	now := s.backend.Load()
	before := &upstream.Conn{Conn: now.Conn, Target: now.Target}
	before.Progress.Hears(time.Now())
	s.backend.Store(before)
	given := false
	giveBack := func() {
		given = true
		before.Conn = nil // as upstream.Conn.HandOver does
		s.backend.Store(now)
	}
	r.reads.Store(&giveBack) // between two steps of the sweep
	s.noticeStall(time.Now())
	if !given {
		t.Fatal("the connection wasn't given back")
	}
}

func TestStallsOfABackend(t *testing.T) {
	var st Stalls
	note := func(user string, silent, alive bool) verdict { return st.note("b1", user, silent, alive) }
	round := func(alive bool, users ...string) (suspects []string, found verdict) {
		for _, u := range users {
			note(u, true, false)
		}
		if alive {
			note("other", false, true)
		}
		suspects = st.EndRound()
		return suspects, note("other", false, false)
	}
	for _, c := range []struct {
		what  string
		alive bool
		users []string
		want  verdict
	}{
		{what: "none waits"},
		{what: "few wait", users: []string{"a", "b", "c"}},
		{what: "sessions of one user", users: []string{"a", "a", "a", "a"}},
		{what: "several wait", users: []string{"a", "b", "c", "d"}, want: verdict{all: true}},
		{what: "one is answered", users: []string{"a", "b", "c", "d"}, alive: true},
		{what: "several wait again", users: []string{"a", "b", "c", "d", "e"}, want: verdict{all: true}},
		{what: "none waits any more", alive: true},
	} {
		suspects, got := round(c.alive, c.users...)
		if got != c.want || slices.Equal(suspects, []string{"b1"}) != (len(c.users) > 0) {
			t.Errorf("%s: %+v, suspects %q", c.what, got, suspects)
		}
	}
	if len(st.backends) != 0 {
		t.Error("a backend at which none waits is kept")
	}
	st.Probed("b1", time.Now(), true) // too late
	round(false, "a")
	began := time.Now()
	st.Probed("b1", began, true)
	if got := note("a", true, false); !got.failed.Equal(began) {
		t.Errorf("a failed probe: %+v", got)
	}
	st.Probed("b1", time.Now(), false)
	if got := note("a", true, false); !got.failed.IsZero() {
		t.Errorf("a probe that succeeds: %+v", got)
	}
}
