package routing

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) } // the package starts no goroutines

func sorted(s []string) []string { slices.Sort(s); return s }

// A session of the model: a pick and what became of it.
type modelSession struct {
	user  string
	pick  *Pick
	live  bool
	holds bool // it has a connection
}

// TestAUsersSessionsAreNeverOnTwoBackends drives a router by random events
// and compares with the invariants after each of them.
func TestAUsersSessionsAreNeverOnTwoBackends(t *testing.T) {
	for _, storage := range []Storage{Shared, Separate} {
		t.Run(storage.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { checkRouter(t, storage) })
		})
	}
}

func checkRouter(t *rapid.T, storage Storage) {
	c := newClock()
	r, err := New(Options{Storage: storage, Now: c.Now, PinGrace: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{"b1", "b2", "b3", "b4"}
	users := []string{"ann", "ben", "cid"}
	var sessions []*modelSession
	states := rapid.SampledFrom([]State{Up, Up, Up, Draining, Down})

	t.Repeat(map[string]func(*rapid.T){
		"fleet": func(t *rapid.T) {
			s := Snapshot{Source: "model"}
			for _, id := range ids {
				if rapid.IntRange(0, 5).Draw(t, "absent") > 0 {
					s.Backends = append(s.Backends, Backend{ID: id, Address: id + ":143",
						Weight: rapid.IntRange(0, 3).Draw(t, "weight"), State: states.Draw(t, id)})
				}
			}
			r.Apply(s)
		},
		"pick": func(t *rapid.T) {
			user := rapid.SampledFrom(users).Draw(t, "user")
			placement := rapid.SampledFrom([]string{"", "", "b1", "b2", "b9"}).Draw(t, "placement")
			tried := rapid.SampledFrom([][]string{nil, nil, {"b1"}, {"b2", "b3"}}).Draw(t, "tried")
			pick := func() (*Pick, error) { return r.Pick(user, placement, tried...) }
			if rapid.Bool().Draw(t, "unproved") {
				pick = func() (*Pick, error) { return r.PickUnproved(t.Context(), 0, user, placement, tried...) }
			}
			before := newReadTxn(r.db).pin(user)
			p, err := pick()
			if err != nil {
				return
			}
			if after := newReadTxn(r.db).pin(user); p.aside != nil && (after == nil || after != before || after.backend == p.Backend.ID) {
				t.Fatalf("a login that isn't proved has changed the pin %+v to %+v", before, after)
			}
			if slices.Contains(tried, p.Backend.ID) {
				t.Fatalf("%s was tried, and is given again", p.Backend.ID)
			}
			if p.Backend.State == Down {
				t.Fatalf("%s is down, and is given to %s", p.Backend.ID, user)
			}
			if storage == Separate && p.Backend.ID != placement {
				t.Fatalf("%s is placed on %q and was sent to %s", user, placement, p.Backend.ID)
			}
			sessions = append(sessions, &modelSession{user: user, pick: p})
		},
		"confirm": func(t *rapid.T) {
			if len(sessions) == 0 {
				return
			}
			s := rapid.SampledFrom(sessions).Draw(t, "session")
			voided, aside := s.pick.voided(), s.pick.aside != nil
			ok := s.pick.Confirm()
			if ok == voided && !aside { // aside it may be refused
				t.Fatalf("void is %v, confirm says %v", voided, ok)
			}
			if ok && !s.live {
				s.holds = true
			}
			s.live = s.live || ok // one that has to leave is there until it does
		},
		"park": func(t *rapid.T) {
			if len(sessions) == 0 {
				return
			}
			s := rapid.SampledFrom(sessions).Draw(t, "session")
			on, voided := rapid.Bool().Draw(t, "hold"), s.pick.voided()
			hold := s.pick.Rest
			if on {
				hold = s.pick.Hold
			}
			if ok := hold(); ok != (s.live && !voided) {
				t.Fatalf("live %v, void %v, hold says %v", s.live, voided, ok)
			} else if ok {
				s.holds = on
			}
		},
		"release": func(t *rapid.T) {
			if len(sessions) == 0 {
				return
			}
			i := rapid.IntRange(0, len(sessions)-1).Draw(t, "session")
			sessions[i].pick.Release()
			sessions[i].pick.Release() // once too often does nothing
			sessions = slices.Delete(sessions, i, i+1)
		},
		"fail":    func(t *rapid.T) { r.ReportDialFailure(rapid.SampledFrom(ids).Draw(t, "id"), errors.New("refused")) },
		"succeed": func(t *rapid.T) { r.ReportDialSuccess(rapid.SampledFrom(ids).Draw(t, "id")) },
		"time":    func(t *rapid.T) { c.after(time.Duration(rapid.IntRange(1, 400).Draw(t, "s")) * time.Second) },
		"": func(t *rapid.T) {
			checkInvariants(t, r, sessions)
		},
	})
}

func checkInvariants(t *rapid.T, r *Router, sessions []*modelSession) {
	var (
		where   = make(map[string]string) // user → backend of the sessions that may stay
		onPin   = make(map[string]int)
		holding = make(map[string]int)
		byHost  = make(map[string]int)
	)
	for _, s := range sessions {
		if s.live {
			byHost[s.pick.Backend.ID]++
		}
		if s.pick.voided() || s.pick.aside != nil {
			continue
		}
		if other, ok := where[s.user]; ok && other != s.pick.Backend.ID {
			t.Fatalf("%s is on %s and on %s", s.user, other, s.pick.Backend.ID)
		}
		where[s.user] = s.pick.Backend.ID
		onPin[s.user]++
		if s.holds {
			holding[s.user]++
		}
	}
	for user, id := range where {
		pin := newReadTxn(r.db).pin(user)
		if pin == nil || pin.backend != id || pin.sessions != onPin[user] || pin.holding != holding[user] {
			t.Fatalf("%s has %d sessions on %s; the pin is %+v", user, onPin[user], id, pin)
		}
	}
	// the counts agree with the tables
	pins := make(map[string]int)
	newReadTxn(r.db).pins(func(p *pinRow) bool { pins[p.backend]++; return true })
	for id := range pins {
		if newReadTxn(r.db).backend(id) == nil {
			t.Fatalf("users are pinned to %s, which has no row", id)
		}
	}
	for id, u := range r.usage() {
		if u.pins != pins[id] || u.sessions != byHost[id] {
			t.Fatalf("%s: counted %+v; there are %d pins and %d sessions", id, u, pins[id], byHost[id])
		}
		delete(pins, id)
	}
	for id, n := range pins {
		t.Fatalf("%d pins on %s are not counted", n, id)
	}
}

// TestNoUserMovesWhileTheirBackendIsWell: whatever happens to the others.
func TestNoUserMovesWhileTheirBackendIsWell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		r, err := New(Options{Storage: Shared, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		const n = 6
		fleet := func(states []State, weights []int) Snapshot {
			s := Snapshot{Source: "model"}
			for i := range states {
				s.Backends = append(s.Backends, Backend{ID: fmt.Sprint("b", i), Address: "x:1", Weight: weights[i], State: states[i]})
			}
			return s
		}
		states, weights := make([]State, n), []int{1, 1, 1, 1, 1, 1}
		r.Apply(fleet(states, weights))
		home := make(map[string]*Pick)
		for i := range 30 {
			user := fmt.Sprint("user", i)
			p, err := r.Pick(user, "")
			if err != nil || !p.Confirm() {
				t.Fatal(err)
			}
			home[user] = p
		}
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			i := rapid.IntRange(0, n-1).Draw(t, "which")
			states[i] = rapid.SampledFrom([]State{Up, Draining, Down}).Draw(t, "state")
			weights[i] = rapid.IntRange(0, 9).Draw(t, "weight")
			r.Apply(fleet(states, weights))
			c.after(time.Duration(rapid.IntRange(0, 50).Draw(t, "s")) * time.Second)
		}
		for user, first := range home {
			var i int
			fmt.Sscanf(first.Backend.ID, "b%d", &i)
			if states[i] == Down {
				continue
			}
			again, err := r.Pick(user, "")
			if err != nil || again.Backend.ID != first.Backend.ID || first.voided() {
				t.Fatalf("%s was on %s, which is %v; now %v %v", user, first.Backend.ID, states[i], again, err)
			}
		}
	})
}

