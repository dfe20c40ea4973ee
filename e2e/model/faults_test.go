package model

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
)

// memoryIdle is the stack in which faults are planted.
func memoryIdle() labOptions {
	return labOptions{start: memory(imaptest.ModelServerOptions{QResync: true}), watch: "idle", settle: 2 * time.Second}
}

// every n-th, from the second on.
type every struct{ n, count int }

func (e *every) now() bool {
	e.count++
	return e.count%e.n == min(2, e.n-1)
}

// faults are errors that a proxy could make in its responses and in translated numbers. Each is planted in the
// responses to a client, and is made anew for each connection.
var faults = map[string]func() fault{
	"a dropped EXPUNGE": func() fault {
		e := every{n: 4}
		return func(r imaptest.Response) []imaptest.Response {
			if takesAway(r) && e.now() {
				return nil
			}
			return []imaptest.Response{r}
		}
	},
	"an EXPUNGE told twice": func() fault {
		e := every{n: 5}
		return func(r imaptest.Response) []imaptest.Response {
			if takesAway(r) && e.now() {
				return []imaptest.Response{r, r}
			}
			return []imaptest.Response{r}
		}
	},
	"a shifted number": func() fault {
		e := every{n: 30}
		return func(r imaptest.Response) []imaptest.Response {
			f := strings.SplitN(r.Text, " ", 3)
			if r.Tag() == "*" && r.Word(2) == "FETCH" && r.Word(1) != "1" && e.now() {
				r.Text = "* " + strconv.Itoa(atoi(f[1])-1) + " " + f[2]
			}
			return []imaptest.Response{r}
		}
	},
	"a search that finds the one before": func() fault {
		e := every{n: 2}
		return func(r imaptest.Response) []imaptest.Response {
			f := strings.Fields(r.Text)
			if r.Word(1) == "SEARCH" && len(f) == 3 && f[2] != "1" && e.now() {
				r.Text = "* SEARCH " + strconv.Itoa(atoi(f[2])-1)
			}
			return []imaptest.Response{r}
		}
	},
	"VANISHED that says too much": func() fault {
		e := every{n: 3}
		return func(r imaptest.Response) []imaptest.Response {
			f := strings.Fields(r.Text)
			if r.Word(1) == "VANISHED" && len(f) == 3 && e.now() {
				last := f[2][strings.LastIndexAny(f[2], ",:")+1:]
				r.Text += "," + strconv.Itoa(atoi(last)+1)
			}
			return []imaptest.Response{r}
		}
	},
	"an EXPUNGE of the mailbox that is left": func() fault { return beforeClosed("* 1 EXPUNGE") },
	"EXISTS of the mailbox that is left":     func() fault { return beforeClosed("* 999 EXISTS") },
	"a mailbox that is left goes on": func() fault {
		return func(r imaptest.Response) []imaptest.Response {
			if strings.HasSuffix(r.Text, "OK UNSELECT completed") {
				return []imaptest.Response{{Text: "* 4 EXISTS"}, r}
			}
			return []imaptest.Response{r}
		}
	},
	"EXISTS that shrinks": func() fault {
		e := every{n: 6}
		return func(r imaptest.Response) []imaptest.Response {
			if r.Word(2) == "EXISTS" && atoi(r.Word(1)) > 2 && e.now() {
				late := r
				late.Text = "* " + strconv.Itoa(atoi(r.Word(1))-1) + " EXISTS"
				return []imaptest.Response{r, late}
			}
			return []imaptest.Response{r}
		}
	},
}

// beforeClosed tells something of the mailbox that is left, where the proxy itself says that it is closed.
func beforeClosed(text string) fault {
	return func(r imaptest.Response) []imaptest.Response {
		if r.Code() == "CLOSED" {
			return []imaptest.Response{{Text: text}, r}
		}
		return []imaptest.Response{r}
	}
}

func takesAway(r imaptest.Response) bool {
	return r.Tag() == "*" && (r.Word(2) == "EXPUNGE" || r.Word(1) == "VANISHED")
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// TestTheModelFindsFaults is the test of the test.
func TestTheModelFindsFaults(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newLab(t, memoryIdle()).finds(t, fault)
		})
	}
}

