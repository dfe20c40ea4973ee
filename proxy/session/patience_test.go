package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapproxy/proxy/park/resync"
)

// fair100 has a hundred sessions lose their connections at a backend that is back at once, and does one login a second in all, however many are
// asked for: shared, each of them gets its part of that. It returns how many sessions came back.
func fair100(t *testing.T, shared bool) (back int) {
	const sessions, within = 100, 45 * time.Second
	r := newResumes(ParkOptions{})
	var mu sync.Mutex
	working := 0
	login := func(ctx context.Context) error {
		mu.Lock()
		working++
		mu.Unlock()
		defer func() {
			mu.Lock()
			working--
			mu.Unlock()
		}()
		for done := 0.0; done < 1; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
			mu.Lock()
			done += 0.1 / float64(working)
			mu.Unlock()
		}
		return nil
	}
	if !shared {
		slot := make(chan struct{}, 1)
		inner := login
		login = func(ctx context.Context) error {
			select {
			case slot <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			defer func() { <-slot }()
			return inner(ctx)
		}
	}
	var all sync.WaitGroup
	for n := range sessions {
		all.Go(func() {
			p := newPatience(within, time.AfterFunc)
			user := fmt.Sprint(n % 20)
			for pause := recoverPause; !p.over(); pause = min(2*pause, longestPause(sessions)) {
				reached := *r.reached.Load()
				ctx, cancel := context.WithTimeout(t.Context(), p.longest())
				err := p.turn(ctx, r, func(ctx context.Context) error { return r.enter(ctx, user, n%4 > 0) })
				if err == nil {
					ctx, tried := p.try(ctx, r, DefaultResumeTry)
					err = login(ctx)
					tried(err)
					r.leave(user)
				}
				if cancel(); err == nil {
					mu.Lock()
					back++
					mu.Unlock()
					return
				}
				ctx, cancel = p.left(t.Context())
				r.pause(ctx, pause, reached)
				cancel()
			}
		})
	}
	all.Wait()
	return back
}

// A backend that is there again, but slow, loses no session: those that wait for their turns wait on, and no more run at a time than
// it can serve in time.
func TestASlowBackendLosesNoSession(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "one login after the other", true: "all logins at the same time"}[shared], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				back := fair100(t, shared)
				t.Logf("%d sessions are back after %v", back, time.Since(began))
				if back != 100 {
					t.Errorf("%d of 100 sessions came back", back)
				}
			})
		})
	}
}

// A backend that no session reaches is given up in time, and so is one at which a session never gets its turn.
func TestPatienceEnds(t *testing.T) {
	never := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	for name, c := range map[string]struct {
		reached time.Duration // every so often another session reaches it; 0: none
		strict  bool
		want    time.Duration
	}{
		"none reaches it":                  {0, false, time.Minute},
		"others reach it":                  {time.Second, false, longestPatience * time.Minute},
		"others reach it, in a response":   {time.Second, true, 10 * time.Second},
		"others have reached it, but once": {50 * time.Second, false, 110 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, began := newResumes(ParkOptions{}), time.Now()
				p := newPatience(time.Minute, time.AfterFunc)
				if c.strict {
					p.strictly(10 * time.Second)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var others sync.WaitGroup
				others.Go(func() {
					for n := 0; c.reached > 0 && ctx.Err() == nil && (c.reached < 50*time.Second || n == 0); n++ {
						select {
						case <-time.After(c.reached):
							r.reaches()
						case <-ctx.Done():
						}
					}
				})
				err := p.turn(t.Context(), r, never)
				took := time.Since(began)
				cancel()
				others.Wait()
				if !errors.Is(err, context.DeadlineExceeded) || took != c.want {
					t.Errorf("it ends after %v, want %v: %v", took, c.want, err)
				}
				if c.reached == 0 && !p.over() {
					t.Error("it isn't over")
				}
			})
		})
	}
}

// Attempts that take too long halve how many run at a time, but not if others came back meanwhile: a mailbox hangs, not the backend.
func TestAMailboxThatHangsSlowsNoOther(t *testing.T) {
	for _, others := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newResumes(ParkOptions{})
			_, done := newPatience(DefaultResumeWithin, time.AfterFunc).try(t.Context(), r, DefaultResumeTry)
			time.Sleep(time.Second)
			if others {
				r.reaches()
			}
			time.Sleep(DefaultResumeTry)
			done(context.DeadlineExceeded)
			if slower := r.slots < r.most; slower == others {
				t.Errorf("others came back: %v; %d of %d places are left", others, r.slots, r.most)
			}
		})
	}
}

// Others change a mailbox at a slow backend all the time, so that each look at it is overtaken: the backend is there, and the session doesn't end
// after 45 s.
func TestAMailboxThatChangesEndsNoSession(t *testing.T) {
	for _, c := range []struct {
		err  error
		over bool
	}{{resync.ErrUnsettled, false}, {errors.New("refused"), true}} {
		synctest.Test(t, func(t *testing.T) {
			r := newResumes(ParkOptions{})
			p := newPatience(DefaultResumeWithin, time.AfterFunc)
			for range 6 {
				_, done := p.try(t.Context(), r, DefaultResumeTry)
				time.Sleep(DefaultResumeTry / 2)
				done(c.err)
			}
			if p.over() != c.over {
				t.Errorf("after six attempts of %v each, %v: over is %v", DefaultResumeTry/2, c.err, p.over())
			}
		})
	}
}

// The wait for the rate tells why it has ended.
func TestPatienceSaysWhyItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := newPatience(time.Minute, time.AfterFunc).turn(t.Context(), newResumes(ParkOptions{}), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
