package park

import (
	"errors"
	"testing"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
)

// session is a session connection with INBOX selected, and its client.
func session(t *testing.T, l *lab, user string) (*upstream.Conn, *client) {
	t.Helper()
	c := l.login(t, user)
	cl := newClient(t, view.UIDs{})
	k := commands(c, resync.Options{Forward: cl.pass})
	if _, err := k.Select(within(t), false, "INBOX", "", nil); err != nil {
		t.Fatal(err)
	}
	cl.uids = make([]uint32, k.Messages())
	uids, err := k.SnapshotByFetch(within(t))
	if err != nil {
		t.Fatal(err)
	}
	known := newClient(t, uids)
	cl.uids = known.uids
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	return c, cl
}

func TestASnapshotOutOfIdleIsWhatTheClientCounts(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(10)
		c, cl := session(t, l, user)
		told := uint32(len(cl.uids))
		for range 25 {
			idle(t, c, "a1")
			for range 1 + w.rng.IntN(3) {
				w.change()
			}
			k := commands(c, resync.Options{Forward: cl.pass, Messages: told, Selected: true, TagInUse: "a1"})
			if _, err := k.EndIdle(within(t), "a1", nil); err != nil {
				t.Fatal(err)
			}
			uids, err := k.Snapshot(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := cl.fits(uids); err != nil {
				t.Fatal(err)
			}
			if want := uidsOf(w.rows()); !uids.Equal(want) {
				t.Fatalf("snapshot %s, the mailbox has %s", uids, want)
			}
			cl.uids = newClient(t, uids).uids
			told = k.Messages()
			if err := k.Release(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestASnapshotWhileOthersChangeTheMailbox makes another client expunge and append all the time:
// what is called settled has to be what the client counts.
func TestASnapshotWhileOthersChangeTheMailbox(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		for name, take := range map[string]func(*testing.T, *resync.Client) (view.UIDs, error){
			"search": func(t *testing.T, k *resync.Client) (view.UIDs, error) { return k.Snapshot(within(t)) },
			"fetch":  func(t *testing.T, k *resync.Client) (view.UIDs, error) { return k.SnapshotByFetch(within(t)) },
		} {
			if name == "search" && l.courierStalls() {
				continue
			}
			t.Run(name, func(t *testing.T) {
				user := l.user()
				w := l.writer(t, user, "INBOX")
				w.append(10)
				c, cl := session(t, l, user)
				k := commands(c, resync.Options{Forward: cl.pass, Messages: uint32(len(cl.uids)), Selected: true})
				done, stop := make(chan struct{}), make(chan struct{})
				go func() { // ends with stop
					defer close(done)
					for {
						select {
						case <-stop:
							return
						default:
							w.change()
						}
					}
				}()
				settled, unsettled := 0, 0
				for range 150 {
					uids, err := take(t, k)
					switch {
					case err == nil:
						settled++
						if err := cl.fits(uids); err != nil {
							t.Error(err)
						}
						cl.uids = newClient(t, uids).uids
					case errors.Is(err, resync.ErrUnsettled):
						unsettled++
					default:
						t.Error(err)
					}
					if t.Failed() {
						break
					}
				}
				close(stop)
				<-done
				t.Logf("%d settled, %d unsettled, %d EXPUNGE", settled, unsettled, cl.expunges)
				if settled == 0 {
					t.Error("nothing ever settled")
				}
				if name == "fetch" && cl.expunges > 0 {
					t.Errorf("FETCH 1:* (UID) brought %d EXPUNGE", cl.expunges)
				}
			})
		}
	})
}

func commands(c *upstream.Conn, opt resync.Options) *resync.Client {
	return resync.NewClient(c.Conn, c.Caps, opt)
}
