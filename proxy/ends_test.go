package proxy

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
)

func TestASessionIsCutWhenTheEndOfItsResponseNeverComes(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		t.Run(listener, func(t *testing.T) {
			t.Parallel()
			l := politeWith(t, commands{"FETCH": bigLiteral(1 << 20)}, labOptions{})
			c := l.dial(listener)
			c.Login("alice", password)
			c.Write("a1 FETCH 1 BODY[]")
			readBytes(t, c, 1<<19)
			l.clock.forward(session.DefaultIdleTimeout + time.Minute)
			eventually(t, "the sweep", func() bool { return l.srv.reg.Count(session.Ended) == 1 })
			l.clock.forward(3 * lingering)
			rest, _ := readAll(t, c)
			if strings.Contains(rest, "BYE") {
				t.Fatal("a line of ours stands in the literal")
			}
			l.ended(session.ReasonIdle)
		})
	}
}

func TestAHalfClosedClientIsNotWaitedForForEver(t *testing.T) {
	silent := func(c *imaptest.BackendConn, _ imaptest.Command) error {
		c.Backend.Fire("asked")
		return c.DrainUntilEOF()
	}
	t.Run("its backend says nothing", func(t *testing.T) {
		t.Parallel()
		stays := politeWith(t, commands{"XSILENT": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if err := silent(c, cmd); err != nil {
				return err
			}
			c.Backend.Fire("half-closed")
			_ = c.StallForever() // it takes no notice of the end either
			return nil
		}}, labOptions{})
		c := stays.login("alice")
		c.Write("a1 XSILENT")
		must(t, stays.backends[0].Wait("asked"))
		must(t, c.CloseWrite())
		must(t, stays.backends[0].Wait("half-closed"))
		stays.clock.forward(orphaned + time.Minute)
		c.ExpectEOF()
		stays.ended(session.ReasonClientClosed)
	})
	t.Run("but while a mail is on its way", func(t *testing.T) {
		t.Parallel()
		l := politeWith(t, commands{"FETCH": bigLiteral(1 << 10)}, labOptions{})
		c := l.login("alice")
		c.Write("a1 FETCH 1 BODY[]")
		readBytes(t, c, 512)
		must(t, c.CloseWrite())
		l.clock.forward(orphaned + time.Minute)
		swept := l.srv.now()
		eventually(t, "two sweeps", func() bool { return l.srv.now().Sub(swept) > 2*sweepEvery+sweepEvery/2 })
		l.backends[0].Fire("rest")
		rest, err := readAll(t, c)
		if err != nil || !strings.Contains(rest, "a1 OK fetched") {
			t.Fatalf("%q %v", rest, err)
		}
	})
}

func TestAUserWhoIsSentElsewhereIsToldOnTheOldBackend(t *testing.T) {
	var place atomic.Value
	place.Store("b1")
	l := newLab(t, labOptions{storage: routing.Separate, handlers: []imaptest.Handler{polite().Serve, polite().Serve}, change: func(o *Options) {
		o.Placement = func(context.Context, string) (string, bool, error) { return place.Load().(string), true, nil }
	}})
	old := l.login("alice")
	place.Store("b2")
	l.login("alice").MustOK("NOOP")
	old.Expect("* BYE [UNAVAILABLE] {*}")
	old.ExpectEOF()
	_ = old.Conn.Close()
	l.ended(session.ReasonMoved)
	if s := l.sessionOf("alice"); s.Backend != "b2" {
		t.Fatalf("%+v", s)
	}
}

func TestTheSearchForPasswordsFindsThem(t *testing.T) {
	for i := range 9 {
		for _, text := range []string{
			strings.Repeat("x", i) + password + strings.Repeat("y", i),
			imaptest.PlainInitial("", strings.Repeat("u", i), password),
			imaptest.PlainInitial(strings.Repeat("a", i), "user", password+"more"),
		} {
			found := false
			for _, s := range spellings(password) {
				found = found || strings.Contains(text, s)
			}
			if !found {
				t.Errorf("%q holds a password", text)
			}
		}
	}
}
