package park

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"time"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
)

// TestAWarmConnectionServesAgain parks a session as it will be done: IDLE ends,
// snapshot, deselect, pool; then the next one selects on the same connection. In
// the clear and under TLS, whose tickets mustn't pass for data.
func TestAWarmConnectionServesAgain(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(3)
		for name, target := range map[string]upstream.Target{
			"clear":    l.target(),
			"implicit": {ID: "b1", Address: l.TLSAddr, TLS: upstream.TLSImplicit},
			"starttls": {ID: "b1", Address: l.Addr, TLS: upstream.TLSStartTLS},
		} {
			if name != "clear" && l.TLSAddr == "" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute})
				defer pool.Close()
				// The test's certificate has no authority: it isn't tested here.
				d, err := upstream.New(upstream.Options{TLS: &tls.Config{InsecureSkipVerify: true}})
				if err != nil {
					t.Fatal(err)
				}
				c, err := d.Login(within(t), target, auth(user), upstream.Client{})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				key := pool.Key(user, target, auth(user), upstream.UseSession, "")
				for range 3 {
					k := commands(c, resync.Options{Forward: func([]byte) {}})
					if _, err := k.Select(within(t), true, "INBOX", "", nil); err != nil {
						t.Fatal(err)
					}
					told := k.Messages()
					if err := k.Release(); err != nil {
						t.Fatal(err)
					}
					idle(t, c, "i1")
					k = commands(c, resync.Options{Forward: func([]byte) {}, Messages: told, Selected: true, ReadOnly: true, TagInUse: "i1"})
					if _, err := k.EndIdle(within(t), "i1", nil); err != nil {
						t.Fatal(err)
					}
					uids, err := k.Snapshot(within(t))
					if err != nil || uids.Count() != told {
						t.Fatalf("%s of %d: %v", uids, told, err)
					}
					if err := k.Deselect(within(t)); err != nil {
						t.Fatal(err)
					}
					if err := k.Release(); err != nil {
						t.Fatal(err)
					}
					if !pool.Give(key, c, upstream.Condition{}) {
						t.Fatal("not kept")
					}
					pool.Sweep()
					if c = pool.Take(key, upstream.Verified, netip.Addr{}); c == nil {
						t.Fatal("not lent")
					}
				}
				pool.Give(key, c, upstream.Condition{})
				if wrong := pool.Take(pool.Key(user, target, upstream.Auth{User: user, Password: "wrong"}, upstream.UseSession, ""), upstream.Verified, netip.Addr{}); wrong != nil {
					t.Error("lent for a wrong password")
				}
				_, err = d.Login(within(t), target, upstream.Auth{User: user, Password: "wrong"}, upstream.Client{})
				var refused *upstream.Refused
				if !errors.As(err, &refused) {
					t.Errorf("a wrong password beside a warm connection: %v", err)
				}
			})
		}
	})
}

func TestABackendThatStopsTakesItsWarmConnectionsAlong(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		user := l.user()
		pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Hour, SweepEvery: 10 * time.Millisecond})
		defer pool.Close()
		key := pool.Key(user, l.target(), auth(user), upstream.UseSession, "")
		if !pool.Give(key, l.login(t, user), upstream.Condition{}) {
			t.Fatal("not kept")
		}
		l.Process.Stop()
		deadline := time.Now().Add(patience)
		for pool.Len() > 0 && time.Now().Before(deadline) {
			pool.Sweep()
		}
		if c := pool.Take(key, upstream.Verified, netip.Addr{}); c != nil {
			t.Fatal("a connection to nobody is lent")
		}
	})
}
