package park

import (
	"context"
	"errors"
	"strings"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// A follower is a parked client: a view, and the flags that it was told.
type follower struct {
	view  *view.View
	flags map[uint32]view.Flags
}

func (l *lab) strategies() []resync.Strategy {
	compare := resync.ByComparison{MaxMessages: 1000}
	if !l.modern {
		return []resync.Strategy{compare}
	}
	return []resync.Strategy{resync.ByQResync{}, compare}
}

// start is a view of the mailbox as a state has it.
func start(mailbox string, s *view.State, rows []row) *follower {
	f := &follower{flags: map[uint32]view.Flags{}, view: &view.View{
		Mailbox: mailbox, UIDValidity: s.UIDValidity, UIDNext: s.UIDNext, UIDs: s.UIDs,
		Flags: s.FlagList, ModSeq: s.ModSeq, Told: s.Table,
	}}
	for _, r := range rows {
		f.flags[r.uid] = r.flags
	}
	return f
}

// query has the arguments that all of these views share.
func query(all ...*follower) resync.Query {
	q := resync.Query{Mailbox: all[0].view.Mailbox, UIDValidity: all[0].view.UIDValidity, ModSeq: all[0].view.ModSeq}
	for _, f := range all {
		q.UIDs = q.UIDs.Union(f.view.UIDs)
		q.UIDNext = max(q.UIDNext, f.view.UIDNext)
		q.ModSeq = min(q.ModSeq, f.view.ModSeq)
	}
	return q
}

// tell has the client told what the state says, and fetch the flags of what is new
// to it.
func (f *follower) tell(t *testing.T, s *view.State, now []row) {
	t.Helper()
	d, err := view.Compare(f.view, s)
	if err != nil {
		t.Fatal(err)
	}
	for uid := range d.Vanished.All() {
		if _, ok := f.flags[uid]; !ok {
			t.Errorf("UID %d vanishes, which the client never had", uid)
		}
		delete(f.flags, uid)
	}
	for _, c := range d.Changed {
		if _, ok := f.flags[c.UID]; !ok {
			t.Errorf("flags of UID %d, which the client doesn't have", c.UID)
		}
		f.flags[c.UID] = c.Flags
	}
	for uid := range d.New.All() {
		f.flags[uid] = "" // it may have gone again by the time of now
	}
	for _, r := range now {
		switch {
		case !d.New.Contains(r.uid):
		case s.Table != nil:
			// now may be younger than s, and a comparison of states doesn't show what changes
			// and changes back between two. A client that fetches is told of that, by the
			// connection that it fetches on.
			f.flags[r.uid] = s.Table.Of(r.uid)
		default: // the mod-sequence shows it
			f.flags[r.uid] = r.flags
		}
	}
	f.view = f.view.After(d)
}

// wants compares what the client knows with what there is.
func (f *follower) wants(t *testing.T, rows []row) {
	t.Helper()
	if want := uidsOf(rows); !f.view.UIDs.Equal(want) {
		t.Fatalf("the client counts %s, the mailbox has %s", f.view.UIDs, want)
	}
	for _, r := range rows {
		if got, ok := f.flags[r.uid]; !ok || !got.Equal(r.flags) {
			t.Errorf("UID %d has flags (%s), the client knows (%s)", r.uid, r.flags, got)
		}
	}
}

// watch is a connection of the proxy's own.
func (l *lab) watch(t *testing.T, user string) *resync.Client {
	return commands(l.login(t, user), resync.Options{})
}

func resynced(t *testing.T, by resync.Strategy, k *resync.Client, q resync.Query) *view.State {
	t.Helper()
	s, err := by.Resync(within(t), k, q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// eachStrategy runs f on every server with every strategy that it has.
func eachStrategy(t *testing.T, f func(t *testing.T, l *lab, by resync.Strategy)) {
	onRealServers(t, func(t *testing.T, l *lab) {
		for _, by := range l.strategies() {
			t.Run(by.Name(), func(t *testing.T) { f(t, l, by) })
		}
	})
}

func TestResyncedClientsKnowTheMailbox(t *testing.T) {
	eachStrategy(t, func(t *testing.T, l *lab, by resync.Strategy) {
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(8)
		k := l.watch(t, user)
		// The one is told each time, the other now and then: a state serves both.
		s := resynced(t, by, k, resync.Query{Mailbox: "INBOX"})
		rows := w.rows()
		quick, slow := start("INBOX", s, rows), start("INBOX", s, rows)
		for i := range 40 {
			for range w.rng.IntN(4) {
				w.change()
			}
			s := resynced(t, by, k, query(quick, slow))
			rows := w.rows()
			quick.tell(t, s, rows)
			quick.wants(t, rows)
			if i%5 == 4 {
				slow.tell(t, s, rows)
				slow.wants(t, rows)
			}
			if t.Failed() {
				return
			}
		}
	})
}

func TestResyncWhileOthersChangeTheMailbox(t *testing.T) {
	eachStrategy(t, func(t *testing.T, l *lab, by resync.Strategy) {
		if l.courierStalls() {
			return
		}
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(8)
		k := l.watch(t, user)
		reader := l.writer(t, user, "INBOX") // looks for itself only
		s := resynced(t, by, k, resync.Query{Mailbox: "INBOX"})
		f := start("INBOX", s, reader.rows())
		done := make(chan struct{})
		go func() { // ends by itself
			defer close(done)
			for range 60 {
				w.change()
			}
		}()
		rounds, unsettled := 0, 0
		for running := true; running && !t.Failed(); rounds++ {
			select {
			case <-done:
				running = false
			default:
			}
			s, err := by.Resync(within(t), k, query(f))
			if errors.Is(err, resync.ErrUnsettled) && running {
				unsettled++
				continue
			}
			if err != nil {
				t.Error(err)
				break
			}
			f.tell(t, s, reader.rows())
			// Flags that the reader fetched may be younger than the state's.
		}
		<-done
		t.Logf("%d rounds, %d unsettled", rounds, unsettled)
		if t.Failed() {
			return
		}
		f.tell(t, resynced(t, by, k, query(f)), reader.rows())
		f.wants(t, reader.rows())
	})
}

func TestAMailboxThatIsAnotherOrNone(t *testing.T) {
	eachStrategy(t, func(t *testing.T, l *lab, by resync.Strategy) {
		user := l.user()
		w := l.dial(t, user)
		box := "Box"
		if !l.modern {
			box = "INBOX.Box"
		}
		w.MustOK("CREATE %s", box)
		add := &writer{Client: w, mailbox: box}
		add.append(3)
		k := l.watch(t, user)
		s := resynced(t, by, k, resync.Query{Mailbox: box})
		f := start(box, s, nil)
		w.MustOK("DELETE %s", box)

		var no *imapclient.Refusal
		if _, err := by.Resync(within(t), l.watch(t, user), query(f)); !errors.As(err, &no) {
			t.Fatalf("deleted: %v, want a refusal", err)
		}
		if l.Kind == "courier" {
			waitNextSecond(t) // its UIDVALIDITY is the time in seconds
		}
		w.MustOK("CREATE %s", box)
		add.append(3)
		s = resynced(t, by, l.watch(t, user), query(f))
		var other *view.NotSame
		if _, err := view.Compare(f.view, s); !errors.As(err, &other) || other.Reason != view.OtherUIDValidity {
			t.Fatalf("recreated: %v", err)
		}
	})
}

// TestALazyModSequence is what Dovecot does on a mailbox whose mod-sequences no session has asked
// for yet: a plain SELECT shows none, the first enabled one gives all messages the present one.
// What is set before it is lost to QRESYNC, so an enabled EXAMINE comes before the snapshot.
func TestALazyModSequence(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		if !l.modern {
			return
		}
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(3)
		session := commands(l.login(t, user), resync.Options{Forward: func([]byte) {}})
		sel, err := session.Select(within(t), false, "INBOX", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if lazy := sel.ModSeq == 0; lazy != (l.Kind == "dovecot") {
			t.Logf("a plain SELECT's HIGHESTMODSEQ: %d", sel.ModSeq)
		}
		k := l.watch(t, user)
		bound := resynced(t, resync.ByQResync{}, k, resync.Query{Mailbox: "INBOX"})
		uids, err := session.Snapshot(within(t))
		if err != nil {
			t.Fatal(err)
		}
		f := start("INBOX", bound, w.rows())
		f.view.UIDs = uids
		w.MustOK(`UID STORE 2 +FLAGS.SILENT (\Flagged NewKeyword)`)
		rows := w.rows()
		f.tell(t, resynced(t, resync.ByQResync{}, k, query(f)), rows)
		f.wants(t, rows)
		if !f.view.Flags.Has("NewKeyword") {
			t.Errorf("the new keyword isn't in FLAGS (%s)", f.view.Flags)
		}
	})
}

// TestASnapshotByFetchTellsOfFlags is what a view relies on that is taken outside IDLE, where SELECT showed no mod-sequence:
// the answer to FETCH tells of flags that others have set before it, right behind SELECT and right behind another FETCH.
func TestASnapshotByFetchTellsOfFlags(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		if !l.modern {
			return
		}
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(3)
		told := 0
		session := commands(l.login(t, user), resync.Options{Forward: func(b []byte) {
			if strings.Contains(string(b), " FETCH (") {
				told++
			}
		}})
		if _, err := session.Select(within(t), false, "INBOX", "", nil); err != nil {
			t.Fatal(err)
		}
		for _, store := range []string{`+FLAGS.SILENT (\Flagged)`, `+FLAGS.SILENT (NewKeyword)`, `-FLAGS.SILENT (\Flagged)`, `-FLAGS.SILENT (NewKeyword)`} {
			w.MustOK(`UID STORE 2 %s`, store)
			before := told
			if _, err := session.SnapshotByFetch(within(t)); err != nil {
				t.Fatal(err)
			}
			if told == before {
				t.Errorf("nothing is told of %s", store)
			}
		}
	})
}

