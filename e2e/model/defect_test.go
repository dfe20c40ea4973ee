package model

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Faults of Dovecot 2.3.19 that the model tolerates. These tests show them without a proxy, more of them with
// MODEL_MINUTES, and check that Dovecot has no worse ones.

// direct is a mailbox with clients that are connected to the server itself.
func direct(t *testing.T, store string, dialect imaptest.ModelDialect, names ...string) *world {
	t.Helper()
	l := newLab(t, labOptions{start: dovecot(store, ""), maildir: store == "maildir"})
	w := &world{l: l, t: &transcript{}, user: l.user(), box: l.box(), stats: &stats{}, ghosts: map[uint32]bool{}}
	t.Cleanup(w.close)
	var err error
	w.w, err = newWitness(l.server.Addr, w.user, servers.Password, w.box, true, defaultPatience)
	must(t, err)
	for _, name := range names {
		c, err := dial(dialing{addr: l.addr, user: w.user, name: name, box: w.box, t: w.t, patience: defaultPatience})
		must(t, err)
		w.clients = append(w.clients, c)
		must(t, c.selectBox(dialect))
	}
	for range 3 {
		_, err := w.clients[0].run(w.appending(w.clients[0]))
		must(t, err)
	}
	return w
}

// lasting returns how long such a test runs.
func lasting() time.Duration {
	if os.Getenv("MODEL_MINUTES") != "" {
		return 40 * time.Second
	}
	return 3 * time.Second
}

// A STORE at the same time as another's is answered with a HIGHESTMODSEQ that covers the other's, too
// (about one in a hundred): but what it covers is told with the next command.
func TestWhatDovecotSaysTooEarly(t *testing.T) {
	t.Parallel()
	w := direct(t, "sdbox", imaptest.ModelQResync, "A", "B")
	a, b := w.clients[0], w.clients[1]
	early, n := 0, 0
	for end := time.Now().Add(lasting()); time.Now().Before(end); n++ {
		must(t, a.catchUp())
		must(t, b.catchUp())
		tagA, err := a.begin("UID STORE", `UID STORE 2 %cFLAGS (\Answered)`, "+-"[n%2])
		must(t, err)
		tagB, err := b.begin("UID STORE", `UID STORE 1 %cFLAGS (\Flagged)`, "+-"[n/2%2])
		must(t, err)
		_, _, err = a.finish(tagA)
		must(t, err)
		_, _, err = b.finish(tagB)
		must(t, err)
		_, err = w.w.look()
		must(t, err)
		for _, c := range w.clients {
			if c.model.Check(w.w.truth) != nil {
				early++
			}
			_, _, err := c.do("NOOP", "NOOP")
			must(t, err)
			if err := c.model.Converged(w.w.truth); err != nil {
				t.Fatalf("it isn't told with the next command: %v\n%s", err, lastLines(w.t.String(), 30))
			}
		}
	}
	t.Logf("%d of %d pairs of STOREs", early, n)
}

// An EXPUNGE in a maildir at the same time as another session's EXAMINE gives messages another UID, or
// shows one that is gone once more (2 of 319).
func TestWhatMaildirDoes(t *testing.T) {
	t.Parallel()
	w := direct(t, "maildir", imaptest.ModelPlain, "A", "B", "C")
	a, b, c := w.clients[0], w.clients[1], w.clients[2]
	c.model = nil
	stop := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, _, err := c.do("EXAMINE", "EXAMINE %s", c.box); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer g.Wait()
	defer close(stop)
	do := func(c *client, verb, args string) {
		_, _, err := c.do(verb, "%s", verb+args)
		must(t, err)
	}
	n := 0
	for end := time.Now().Add(lasting()); time.Now().Before(end); n++ {
		must(t, a.catchUp())
		do(a, "COPY", fmt.Sprintf(" 1:3 %s", a.box))
		must(t, w.after(allow{maybe: 3}))
		must(t, b.catchUp())
		do(b, "STORE", ` 1 +FLAGS.SILENT (\Deleted)`)
		must(t, w.after(allow{stored: named{from: 1}, flag: `\Deleted`, on: true}))
		do(b, "EXPUNGE", "")
		must(t, w.after(allow{expunged: isDeleted}))
		must(t, b.catchUp())
		if b.model.Count() > 12 {
			do(b, "STORE", ` 4:* +FLAGS.SILENT (\Deleted)`)
			must(t, w.after(allow{stored: named{from: 1}, flag: `\Deleted`, on: true}))
			do(b, "EXPUNGE", "")
			must(t, w.after(allow{expunged: isDeleted}))
		}
	}
	t.Logf("%d of %d", w.stats.reborn, n)
}
