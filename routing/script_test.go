package routing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/telemetry"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) after(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTestRouter(t testing.TB, o Options) (*Router, *clock) {
	t.Helper()
	c := newClock()
	o.Now = c.Now
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

// parseFleet reads words such as b1, b2=draining, b3=up/50, b4=down, b5=pending.
func parseFleet(t testing.TB, words ...string) Snapshot {
	t.Helper()
	s := Snapshot{Source: "test"}
	for _, w := range words {
		id, rest, _ := strings.Cut(w, "=")
		state, weight, weighted := strings.Cut(rest, "/")
		b := Backend{ID: id, Address: id + ".test:143", Weight: 100}
		b.Pending = state == "pending"
		if state != "" && !b.Pending {
			if err := b.State.UnmarshalText([]byte(state)); err != nil {
				t.Fatal(err)
			}
		}
		if weighted {
			n, err := strconv.Atoi(weight)
			if err != nil {
				t.Fatal(err)
			}
			b.Weight = n
		}
		s.Backends = append(s.Backends, b)
	}
	return s
}

// userFor returns the name of a user whose order of the backends is the given
// one, when their weights are equal.
func userFor(ids ...string) string {
	for n := 0; ; n++ {
		user := "user" + strconv.Itoa(n)
		ranked := slices.Clone(ids)
		slices.SortFunc(ranked, func(a, b string) int {
			if score(bucketHash(Bucket(user)), keyHash(a), 1) > score(bucketHash(Bucket(user)), keyHash(b), 1) {
				return -1
			}
			return 1
		})
		if slices.Equal(ranked, ids) {
			return user
		}
	}
}

// script runs steps, one a line:
//
//	fleet b1 b2=draining b3=up/0        an answer of discovery
//	pick NAME USER [at ID] [tried ID,ID] = BACKEND WHY | ERROR
//	confirm NAME = true|false           the backend accepted the login
//	rest NAME = true|false, hold NAME = true|false    it parks, it has a connection again
//	trials = IDs | none                 for which backends a probe is due
//	release NAME
//	void NAME = true|false              whether the session must leave
//	fail ID, ok ID                      a dial's report
//	after 10s
//	pins USER = ID | none
//	state ID = up|draining|down|absent [kept] [gone]
//
// The user u123 is one who prefers b1, then b2, then b3. ERROR is one of the
// words in scriptErrors.
type script struct {
	t     *testing.T
	r     *Router
	c     *clock
	picks map[string]*Pick
}

var scriptErrors = map[string]error{
	"not-ready": ErrNotReady, "no-backend": ErrNoBackend, "no-placement": ErrNoPlacement,
	"unknown-placement": ErrUnknownPlacement, "down": ErrBackendDown,
}

func runScript(t *testing.T, o Options, text string) {
	t.Helper()
	r, c := newTestRouter(t, o)
	s := &script{t: t, r: r, c: c, picks: make(map[string]*Pick)}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line, want, _ := strings.Cut(line, " = ")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		want = strings.TrimSpace(want)
		if got := s.step(words); got != want {
			t.Fatalf("step %d: %s\n got  %q\n want %q", i+1, strings.TrimSpace(line), got, want)
		}
	}
}

func (s *script) step(words []string) string {
	s.t.Helper()
	switch verb, args := words[0], words[1:]; verb {
	case "fleet":
		s.r.Apply(parseFleet(s.t, args...))
	case "pick":
		return s.pick(args)
	case "confirm":
		return strconv.FormatBool(s.picks[args[0]].Confirm())
	case "rest":
		return strconv.FormatBool(s.picks[args[0]].Rest())
	case "hold":
		return strconv.FormatBool(s.picks[args[0]].Hold())
	case "trials":
		var due []string
		for _, b := range s.r.Trials() {
			due = append(due, b.ID)
		}
		slices.Sort(due)
		return cmp.Or(strings.Join(due, " "), "none")
	case "release":
		s.picks[args[0]].Release()
	case "void":
		return strconv.FormatBool(s.picks[args[0]].voided())
	case "fail":
		s.r.ReportDialFailure(args[0], errors.New("connection refused"))
	case "ok":
		s.r.ReportDialSuccess(args[0])
	case "after":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.c.after(d)
	case "pins":
		pins := s.r.Pins(scriptUser(args[0]))
		if len(pins) == 0 {
			return "none"
		}
		return pins[0].Backend
	case "state":
		for _, b := range s.r.Backends() {
			if b.ID == args[0] {
				return strings.TrimSpace(fmt.Sprintf("%s %s %s", b.State, word(b.Kept, "kept"), word(b.Gone, "gone")))
			}
		}
		return "absent"
	default:
		s.t.Fatalf("no such step: %s", verb)
	}
	return ""
}

func word(is bool, w string) string {
	if is {
		return w
	}
	return ""
}

// scriptUser turns u123 into a name with that order; u123x is another user with it.
func scriptUser(s string) string {
	if !strings.HasPrefix(s, "u") || len(s) < 4 {
		return s
	}
	return userFor("b"+s[1:2], "b"+s[2:3], "b"+s[3:4])
}

func (s *script) pick(args []string) string {
	s.t.Helper()
	name, user := args[0], scriptUser(args[1])
	var placement string
	var tried []string
	for i := 2; i+1 < len(args); i += 2 {
		switch args[i] {
		case "at":
			placement = args[i+1]
		case "tried":
			tried = strings.Split(args[i+1], ",")
		default:
			s.t.Fatalf("no such argument: %s", args[i])
		}
	}
	p, err := s.r.Pick(user, placement, tried...)
	if err != nil {
		for w, known := range scriptErrors {
			if errors.Is(err, known) {
				return w
			}
		}
		return err.Error()
	}
	s.picks[name] = p
	return p.Backend.ID + " " + string(p.Why)
}