func TestPicksOfOneUserAtOnceAgree(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3", "b4", "b5"))
	const users, each = 40, 8
	got := make([][]*Pick, users)
	stop := make(chan struct{})
	var storm, logins sync.WaitGroup
	storm.Go(func() { // the fleet changes all the while; no user's backend goes down
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				fleet := []string{"b1", "b2", "b3", "b4", "b5"}
				fleet[i%5] += "=draining"
				r.Apply(parseFleet(t, fleet...))
			}
		}
	})
	for u := range users {
		got[u] = make([]*Pick, each)
		for i := range each {
			logins.Go(func() {
				p, err := r.Pick(fmt.Sprint("user", u), "")
				if err != nil || !p.Confirm() {
					t.Errorf("user%d: %v", u, err)
					return
				}
				got[u][i] = p
			})
		}
	}
	logins.Wait()
	close(stop)
	storm.Wait()
	for u, picks := range got {
		for _, p := range picks {
			if p != nil && p.Backend.ID != picks[0].Backend.ID {
				t.Errorf("user%d is on %s and %s", u, picks[0].Backend.ID, p.Backend.ID)
			}
		}
	}
}

func TestFailoversAtOnceAgree(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	user := userFor("b1", "b2", "b3")
	picks := make([]*Pick, 16)
	var logins sync.WaitGroup
	for i := range picks {
		logins.Go(func() { // as a session does, whose first backend refuses
			var tried []string
			for {
				p, err := r.Pick(user, "", tried...)
				if err != nil {
					t.Error(err)
					return
				}
				if p.Backend.ID == "b1" {
					r.ReportDialFailure("b1", errors.New("refused"))
					tried = append(tried, "b1")
					p.Release()
					continue
				}
				if p.Confirm() {
					picks[i] = p
					return
				}
				p.Release()
			}
		})
	}
	logins.Wait()
	for _, p := range picks {
		if p == nil || p.Backend.ID != "b2" || p.voided() {
			t.Errorf("a session is on %+v", p)
		}
	}
}

