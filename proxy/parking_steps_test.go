package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// step is what may happen while a session is parked or comes back, at any line of
// that.
type step struct {
	name string
	// happens is called before a line goes by, on a connection of the proxy's.
	happens func(l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped)
	// after sees to what has to come of it. tag is that of the client's IDLE, ""
	// when it isn't in IDLE.
	after func(t *testing.T, l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter, tag string)
}

// speaks says DONE, if there is an IDLE, and a command by number.
func speaks(t *testing.T, l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter, tag string) {
	t.Helper()
	if tag != "" {
		w.UntilOK(tag)
	}
	uid := w.Model.UID(2) // of what it counts when its command is answered
	w.Model.Begin("STORE")
	w.UntilOK("x1")
	d.Truth.Store(uid, `\Flagged`)
	l.OnUp(nil)
	l.OnDown(nil)
	w.Agrees(d.Truth)
	w.MustOK("LOGOUT")
	_ = w.Conn.Close()
	l.gone(w)
}

func say(w *imaptest.ModelWatcher, idle bool, lines ...string) {
	if idle {
		lines = append([]string{"DONE"}, lines...)
	}
	_ = w.Send(lines...) // who is gone is noticed elsewhere
}

// steps are those that any moment must stand.
func steps(idle bool) []step {
	return []step{
		{"the client speaks", func(_ *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ *imaptest.Tapped) {
			say(w, idle, `x1 STORE 2 +FLAGS (\Flagged)`)
		}, speaks},
		{"the client speaks of what changes", func(_ *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter, _ *imaptest.Tapped) {
			d.Expunge(1)
			d.Append(1)
			say(w, idle, `x1 STORE 2 +FLAGS (\Flagged)`)
		}, speaks},
		{"the client goes", func(_ *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ *imaptest.Tapped) {
			_ = w.Conn.Close()
		}, func(_ *testing.T, l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ string) { l.gone(w) }},
		{"the client is reset", func(_ *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ *imaptest.Tapped) {
			_ = w.Reset()
		}, func(_ *testing.T, l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ string) { l.gone(w) }},
		{"the session is sent away", func(l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ *imaptest.Tapped) {
			l.of(w).Terminate(session.ReasonIdle)
		}, func(t *testing.T, l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter, _ string) {
			if r := w.ExpectBye("r1"); r.Text != "* BYE [LIMIT] Autologout, idle for too long" {
				t.Error(r)
			}
			_ = w.Conn.Close()
			l.gone(w)
		}},
	}
}

// mostMoments is more than there are lines to any park or resume.
const mostMoments = 80

// whileParking has a step happen before each line of parking, one after the other:
// f sees to a session at that moment, and says whether there was one.
func whileParking(t *testing.T, l *parkLab, idle bool, happens func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped),
	after func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, tag, line string)) {
	t.Helper()
	for n, again := 1, 0; n < mostMoments; n++ {
		user, d := l.user(3)
		w := l.watch(user, d.Truth)
		w.Say("UID FETCH 1:* (FLAGS)")
		tag := ""
		if idle {
			tag = w.BeginIdle()
		}
		m := l.at(n, nil, func(c *imaptest.Tapped) { happens(w, d, c) })
		close(m.ready)
		eventually(t, "the session to be parked, or "+t.Name(), func() bool {
			l.srv.Sweep()
			s := l.of(w)
			return m.happened() != "" || s == nil || s.Attachment() == session.Parked
		})
		line := m.stop()
		if line == "" {
			if n >= 5 {
				return
			}
			if again++; again > 20 {
				t.Fatalf("%d lines are too few", n-1)
			}
			n-- // the server's own sweep came first
			continue
		}
		after(w, d, tag, line)
		l.OnUp(nil)
		l.OnDown(nil)
		_ = w.Conn.Close()
		_ = d.Conn.Close()
	}
	t.Errorf("%d lines, and it isn't parked", mostMoments)
}

// Whatever happens at whatever moment of parking: what the client says is answered as by
// an attached session, and who goes is gone.
func TestWhatHappensWhileASessionIsParked(t *testing.T) {
	for _, idle := range []bool{true, false} {
		for _, s := range steps(idle) {
			t.Run(fmt.Sprint(s.name, ", idle: ", idle), func(t *testing.T) {
				t.Parallel()
				l := newParkLab(t, session.ParkOptions{QuietAfter: 1}, nil)
				whileParking(t, l, idle,
					func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped) { s.happens(l, w, d, c) },
					func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, tag, line string) { s.after(t, l, w, d, tag) })
			})
		}
	}
}