// TestTheModelFindsNumbersThatMeanOthers plants faults in what is made of commands that come together.
func TestTheModelFindsNumbersThatMeanOthers(t *testing.T) {
	for name, wrong := range map[string]packets{"taken one after the other": apart, "numbers of after": shifted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := memoryIdle()
			o.packets = wrong
			newLab(t, o).finds(t, nil)
		})
	}
}

// plants are what the hub could do wrong, done to what its resyncs find, before a session parked there
// is told.
var plants = map[string]func() func(string, *view.State) *view.State{
	"a stale state applied late": func() func(string, *view.State) *view.State {
		var mu sync.Mutex
		before := map[string]*view.State{}
		return func(mailbox string, s *view.State) *view.State {
			mu.Lock()
			defer mu.Unlock()
			old := before[mailbox]
			before[mailbox] = s
			if old != nil && rand.IntN(3) == 0 {
				return old
			}
			return s
		}
	},
	"an expunge that isn't found": func() func(string, *view.State) *view.State {
		var mu sync.Mutex
		all := map[string]view.UIDs{}
		return func(mailbox string, s *view.State) *view.State {
			mu.Lock()
			defer mu.Unlock()
			wrong := *s
			all[mailbox] = all[mailbox].Union(s.UIDs)
			wrong.UIDs = all[mailbox]
			return &wrong
		}
	},
	"an expunge that didn't happen": func() func(string, *view.State) *view.State {
		return func(_ string, s *view.State) *view.State {
			wrong := *s
			if first, ok := s.UIDs.At(1); ok && rand.IntN(3) == 0 {
				wrong.UIDs = s.UIDs.Without(view.UIDsOf(first))
			}
			return &wrong
		}
	},
	"flags that aren't told": func() func(string, *view.State) *view.State {
		return func(_ string, s *view.State) *view.State {
			wrong := *s
			wrong.Changed = nil
			return &wrong
		}
	},
	"a hint that nobody follows": func() func(string, *view.State) *view.State {
		// Always: a NOOP looks again, and so does the next hint.
		return func(string, *view.State) *view.State { return nil }
	},
}

// TestTheModelFindsWhatTheHubDoesWrong plants faults where they'd be made.
func TestTheModelFindsWhatTheHubDoesWrong(t *testing.T) {
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := memoryIdle()
			o.plant, o.sweep = plant(), time.Hour
			newLab(t, o).finds(t, nil)
		})
	}
}

// finds fails unless a fault is found in some cases.
func (l *lab) finds(t *testing.T, fault func() fault) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("MODEL_SEED=%d", seed)
	user := l.user()
	for i := range uint64(60) {
		tr, err := l.run(newScenario(seed+i, l.plain), user, newStats(), fault)
		if err != nil {
			t.Logf("found in case %d, after %d lines: %v", i+1, strings.Count(tr.String(), "\n"), err)
			return
		}
	}
	t.Error("it wasn't found in 60 cases")
}

// TestTheModelFindsAMissedHint: there is no hint of a change, and no resync without one.
func TestTheModelFindsAMissedHint(t *testing.T) {
	for name, o := range map[string]labOptions{
		"all events are lost":       {start: memory(imaptest.ModelServerOptions{QResync: true}), watch: "push", events: true, lose: 10, sweep: time.Hour, settle: 2 * time.Second},
		"the sweep makes up for it": {start: memory(imaptest.ModelServerOptions{QResync: true}), watch: "push", events: true, lose: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, o)
			s := scenario{dialects: []imaptest.ModelDialect{imaptest.ModelPlain}, ops: []op{
				{kind: "idle"}, {kind: "park", a: 1, b: 1}, {kind: "outside", a: 0}, {kind: "settle"},
			}}
			var tr *transcript
			var err error
			for st := newStats(); st.parked == 0; { // who isn't parked yet is told by the server
				if st.asked == 5 {
					t.Fatalf("it was never parked:\n%s", lastLines(tr.String(), 40))
				}
				tr, err = l.run(s, l.user(), st, nil)
			}
			if wanted := o.sweep != 0; (err != nil) != wanted {
				t.Errorf("%v\n%s", err, lastLines(tr.String(), 40))
			}
		})
	}
}
