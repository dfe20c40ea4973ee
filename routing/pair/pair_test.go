package pair

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// wire joins a table to its successor's, without a connection: messages wait until deliver.
type wire struct {
	t    *testing.T
	from *Table
	to   *Predecessor
	// beside: questions are answered beside other messages, since they may have to be passed on.
	beside bool
	unsure bool // the successor may not be able to answer

	mu    sync.Mutex
	queue []func()
}

func (w *wire) add(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, f)
}

func (w *wire) Has(all []Stay) { w.add(func() { w.to.Has(all...) }) }
func (w *wire) Ask(id uint64, s Stay) {
	answer := func() {
		elsewhere, err := w.to.Claim(context.Background(), s.User, s.Backend)
		if err != nil && !w.unsure {
			w.t.Error(err)
		}
		w.from.Answered(id, err == nil && elsewhere == "", elsewhere)
	}
	if w.beside {
		w.add(func() { go answer() })
		return
	}
	w.add(answer)
}
func (w *wire) Release(user, backend string) { w.add(func() { w.to.Release(user, backend) }) }

// deliver delivers up to n messages in their order, and returns how many there were.
func (w *wire) deliver(n int) (done int) {
	for ; done < n; done++ {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.mu.Unlock()
			return done
		}
		f := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		f()
	}
	return done
}

// succeed makes a successor for a table.
func succeed(t *testing.T, old *Table, letGo func(string, bool)) (*Table, *wire) {
	fresh := New(Options{AskWithin: 10 * time.Second})
	w := &wire{t: t, from: old, to: fresh.Join(letGo)}
	old.Follow(w)
	w.deliver(1)
	return fresh, w
}

// claimed claims, and delivers what that needs.
func claimed(t *testing.T, table *Table, w *wire, user, backend string) (elsewhere string) {
	t.Helper()
	done := make(chan string, 1)
	go func() {
		at, err := table.Claim(context.Background(), user, backend)
		if err != nil {
			t.Error(err)
		}
		done <- at
	}()
	for {
		select {
		case at := <-done:
			return at
		default:
			if w != nil {
				w.deliver(1)
			}
		}
	}
}

func TestUserStaysWhereTheOldProcessHasThem(t *testing.T) {
	old := New(Options{})
	claimed(t, old, nil, "ann", "b1")
	fresh, w := succeed(t, old, func(string, bool) {})
	if at := claimed(t, fresh, nil, "ann", "b2"); at != "b1" {
		t.Errorf("the new process gets ann at b2; the old one has her at b1, and the answer is %q", at)
	}
	if at := fresh.Where("ann"); at != "b1" {
		t.Errorf("the router is told %q", at)
	}
	if at := claimed(t, fresh, nil, "ann", "b1"); at != "" {
		t.Errorf("both may have her at b1: %q", at)
	}
	old.Release("ann", "b1")
	w.deliver(1)
	if at := claimed(t, old, w, "ann", "b2"); at != "b1" {
		t.Errorf("the old process gets ann at b2: %q", at)
	}
	if at := old.Where("ann"); at != "b1" {
		t.Errorf("the old process's router is told %q", at)
	}
	fresh.Release("ann", "b1")
	if at := claimed(t, old, w, "ann", "b2"); at != "" {
		t.Errorf("nobody has ann: %q", at)
	}
	if at := claimed(t, fresh, nil, "ann", "b1"); at != "b2" {
		t.Errorf("the old process has ann at b2: %q", at)
	}
}

