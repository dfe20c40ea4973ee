package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/wire"
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
			l.clock.forward(DefaultIdleTimeout + time.Minute)
			eventually(t, "the sweep", func() bool { return l.srv.reg.counts[Ended].Load() == 1 })
			l.clock.forward(3 * lingerFor)
			rest, _ := readAll(t, c)
			if strings.Contains(rest, "BYE") {
				t.Fatal("a line of ours stands in the literal")
			}
			l.ended(ReasonIdle)
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
			_ = c.StallForever() // it takes no notice of the end either
			return nil
		}}, labOptions{})
		c := stays.login("alice")
		c.Write("a1 XSILENT")
		must(t, stays.backends[0].Wait("asked"))
		must(t, c.CloseWrite())
		eventually(t, "the half-close", func() bool {
			n := 0
			stays.srv.reg.each(func(s *Session) {
				if s.halfClosed.Load() {
					n++
				}
			})
			return n == 1
		})
		stays.clock.forward(orphanFor + time.Minute)
		c.ExpectEOF()
		stays.ended(ReasonClientClosed)
	})
	t.Run("but while a mail is on its way", func(t *testing.T) {
		t.Parallel()
		l := politeWith(t, commands{"FETCH": bigLiteral(1 << 10)}, labOptions{})
		c := l.login("alice")
		c.Write("a1 FETCH 1 BODY[]")
		readBytes(t, c, 512)
		must(t, c.CloseWrite())
		l.clock.forward(orphanFor + time.Minute)
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
	l.ended(ReasonMoved)
	if s := l.sessionOf("alice"); s.Backend != "b2" {
		t.Fatalf("%+v", s)
	}
}

func TestEveryReasonsLastWordIsAResponse(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] {
			t.Errorf("%s is listed twice", r)
		}
		seen[r] = true
		bye := r.bye()
		if bye == "" {
			continue
		}
		if r.cuts() {
			t.Errorf("%s cuts, and has a last word", r)
		}
		if h := wire.ParseResponseHead([]byte(bye)); h.Kind != wire.Untagged || h.Status != wire.BYE || !strings.HasSuffix(bye, "\r\n") || strings.Count(bye, "\n") != 1 || len(h.Rest) < 5 {
			t.Errorf("%s: %q", r, bye)
		}
	}
}

func TestWithoutHidden(t *testing.T) {
	for in, want := range map[string]string{
		"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN IDLE\r\n":             "* CAPABILITY IMAP4rev1 IDLE\r\n",
		"* capability imap4rev1 starttls\n":                               "* capability imap4rev1\n",
		"a1 OK [CAPABILITY COMPRESS=DEFLATE X] in\r\n":                    "a1 OK [CAPABILITY X] in\r\n",
		"a1 OK [CAPABILITY Compress X] in\r\n":                            "a1 OK [CAPABILITY X] in\r\n",
		"CAPABILITY OK [CAPABILITY LOGINDISABLED X] in\r\n":               "CAPABILITY OK [CAPABILITY X] in\r\n",
		"* OK [CAPABILITY STARTTLS]\r\n":                                  "* OK [CAPABILITY ]\r\n",
		"* OK [CAPABILITY X] AUTH=PLAIN STARTTLS\r\n":                     "* OK [CAPABILITY X] AUTH=PLAIN STARTTLS\r\n",
		"* CAPABILITY XSTARTTLS STARTTLSX AUTHX=1 X-COMPRESS=1\r\n":       "* CAPABILITY XSTARTTLS STARTTLSX AUTHX=1 X-COMPRESS=1\r\n",
		"* CAPABILITY UNAUTHENTICATE LOGIN-REFERRALS MAILBOX-REFERRALS Y": "* CAPABILITY Y",
		"* CAPABILITY":                       "* CAPABILITY",
		"* \xff\xfe CAPABILITY AUTH=X Y\r\n": "* \xff\xfe CAPABILITY Y\r\n",
		"":                                   "",
	} {
		if got := string(withoutHidden([]byte(in))); got != want {
			t.Errorf("%q\n got  %q\n want %q", in, got, want)
		}
	}
}

func TestWhatCountsAsOneAddress(t *testing.T) {
	for a, b := range map[string]string{
		"192.0.2.1":    "::ffff:192.0.2.1",
		"2001:db8::1":  "2001:db8::ffff:2",
		"fe80::1%eth0": "fe80::2%eth1",
	} {
		if limitKey(netip.MustParseAddr(a)) != limitKey(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are two", a, b)
		}
	}
	for a, b := range map[string]string{"192.0.2.1": "192.0.2.2", "2001:db8:0:1::1": "2001:db8:0:2::1", "::1": "127.0.0.1"} {
		if limitKey(netip.MustParseAddr(a)) == limitKey(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are one", a, b)
		}
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

// FuzzFlight drives the follower of a session with events in any order: it never
// waits for ever, never panics, and holds no more than its bounds.
func FuzzFlight(f *testing.F) {
	for _, s := range []string{"c+dt", "i+dti", "ccclv+t", "ild+v", "lllvv", "itcitd", "ccccttttxx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, events []byte) {
		var fl flight
		fl.init()
		now := time.Unix(0, 0)
		for i, e := range events {
			tag := fmt.Appendf(nil, "t%d", e%5)
			switch e % 9 {
			case 0, 1:
				if len(fl.open) < maxInFlight {
					fl.begin(wire.CommandHead{Tag: tag, Verb: wire.Noop, OK: true}, true, now)
				}
			case 2:
				if len(fl.open) < maxInFlight {
					fl.begin(wire.CommandHead{Tag: tag, Verb: wire.Idle, OK: true}, true, now)
				}
			case 3:
				fl.ask()
			case 4:
				fl.prompt()
			case 5:
				fl.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: tag, Status: wire.OK})
			case 6:
				fl.line([]byte("DONE\r\n"))
			case 7:
				fl.line([]byte("x NOOP\r\n"))
			case 8:
				fl.sent(int64(i), now, 0)
			}
			if len(fl.open) > maxInFlight || len(fl.dues) > 2*maxInFlight {
				t.Fatalf("%d commands, %d prompts due", len(fl.open), len(fl.dues))
			}
			for _, d := range fl.dues {
				if d.n <= 0 {
					t.Fatalf("a prompt that isn't due: %+v", fl.dues)
				}
			}
			if _, idle := fl.state(); idle && len(fl.open) == 0 {
				t.Fatal("it idles without a command")
			}
		}
		fl.stop()
		if fl.begin(wire.CommandHead{Tag: []byte("x"), OK: true}, true, now) {
			t.Fatal("a command begins after the end")
		}
	})
}