// TestAQueryFromLongAgo asks for more than any history keeps: what is over-reported
// is of no consequence.
func TestAQueryFromLongAgo(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		if !l.modern {
			return
		}
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(200)
		w.MustOK(`UID STORE 2:150 +FLAGS.SILENT (\Deleted)`)
		w.MustOK("EXPUNGE")
		k := l.watch(t, user)
		s := resynced(t, resync.ByQResync{}, k, resync.Query{Mailbox: "INBOX"})
		f := start("INBOX", s, w.rows())
		w.MustOK(`UID STORE 160:170 +FLAGS.SILENT (\Deleted)`)
		w.MustOK("EXPUNGE")
		w.append(5)
		q := query(f)
		q.ModSeq = 1
		rows := w.rows()
		f.tell(t, resynced(t, resync.ByQResync{}, k, q), rows)
		f.wants(t, rows)
	})
}

// TestAMailboxWithManyHoles is the size that the facts speak of.
func TestAMailboxWithManyHoles(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		if !l.modern {
			return
		}
		user := l.user()
		w := l.writer(t, user, "INBOX")
		w.append(50)
		for range 6 { // 50 · 2^6
			w.MustOK("COPY 1:* INBOX")
			w.MustOK("NOOP")
		}
		n := len(w.rows())
		var gone []string
		for i := range n {
			if w.rng.IntN(20) == 0 {
				gone = append(gone, view.UIDsOf(uint32(i+1)).String())
			}
		}
		w.MustOK(`UID STORE %s +FLAGS.SILENT (\Deleted)`, strings.Join(gone, ","))
		w.MustOK("EXPUNGE")
		rows := w.rows()
		session := commands(l.login(t, user), resync.Options{Forward: func([]byte) {}})
		if _, err := session.Select(within(t), true, "INBOX", "", nil); err != nil {
			t.Fatal(err)
		}
		for name, take := range map[string]func(context.Context) (view.UIDs, error){
			"search": session.Snapshot, "fetch": session.SnapshotByFetch,
		} {
			uids, err := take(within(t))
			if err != nil || !uids.Equal(uidsOf(rows)) {
				t.Errorf("%s: %v, %d messages of %d", name, err, uids.Count(), len(rows))
			}
		}
		k := l.watch(t, user)
		for _, by := range []resync.Strategy{resync.ByQResync{}, resync.ByComparison{}} {
			if s := resynced(t, by, k, resync.Query{Mailbox: "INBOX"}); !s.UIDs.Equal(uidsOf(rows)) {
				t.Errorf("%s: %d messages of %d", by.Name(), s.UIDs.Count(), len(rows))
			}
			k = l.watch(t, user)
		}
	})
}