func TestNewProcessHasAUserLetGoOf(t *testing.T) {
	old := New(Options{})
	claimed(t, old, nil, "ann", "b1")
	asked := make(chan bool, 10)
	fresh, w := succeed(t, old, func(user string, abort bool) { asked <- abort })
	done := make(chan error, 1)
	go func() { done <- fresh.Free(context.Background(), "ann", "b2", true) }()
	if abort := <-asked; !abort {
		t.Error("abort isn't passed on")
	}
	select {
	case err := <-done:
		t.Fatalf("the old process still has ann, and Free returns %v", err)
	default:
	}
	old.Release("ann", "b1")
	w.deliver(1)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if at := claimed(t, fresh, nil, "ann", "b2"); at != "" {
		t.Errorf("ann is at %q", at)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	old2 := fresh.Join(func(string, bool) {})
	old2.Has(Stay{"bob", "b1"})
	if err := fresh.Free(ctx, "bob", "b2", false); !errors.Is(err, context.Canceled) {
		t.Errorf("Free of a user who isn't let go of: %v", err)
	}
	if err := fresh.Free(ctx, "bob", "b1", false); err != nil {
		t.Errorf("Free of a user who is there: %v", err)
	}
}

// While the successor can't be asked, only users that the process already has can be served; once it has ended, the process decides.
func TestSuccessorIsLost(t *testing.T) {
	old := New(Options{})
	claimed(t, old, nil, "ann", "b1")
	_, w := succeed(t, old, func(string, bool) {})
	waiting := make(chan error, 1)
	go func() {
		_, err := old.Claim(context.Background(), "bob", "b1")
		waiting <- err
	}()
	for w.empty() {
		runtime.Gosched()
	}
	old.Lost()
	if err := <-waiting; !errors.Is(err, ErrWait) {
		t.Errorf("a claim that waited for the answer: %v", err)
	}
	if at, err := old.Claim(context.Background(), "ann", "b1"); at != "" || err != nil {
		t.Errorf("a further connection of a user who is there: %q %v", at, err)
	}
	if _, err := old.Claim(context.Background(), "carl", "b1"); !errors.Is(err, ErrWait) {
		t.Errorf("a new user: %v", err)
	}
	old.Decide()
	if at, err := old.Claim(context.Background(), "carl", "b1"); at != "" || err != nil {
		t.Errorf("a new user, when the process decides: %q %v", at, err)
	}
}

func (w *wire) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) == 0
}

// A claim whose time is over before the answer has come isn't left behind at the successor.
func TestAnswerComesTooLate(t *testing.T) {
	old := New(Options{})
	fresh, w := succeed(t, old, func(string, bool) {})
	ctx, cancel := context.WithCancel(context.Background())
	waiting := make(chan error, 1)
	go func() {
		_, err := old.Claim(ctx, "ann", "b1")
		waiting <- err
	}()
	for w.empty() {
		runtime.Gosched()
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.deliver(1) // the question, and its answer
	w.deliver(1) // what the successor has allowed is given back
	if at := claimed(t, fresh, nil, "ann", "b2"); at != "" {
		t.Errorf("ann is held at %s by a claim that doesn't exist", at)
	}
}

// Three processes in a row, with random claims and releases, and messages that come late: no user is ever on two backends by
// two processes.
func TestThreeProcesses(t *testing.T) {
	for seed := range uint64(50) {
		a := New(Options{})
		b, ab := succeed(t, a, func(string, bool) {})
		c, bc := succeed(t, b, func(string, bool) {})
		tables := []*Table{a, b, c}
		ab.beside = true
		stop := make(chan struct{})
		var delivering sync.WaitGroup
		for _, w := range []*wire{ab, bc} {
			delivering.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						if w.deliver(1) == 0 {
							runtime.Gosched()
						}
					}
				}
			})
		}
		var mu sync.Mutex
		held := map[string]map[string]int{} // user → "process backend" → claims
		var working sync.WaitGroup
		for n := range 3 {
			rng := rand.New(rand.NewPCG(seed, uint64(n)+10))
			working.Go(func() {
				var mine []Stay
				for range 60 {
					if len(mine) > 0 && rng.IntN(2) == 0 {
						i := rng.IntN(len(mine))
						s := mine[i]
						mine = append(mine[:i], mine[i+1:]...)
						mu.Lock()
						held[s.User][fmt.Sprint(n, " ", s.Backend)]--
						mu.Unlock()
						tables[n].Release(s.User, s.Backend)
						continue
					}
					s := Stay{fmt.Sprint("u", rng.IntN(3)), fmt.Sprint("b", rng.IntN(2))}
					at, err := tables[n].Claim(context.Background(), s.User, s.Backend)
					if err != nil || at != "" {
						continue
					}
					mine = append(mine, s)
					mu.Lock()
					if held[s.User] == nil {
						held[s.User] = map[string]int{}
					}
					held[s.User][fmt.Sprint(n, " ", s.Backend)]++
					for where, claims := range held[s.User] {
						if claims > 0 && where[0] != byte('0'+n) && where[2:] != s.Backend {
							t.Errorf("seed %d: %s is at %s by process %d, and by process %c at %s", seed, s.User, s.Backend, n, where[0], where[2:])
						}
					}
					mu.Unlock()
				}
				for _, s := range mine {
					mu.Lock()
					held[s.User][fmt.Sprint(n, " ", s.Backend)]--
					mu.Unlock()
					tables[n].Release(s.User, s.Backend)
				}
			})
		}
		working.Wait()
		close(stop)
		delivering.Wait()
	}
}

