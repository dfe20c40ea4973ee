package parking

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
)

// NOTIFY falls silent when Dovecot rotates its list log (after about 340 appends): it is set again
// before a client notices.
func notifyOverTheRotationOfItsLog(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{notify: 2 * time.Second})
	user := l.newUser()
	d := l.writer(user, "INBOX", 1)
	w := l.watch(user, "INBOX", d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	for range 8 {
		d.Append(50)
		w.Counts(len(d.Truth.Messages))
	}
	w.EndIdle()
	w.Agrees(d.Truth)
}

// Events that don't arrive, since no listener is there or the token is wrong: the sweep finds what
// happened, and the user's own commands are hints without them.
func eventsThatDontCome(t *testing.T, _ *site) {
	push := contrib(t, "dovecot/push.lua")
	for name, begin := range map[string]func(t *testing.T) *site{
		"down": func(t *testing.T) *site {
			gone := httptest.NewServer(nil)
			gone.Close()
			return &site{Server: dovecotThatPosts(t, push, gone.URL, apptest.EventsToken), watch: "push", events: &events{}}
		},
		"unauthenticated": func(t *testing.T) *site {
			e := listenForEvents(t)
			return &site{Server: dovecotThatPosts(t, push, e.url, "another token than ours"), watch: "push", events: e}
		},
		"slow": func(t *testing.T) *site {
			// Dovecot gives up after a time of its own (contrib/dovecot/push.lua).
			slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection isn't noticed
				<-r.Context().Done()
			}))
			t.Cleanup(func() {
				slow.CloseClientConnections()
				slow.Close()
			})
			return &site{Server: dovecotThatPosts(t, push, slow.URL, apptest.EventsToken), watch: "push", events: &events{}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, begin(t), labOptions{sweep: time.Second})
			user := l.newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			d.Expunge(2)
			d.Append(1)
			w.Told("EXPUNGE", 1)
			w.Counts(len(d.Truth.Messages))
			other := l.login(user)
			if a := other.Literal("APPEND INBOX ", imaptest.GeneratedMessage(100, 99), ""); !a.OK() {
				t.Fatal(a)
			}
			d.Truth.Append()
			w.EndIdle() // told before its answer
			if w.Model.Count() != len(d.Truth.Messages) {
				t.Errorf("after the user's own APPEND the client counts %d, not %d", w.Model.Count(), len(d.Truth.Messages))
			}
			w.Agrees(d.Truth)
		})
	}
}

// A sender posts without end, about this user and others: what happens is told as ever, and the
// backend isn't asked for each of them.
func aFloodOfEvents(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{})
	user := l.newUser()
	d := l.writer(user, "INBOX", 3)
	w := l.watch(user, "INBOX", d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	tell := func(about string) {
		body := []byte(`{"user":"` + about + `","events":[{"mailbox":"INBOX"}]}`)
		header := http.Header{"Authorization": {"Bearer " + apptest.EventsToken}, "Content-Type": {"application/json"}}
		code, err := post(t.Context(), l.eventsURL(), header, body)
		if err != nil || code >= 300 {
			t.Errorf("an event is answered %d, %v", code, err)
		}
	}
	const enough = 25
	stop, flooded, posted := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	end := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(end)
	go func() { // ends with stop
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				posted <- n
				return
			case <-tick.C:
			}
			if n == enough {
				close(flooded)
			}
			for range 5 {
				tell(user)
				tell("nobody")
			}
		}
	}()
	before := time.Now()
	for i := range 5 {
		d.Append(1)
		d.Expunge(uint32(i + 1))
		w.Told("EXPUNGE", i+1)
		w.Counts(len(d.Truth.Messages))
	}
	l.happens(flooded, "the flood")
	end()
	n, stats := <-posted, l.app.Hub().Stats()
	t.Logf("%d events, %d resyncs in %v", n, stats.Resyncs, time.Since(before))
	if most := uint64(time.Since(before)/(40*time.Millisecond)) + 10; stats.Resyncs > most {
		t.Errorf("%d events, %d resyncs, of which %d were enough", n, stats.Resyncs, most)
	}
	w.EndIdle()
	w.Agrees(d.Truth)
}