// A backend that breaks off while a session is parked: the session goes on.
func TestABackendThatBreaksOffWhileASessionIsParked(t *testing.T) {
	for _, idle := range []bool{true, false} {
		t.Run(fmt.Sprint("idle: ", idle), func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{QuietAfter: 1}, nil)
			whileParking(t, l, idle,
				func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped) { c.Cut() },
				func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, tag, line string) {
					say(w, idle, "x1 UID SEARCH ALL")
					for {
						r, err := w.Next()
						if err != nil {
							t.Fatalf("before %q: %v", line, err)
						}
						if r.Tag() == "x1" {
							w.Agrees(d.Truth)
							return
						}
					}
				})
		})
	}
}

// whileResuming has a step happen before each line of a resume.
func whileResuming(t *testing.T, l *parkLab, happens func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped),
	after func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, line string, relayed bool)) {
	t.Helper()
	for n := 1; n < mostMoments; n++ {
		user, d := l.user(3)
		w := l.watch(user, d.Truth)
		w.Say("UID FETCH 1:* (FLAGS)")
		w.BeginIdle()
		l.parked(w)
		w.EndIdle()
		var relayed atomic.Bool
		m := l.at(n, func(line string) { relayed.CompareAndSwap(false, strings.Contains(line, "r1 UID FETCH")) },
			func(c *imaptest.Tapped) { happens(w, d, c) })
		d.Append(1) // something to be resynced
		w.Model.Begin("UID FETCH")
		w.Write("r1 UID FETCH 1:* (FLAGS)")
		close(m.ready)
		eventually(t, "the session to be resumed, or "+t.Name(), func() bool {
			s := l.of(w)
			return m.happened() != "" || s == nil || relayed.Load()
		})
		line := m.stop()
		if line == "" {
			if n < 8 {
				t.Errorf("%d lines are too few", n-1)
			}
			return
		}
		after(w, d, line, relayed.Load())
		l.OnUp(nil)
		l.OnDown(nil)
		_ = w.Conn.Close()
		_ = d.Conn.Close()
	}
	t.Errorf("%d lines, and it isn't resumed", mostMoments)
}

// Whatever happens at whatever moment of a resume.
func TestWhatHappensWhileASessionIsResumed(t *testing.T) {
	for _, s := range steps(false) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{}, nil)
			whileResuming(t, l,
				func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped) { s.happens(l, w, d, c) },
				func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, line string, _ bool) {
					if strings.HasPrefix(s.name, "the client speaks") {
						w.UntilOK("r1")
					}
					s.after(t, l, w, d, "")
				})
		})
	}
}

// A backend that breaks off at a resume is tried again, and the client doesn't notice; once the
// command is with it, nothing is said twice.
func TestABackendThatBreaksOffWhileASessionIsResumed(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	whileResuming(t, l,
		func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, c *imaptest.Tapped) { c.Cut() },
		func(w *imaptest.ModelWatcher, d *imaptest.ModelWriter, line string, relayed bool) {
			for {
				r, err := w.Next()
				if err != nil {
					t.Fatalf("before %q: %v", line, err)
				}
				switch {
				case r.Status() == "BYE" && relayed:
					w.ExpectEOF()
					return
				case r.Status() == "BYE":
					t.Fatalf("before %q: %s", line, r)
				case r.Tag() == "r1":
					w.Agrees(d.Truth)
					return
				}
				w.Hear(r)
			}
		})
}

// The proxy is told to go at any moment of parking and of a resume: the client
// hears of it, and the server comes to its end.
func TestAShutdownWhileASessionIsParkedOrResumed(t *testing.T) {
	for _, resume := range []bool{false, true} {
		t.Run(fmt.Sprint("resume: ", resume), func(t *testing.T) {
			t.Parallel()
			for n := 1; n < mostMoments; n++ {
				more := true
				t.Run(fmt.Sprint("line ", n), func(t *testing.T) {
					l := newParkLab(t, session.ParkOptions{}, func(o *Options) { o.Drain = 20 * time.Second }) // who is left at its end hears nothing
					user, d := l.user(3)
					w := l.watch(user, d.Truth)
					w.BeginIdle()
					if resume {
						l.parked(w)
						w.EndIdle()
					}
					m := l.at(n, nil, func(*imaptest.Tapped) { l.end() })
					if resume {
						d.Append(1)
						w.Write("r1 UID FETCH 1:* (FLAGS)")
					}
					close(m.ready)
					eventually(t, "the session to be parked, or the moment", func() bool {
						s := l.of(w)
						if !resume {
							l.srv.Sweep()
							return m.happened() != "" || s == nil || s.Attachment() == session.Parked
						}
						return m.happened() != "" || s == nil || s.Info().Commands >= 3 // SELECT, IDLE, and this
					})
					if more = m.stop() != ""; !more {
						return
					}
					for {
						r, err := w.Next()
						if err != nil {
							t.Fatalf("before %q: %v", m.happened(), err)
						}
						if r.Status() == "BYE" {
							break
						}
					}
					w.ExpectEOF()
					_ = w.Conn.Close()
					l.stop()
				})
				if !more {
					break
				}
			}
		})
	}
}