func TestPredecessorEnds(t *testing.T) {
	table := New(Options{})
	p := table.Join(func(string, bool) {})
	p.Has(Stay{"ann", "b1"}, Stay{"bob", "b2"})
	if n := p.Users(); n != 2 {
		t.Errorf("%d users", n)
	}
	p.End()
	if at := table.Where("ann"); at != "" || p.Users() != 0 {
		t.Errorf("a process that has ended has ann at %q", at)
	}
}

// In a chain the process in the middle can't answer while its own successor is lost. The question of the oldest one is answered
// all the same: without that its user would wait for the same answer for ever.
func TestAQuestionThatCannotBeAnsweredNowIsAskedAgain(t *testing.T) {
	old := New(Options{AskWithin: time.Minute})
	middle, w := succeed(t, old, func(string, bool) {})
	_, up := succeed(t, middle, func(string, bool) {})
	middle.Lost()
	claim := func() (string, error) {
		type answer struct {
			at  string
			err error
		}
		done := make(chan answer, 1)
		go func() {
			at, err := old.Claim(context.Background(), "ann", "b1")
			done <- answer{at, err}
		}()
		for {
			select {
			case a := <-done:
				return a.at, a.err
			default:
				w.deliver(1)
				up.deliver(1)
				runtime.Gosched()
			}
		}
	}
	w.unsure = true
	if at, err := claim(); !errors.Is(err, ErrWait) {
		t.Fatalf("the middle one can't say it, and the answer is %q, %v", at, err)
	}
	if n := len(old.asking); n != 0 {
		t.Errorf("%d questions are left", n)
	}
	middle.Decide()
	if at, err := claim(); at != "" || err != nil {
		t.Errorf("the middle one decides, and the answer is %q, %v", at, err)
	}
}

// A process that couldn't be reached for a while tells its claims again: those that it has ended, or was granted and doesn't know of, end.
func TestAProcessThatIsHeardAgain(t *testing.T) {
	table := New(Options{})
	p := table.Join(func(string, bool) {})
	p.Has(Stay{"ann", "b1"}, Stay{"bob", "b2"})
	if at, err := p.Claim(t.Context(), "cat", "b1"); at != "" || err != nil {
		t.Fatal(at, err)
	}
	if at, err := table.Claim(t.Context(), "ann", "b1"); at != "" || err != nil {
		t.Fatal(at, err)
	}
	p.Has(Stay{"bob", "b2"}, Stay{"dan", "b2"})
	for user, want := range map[string]string{"ann": "", "bob": "b2", "cat": "", "dan": "b2"} {
		if at := table.Where(user); at != want {
			t.Errorf("%s is at %q, want %q", user, at, want)
		}
	}
	if at, err := p.Claim(t.Context(), "ann", "b2"); at != "b1" || err != nil {
		t.Errorf("this process has ann at b1, and a claim elsewhere is answered %q, %v", at, err)
	}
}
