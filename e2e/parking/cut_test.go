package parking

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// goesOn checks that a command whose connection was lost is answered NO, and that its session goes on.
func goesOn(t *testing.T, w *imaptest.ModelWatcher, tag string) {
	t.Helper()
	r := w.Read()
	for r.Tag() != tag { // what came before the loss
		r = w.Read()
	}
	if r.Status() != "NO" || r.Code() != "UNAVAILABLE" {
		t.Errorf("want NO [UNAVAILABLE], got %s", r)
	}
	w.MustOK("NOOP")
	_ = w.Conn.Close()
}

// Transcript 9: the backend dies inside what a client that was parked has said or is
// told. Nothing of the proxy's stands where the message's text should, no command is
// said twice, none is answered OK that may not have been carried out.
func aBackendThatDiesInTheMiddle(t *testing.T, s *site) {
	for _, when := range []string{"as it comes back", "when it is back"} {
		back := func(t *testing.T) (*lab, *imaptest.ModelWriter, *imaptest.ModelWatcher) {
			t.Parallel()
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", 2)
			d.Literal("APPEND INBOX ", imaptest.GeneratedMessage(100_000, 7), "")
			d.Truth.Append()
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			w.EndIdle()
			if when == "when it is back" {
				w.Say("UID FETCH 1:* (FLAGS)")
			}
			return l, d, w
		}
		// counts says how many messages there are, once all sessions at work have ended.
		counts := func(t *testing.T, l *lab, d *imaptest.ModelWriter, want int) {
			t.Helper()
			must(t, eventually(t.Context(), "the proxy's connections to end", func() error {
				if n := l.Now(); n > 1 { // the watch's
					return fmt.Errorf("there are %d", n)
				}
				return nil
			}))
			a := d.MustOK("NOOP")
			if got := imaptest.NewModelClient(imaptest.ModelPlain, d.Truth); want != got.Count() {
				for _, r := range a.Untagged {
					_ = got.Response(r)
				}
				if got.Count() != want {
					t.Errorf("there are %d messages, not %d", got.Count(), want)
				}
			} else if _, more := a.Find("EXISTS"); more {
				t.Errorf("more came: %v", a.Untagged)
			}
		}
		t.Run("inside a FETCH literal "+when, func(t *testing.T) {
			l, d, w := back(t)
			var lines atomic.Int32
			l.OnDown(func(_ *imaptest.Tapped, line string) bool {
				return !strings.Contains(line, "BODY[]") && lines.Load() == 0 || lines.Add(1) != 500 // of about 1,300
			})
			w.Write("x1 UID FETCH 3 BODY[]")
			r, whole := w.Read(), 0
			for ; r.Tag() != "x1"; r = w.Read() {
				for _, literal := range r.Literals {
					if whole++; literal.SHA256 != imaptest.GeneratedMessage(100_000, 7).SHA256() {
						t.Errorf("the message is another one: %s", r)
					}
				}
			}
			if r.Status() != "OK" || whole != 1 || lines.Load() < 500 {
				t.Errorf("the message came %d times, after %d lines: %s", whole, lines.Load(), r)
			}
			_ = w.Conn.Close()
			counts(t, l, d, 3)
		})
		t.Run("inside a LITERAL+ APPEND "+when, func(t *testing.T) {
			l, d, w := back(t)
			var lines atomic.Int32
			l.OnUp(func(_ *imaptest.Tapped, line string) bool {
				if strings.Contains(line, "APPEND") || lines.Load() > 0 {
					return lines.Add(1) != 20
				}
				return true
			})
			w.Write("x1 APPEND INBOX {8000+}")
			for range 80 {
				w.Write(strings.Repeat("x", 98))
			}
			w.Write("")
			goesOn(t, w, "x1")
			counts(t, l, d, 3)
		})
		t.Run("before its + "+when, func(t *testing.T) {
			l, d, w := back(t)
			var again atomic.Bool
			l.OnUp(func(c *imaptest.Tapped, line string) bool {
				if strings.Contains(line, "APPEND") && !again.Swap(true) {
					l.OnDown(func(other *imaptest.Tapped, line string) bool { return c != other || !strings.HasPrefix(line, "+") })
				}
				return true
			})
			w.Write("x1 APPEND INBOX {8}")
			for !strings.HasPrefix(w.Read().Text, "+") { // of the next connection
			}
			w.Write("a: b\r\n\r\n")
			r := w.Read()
			for r.Tag() != "x1" { // the message is told of before
				r = w.Read()
			}
			if r.Status() != "OK" {
				t.Errorf("want OK, got %s", r)
			}
			_ = w.Conn.Close()
			counts(t, l, d, 4)
		})
		t.Run("before its APPENDUID "+when, func(t *testing.T) {
			l, d, w := back(t)
			l.OnDown(func(_ *imaptest.Tapped, line string) bool { return !strings.Contains(line, "APPENDUID") })
			w.Write("x1 APPEND INBOX {8+}", "a: b\r\n\r\n")
			goesOn(t, w, "x1")
			counts(t, l, d, 4) // once
		})
	}
}