func TestPinsEndWithoutAnyoneWaitingForThem(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared, PinGrace: time.Minute})
	r.Apply(parseFleet(t, "b1", "b2"))
	for i := range 1000 {
		p, err := r.Pick(fmt.Sprint("user", i), "")
		if err != nil || !p.Confirm() {
			t.Fatal(err)
		}
		p.Release()
	}
	if n := len(r.Pins("")); n != 1000 {
		t.Fatalf("%d pins", n)
	}
	c.after(time.Minute)
	if n := len(r.Pins("")); n != 0 {
		t.Errorf("%d pins are shown after their end", n)
	}
	for i := range 100 { // a little traffic takes them away
		p, err := r.Pick(fmt.Sprint("new", i), "")
		if err != nil {
			t.Fatal(err)
		}
		p.Release()
	}
	left := 0
	newReadTxn(r.db).pins(func(*pinRow) bool { left++; return true })
	if left != 0 {
		t.Errorf("%d ended pins are still in the table", left)
	}
}

func TestReloadChangesTheGraceOfThoseAlreadyIdle(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared, PinGrace: time.Hour})
	r.Apply(parseFleet(t, "b1"))
	p, err := r.Pick("ann", "")
	if err != nil || !p.Confirm() {
		t.Fatal(err)
	}
	p.Release()
	c.after(2 * time.Minute)
	if err := r.Reload(Options{Storage: Shared, PinGrace: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if pins := r.Pins("ann"); len(pins) != 0 {
		t.Errorf("ann is still pinned: %+v", pins)
	}
	if err := r.Reload(Options{}); err == nil {
		t.Error("settings without storage are taken")
	}
}
