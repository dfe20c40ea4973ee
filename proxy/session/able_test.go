package session

import (
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
)

// changing is a backend whose capabilities after login change when the test says so; all its connections break at a CHECK.
func changing(caps *atomic.Pointer[string]) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		list := *caps.Load()
		return imaptest.Dialogue{LoginCaps: list, Commands: map[string]imaptest.CommandFunc{
			"LSUB": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				if *caps.Load() != list {
					return io.EOF // it was restarted meanwhile
				}
				return c.Send(cmd.Tag() + " OK done")
			},
			"*": func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") },
		}}.Serve(c)
	}
}

// A backend is restarted with other capabilities while a session is attached, and while it is parked.
func TestABackendIsRestartedWithOtherCapabilities(t *testing.T) {
	const before = "IMAP4rev1 IDLE UNSELECT LITERAL+ MOVE"
	for name, test := range map[string]struct {
		after string
		told  string // of the untagged list that the client is sent; "": it is sent none
		lists string // what CAPABILITY is answered later
		ends  bool
	}{
		"the same":              {after: before, lists: before},
		"in another order":      {after: "IMAP4rev1 MOVE IDLE UNSELECT LITERAL+", lists: "IMAP4rev1 MOVE IDLE UNSELECT LITERAL+"},
		"less, that isn't used": {after: "IMAP4rev1 IDLE UNSELECT LITERAL+", told: "IMAP4rev1 IDLE UNSELECT LITERAL+", lists: "IMAP4rev1 IDLE UNSELECT LITERAL+"},
		"without LITERAL+":      {after: "IMAP4rev1 IDLE UNSELECT MOVE", ends: true},
		"without IDLE":          {after: "IMAP4rev1 UNSELECT LITERAL+ MOVE", ends: true},
		"more":                  {after: before + " SORT", lists: before},
		"other":                 {after: "IMAP4rev1 IDLE UNSELECT LITERAL+ SORT", told: "IMAP4rev1 IDLE UNSELECT LITERAL+", lists: "IMAP4rev1 IDLE UNSELECT LITERAL+"},
	} {
		for _, parks := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", attached", true: ", parked"}[parks], func(t *testing.T) {
				var caps atomic.Pointer[string]
				list := before
				caps.Store(&list)
				backend := imaptest.NewBackend(t, changing(&caps))
				r := newRig(t, backend, func(set *Settings) { set.Park.QuietAfter = time.Nanosecond })
				c := r.login("alice")
				s := r.only()
				caps.Store(&test.after)
				if parks {
					r.parked()
					r.pool.ForgetUser("alice")
				}
				c.Write(`c LSUB "" *`)
				if test.ends {
					if line := c.Read().Text; !strings.HasPrefix(line, "* BYE [UNAVAILABLE] The mail server can do less") {
						t.Errorf("the client is told %q", line)
					}
					r.ended(s, ReasonCapabilities)
					return
				}
				line := c.Read().Text
				if test.told != "" {
					if line != "* CAPABILITY "+test.told {
						t.Errorf("the client is told %q, not what is left", line)
					}
					line = c.Read().Text
				}
				if !strings.HasPrefix(line, "c OK") {
					t.Errorf("the command is answered %q", line)
				}
				c.Write("d CAPABILITY")
				if line := c.Read().Text; line != "* CAPABILITY "+test.lists {
					t.Errorf("the list is %q, want %q", line, test.lists)
				}
			})
		}
	}
}

// What a session relies on is more than what its client has enabled.
func TestWhatASessionReliesOn(t *testing.T) {
	for _, test := range []struct{ enabled, told, missing, want string }{
		{"", "IMAP4rev1 MOVE SORT", "MOVE SORT", ""},
		{"", "IMAP4rev1 LITERAL+", "LITERAL+ MOVE", "LITERAL+"},
		{"", "IMAP4rev1 LITERAL-", "LITERAL-", "LITERAL-"},
		{"", "IMAP4rev1 IMAP4rev2", "IMAP4rev2", "IMAP4rev2"},
		{"", "IMAP4rev1 ENABLE CONDSTORE", "ENABLE CONDSTORE", ""},
		{"CONDSTORE", "IMAP4rev1 ENABLE CONDSTORE", "ENABLE CONDSTORE", "ENABLE CONDSTORE"},
		{"UTF8=ACCEPT", "IMAP4rev1 ENABLE UTF8=ACCEPT", "utf8=accept", "utf8=accept"},
		{"UIDONLY", "IMAP4rev1 ENABLE UIDONLY MOVE", "UIDONLY MOVE", "UIDONLY"},
		{"METADATA", "IMAP4rev1 ENABLE METADATA", "METADATA", "METADATA"},
	} {
		s := bare(t, phaseParked)
		s.set = &Settings{}
		s.caps.Store(&backendCaps{list: strings.Fields(test.told)})
		s.inFlight.Client.Enabled = strings.Fields(test.enabled)
		if got := s.needs(wire.ParseCaps([]byte(test.missing))).String(); got != test.want {
			t.Errorf("%q enabled, %q missing: it relies on %q, want %q", test.enabled, test.missing, got, test.want)
		}
	}
}

// With several backends a session goes on at one that has what the first lacks by now.
func TestASessionGoesWhereItsCapabilitiesAre(t *testing.T) {
	const full, less = "IMAP4rev1 IDLE UNSELECT LITERAL+", "IMAP4rev1 IDLE UNSELECT"
	for _, parks := range []bool{false, true} {
		t.Run(map[bool]string{false: "attached", true: "parked"}[parks], func(t *testing.T) {
			lists := map[string]*atomic.Pointer[string]{"b1": {}, "b2": {}}
			var all []routing.Backend
			backends := map[string]*imaptest.Backend{}
			for id, caps := range lists {
				list := full
				caps.Store(&list)
				backends[id] = imaptest.NewBackend(t, changing(caps))
				all = append(all, routing.Backend{ID: id, Address: backends[id].Addr, Weight: 1})
			}
			r := newRig(t, backends["b1"], func(set *Settings) {
				set.Park.QuietAfter = time.Nanosecond
				set.Router.Apply(routing.Snapshot{Source: "test", Backends: all})
			})
			c := r.login("alice")
			s := r.only()
			first := s.picked().Backend.ID
			changed := less
			lists[first].Store(&changed)
			if parks {
				r.parked()
				r.pool.ForgetUser("alice")
			}
			c.MustOK(`LSUB "" *`)
			if now := s.picked().Backend.ID; now == first {
				t.Errorf("it stays at %s", now)
			}
			if s.Reason() != "" {
				t.Errorf("it has ended: %s", s.Reason())
			}
		})
	}
}

// The hub makes a watch's login, which asks what the session relies on, while the session's client enables something.
func TestAWatchAsksWhatASessionReliesOn(t *testing.T) {
	s := bare(t, phaseRelay)
	s.set = &Settings{}
	s.inFlight.Init(true, false)
	s.caps.Store(&backendCaps{list: wire.ParseCaps([]byte("IMAP4rev1 ENABLE CONDSTORE UTF8=ACCEPT"))})
	asked := make(chan struct{})
	go func() { // ends with the receive below
		defer close(asked)
		for !s.needs(wire.Caps{"CONDSTORE"}).Has("CONDSTORE") {
			runtime.Gosched()
		}
	}()
	s.inFlight.Untagged(wire.ParseResponseHead([]byte("* ENABLED CONDSTORE UTF8=ACCEPT\r\n")), true)
	<-asked
}
