package model

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/movetest"
	"imapproxy/proxy"
)

// turn is how long a user is asked to leave a backend. A user who couldn't leave by then stays. No test expects
// a move within it.
const turn = 300 * time.Millisecond

// moving is a proxy whose users are moved between two backends by an agreement of proxies.
type moving struct {
	*movetest.Agreement
	app   *app.App
	moves atomic.Int64 // that were made
	asked atomic.Int64
}

// twins has a second server that serves the mail of the first.
func twins(start func(testing.TB, *lab) *servers.Server) func(testing.TB, *lab) (first, second *servers.Server) {
	return func(t testing.TB, l *lab) (*servers.Server, *servers.Server) {
		s := start(t, l)
		return s, s // under two names
	}
}

// dovecots are two that have the same mail.
func dovecots(store string) func(testing.TB, *lab) (first, second *servers.Server) {
	return func(t testing.TB, l *lab) (*servers.Server, *servers.Server) {
		l.has = modernTraits()
		mail := servers.DovecotMail(t)
		return servers.StartDovecot(t, servers.DovecotOptions{Store: store, Mail: mail, Name: "dovecot-1"}),
			servers.StartDovecot(t, servers.DovecotOptions{Store: store, Mail: mail, Name: "dovecot-2"})
	}
}

// startMoving runs a proxy in this process whose users are moved. It ends with the test.
func (l *lab) startMoving(second *servers.Server, linger time.Duration) {
	m := &moving{Agreement: movetest.New("b1", func(string, string) { l.moving.moves.Add(1) })}
	l.moving = m
	l.app = apptest.Start(l.t, apptest.Config{
		Discovery: fmt.Sprintf(`discovery "static" {
  backend "b1" { address = %q }
  backend "b2" { address = %q }
  probe {
    interval = "1h"
    timeout  = "1m"
  }
}`, l.server.Addr, second.Addr),
		Cert: imaptest.NewCert(l.t), Drain: time.Second,
		Park: apptest.Park{
			"watch": l.watch, "linger": linger, "quiet_after": 3 * linger, "warm_for": 5 * time.Second, "auth_cache_for": time.Duration(0),
		},
	}, app.Options{Logs: l.log, Agreement: m, Park: app.ParkOptions{SweepEvery: l.sweep, PollEvery: l.sweep, Plant: l.found}})
	m.app, l.proxy, l.addr = l.app, l.app.Server(), l.app.Addrs()["plain"]
}

// move asks a user's sessions to leave for the other backend.
func (m *moving) move(user string) {
	to := "b1"
	at, under, _ := m.At(user)
	if under {
		return
	}
	if at == to {
		to = "b2"
	}
	m.asked.Add(1)
	m.Move(user, to)
	m.letGo(user)
	time.AfterFunc(turn, func() { m.GiveUp(user) })
}

// leads waits until a user who is being moved is at a backend: in one turn, or, as with real proxies, in a later one.
func (m *moving) leads(t *testing.T, user, to string) {
	t.Helper()
	for end := time.Now().Add(defaultPatience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*turn)
		err := m.Arrived(ctx, user, to)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			page, _ := m.app.Server().Sessions(proxy.Filter{User: user})
			t.Fatalf("the user isn't at %s: %v; sessions %+v", to, m, page)
		}
		m.GiveUp(user)
		m.Move(user, to)
		m.letGo(user)
	}
}

func (m *moving) letGo(user string) {
	m.app.Server().LetGo(user, false)
	m.app.Hub().LetGo(user)
	m.app.Pool().LetGo(user)
}
