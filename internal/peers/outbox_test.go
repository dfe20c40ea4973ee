package peers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/peers"
)

// inbox is a peer that takes hints.
type inbox struct {
	t       *testing.T
	id      string
	srv     *httptest.Server
	batches chan []string // each "user mailbox"
	answers chan int      // the status of each answer, in order; none left: 200
	holding chan struct{} // each request waits for a token where it isn't nil
}

func takes(t *testing.T, id string, change func(*inbox)) *inbox {
	i := &inbox{t: t, id: id, batches: make(chan []string, 1000), answers: make(chan int, 1000)}
	if change != nil {
		change(i)
	}
	i.srv = httptest.NewServer(http.HandlerFunc(i.take))
	t.Cleanup(i.srv.Close)
	return i
}

func (i *inbox) take(w http.ResponseWriter, r *http.Request) {
	var h peers.Hints
	if r.URL.Path != peers.HintsPath || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer s3cret" {
		i.t.Errorf("%s %s", r.Method, r.URL)
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, peers.MaxHintBytes)).Decode(&h); err != nil {
		i.t.Error(err)
	}
	if err := h.Check(); err != nil {
		i.t.Error(err)
	}
	var batch []string
	for _, one := range h.Hints {
		batch = append(batch, strings.TrimSpace(one.User+" "+one.Mailbox))
	}
	if i.holding != nil {
		select {
		case <-i.holding:
		case <-r.Context().Done():
			return
		}
	}
	status := http.StatusOK
	if r.Header.Get(peers.HeaderFrom) == i.id {
		status = peers.StatusSelf
	}
	select {
	case status = <-i.answers:
	default:
	}
	i.batches <- batch
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, "{}")
}

func (i *inbox) peer() peers.Peer { return peers.Peer{Name: i.id, Address: host(i.srv)} }

// got waits until each of these has come, in whatever batches.
func (i *inbox) got(want ...string) {
	i.t.Helper()
	missing := slices.Clone(want)
	for len(missing) > 0 {
		select {
		case batch := <-i.batches:
			missing = slices.DeleteFunc(missing, func(m string) bool { return slices.Contains(batch, m) })
		case <-time.After(10 * time.Second):
			i.t.Fatalf("%s: %v haven't come", i.id, missing)
		}
	}
}

// outbox is one whose Run ends with the test, or earlier when stop is called.
func outbox(t *testing.T, o peers.OutboxOptions, to ...*inbox) (b *peers.Outbox, stop func()) {
	f := fleet(t, peers.Options{Within: 5 * time.Second})
	o.Gap, o.FirstPause = time.Millisecond, time.Millisecond
	o.LastPause = 5 * time.Millisecond
	b = peers.NewOutbox(f, o)
	b.Found(asPeers(to))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { b.Run(ctx) })
	stop = func() { cancel(); run.Wait() }
	t.Cleanup(stop)
	return b, stop
}

func asPeers(all []*inbox) (found []peers.Peer) {
	for _, i := range all {
		found = append(found, i.peer())
	}
	return found
}

// until waits until the counters satisfy a condition.
func until(t *testing.T, b *peers.Outbox, what string, right func(peers.OutboxStats) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !right(b.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, b.Stats())
		}
	}
}

func TestAHintGoesToEachPeer(t *testing.T) {
	own, two, three := takes(t, "p1", nil), takes(t, "p2", nil), takes(t, "p3", nil)
	b, _ := outbox(t, peers.OutboxOptions{}, own, two, three)
	b.Add("ann", "INBOX")
	for _, to := range []*inbox{own, two, three} {
		to.got("ann INBOX")
	}
	until(t, b, "this process doesn't count", func(s peers.OutboxStats) bool { return s == peers.OutboxStats{Sent: 2} })
	b.Add("ann", "")
	two.got("ann")
	three.got("ann")
	until(t, b, "sent", func(s peers.OutboxStats) bool { return s == peers.OutboxStats{Sent: 4} })
	if len(own.batches) > 0 {
		t.Error("this process has sent to itself, knowing it")
	}
}

// Hints that come while a peer is busy go with the next batch, each once.
func TestHintsGoInBatches(t *testing.T) {
	two := takes(t, "p2", func(i *inbox) { i.holding = make(chan struct{}) })
	b, _ := outbox(t, peers.OutboxOptions{}, two)
	b.Add("first", "INBOX")
	until(t, b, "on its way", func(s peers.OutboxStats) bool { return s.Waiting == 0 })
	for range 3 {
		for n := range 1200 {
			b.Add(fmt.Sprintf("u%d", n), "INBOX")
		}
	}
	close(two.holding)
	var sizes []int
	for total := 0; total < 1201; {
		batch := <-two.batches
		sizes, total = append(sizes, len(batch)), total+len(batch)
	}
	if !slices.Equal(sizes, []int{1, 500, 500, 200}) {
		t.Errorf("batches of %v", sizes)
	}
	// Long names make batches shorter: the body is bounded as well (the peer's decoder says so). Each
	// octet of these is six in JSON.
	for n := range 100 {
		b.Add(strings.Repeat("<", 500)+fmt.Sprint(n), strings.Repeat("&", 1000))
	}
	until(t, b, "sent", func(s peers.OutboxStats) bool { return s == peers.OutboxStats{Sent: 1301} })
}

// A peer that doesn't answer, and one that refuses, delay no other; the hints that they haven't taken are
// sent later.
func TestAPeerThatIsDownOrSlowDelaysNone(t *testing.T) {
	slow := takes(t, "slow", func(i *inbox) { i.holding = make(chan struct{}) })
	refuses, well := takes(t, "refuses", nil), takes(t, "well", nil)
	for range 3 {
		refuses.answers <- http.StatusServiceUnavailable
	}
	gone := takes(t, "gone", nil)
	gone.srv.Close()
	b, _ := outbox(t, peers.OutboxOptions{}, slow, refuses, well, gone)
	for n := range 50 {
		b.Add("ann", fmt.Sprint(n))
		well.got(fmt.Sprint("ann ", n))
	}
	if len(slow.batches) > 0 {
		t.Error("the slow one has answered")
	}
	b.Add("bob", "")
	refuses.got("bob")
	close(slow.holding)
	slow.got("bob")
	until(t, b, "failed batches", func(s peers.OutboxStats) bool { return s.Failed > 3 && s.Waiting > 0 && s.Lost == 0 })
}

// The hints that wait for a peer are bounded. Those that don't fit are counted, and the other peers have
// their own room.
func TestWhatWaitsForAPeerIsBounded(t *testing.T) {
	down, well := takes(t, "down", nil), takes(t, "well", nil)
	down.srv.Close()
	b, stop := outbox(t, peers.OutboxOptions{Waiting: 1}, down, well)
	const users = 1000
	for n := range users {
		user := fmt.Sprint("u", n)
		b.Add(user, "INBOX")
		well.got(user + " INBOX")
	}
	until(t, b, "sent", func(s peers.OutboxStats) bool { return s.Sent == users })
	stop() // then no batch is on its way
	// 256 hints, and as many users' hints without mailboxes; a batch in progress may have been lost with
	// them.
	if s := b.Stats(); s.Waiting < 256 || s.Waiting > 512 || s.Sent != users || s.Lost != uint64(users-s.Waiting) {
		t.Errorf("%+v", s)
	}
	// Many mailboxes of one user are one hint.
	waiting := b.Stats().Waiting
	b.Found(asPeers([]*inbox{well}))
	if s := b.Stats(); s.Waiting != 0 || s.Lost != users {
		t.Errorf("of a peer that has gone: %+v, before it %d waited", s, waiting)
	}
	for n := range 100 {
		b.Add("ann", fmt.Sprint(n))
	}
	if s := b.Stats(); s.Waiting != 1 || s.Lost != users {
		t.Errorf("of one user: %+v", s)
	}
}

// Hints for a peer wait on while the peer is found again and again; a new peer at an old address gets no old
// hints, and no hint twice.
func TestPeersComeAndGo(t *testing.T) {
	two := takes(t, "p2", func(i *inbox) { i.holding = make(chan struct{}) })
	three := takes(t, "p3", nil)
	b, _ := outbox(t, peers.OutboxOptions{}, two)
	b.Add("ann", "INBOX")
	until(t, b, "on its way", func(s peers.OutboxStats) bool { return s.Waiting == 0 })
	b.Add("bob", "INBOX")
	b.Found(asPeers([]*inbox{three, two}))
	b.Add("cid", "INBOX")
	three.got("cid INBOX")
	close(two.holding)
	two.got("ann INBOX", "bob INBOX", "cid INBOX")
	until(t, b, "all is sent", func(s peers.OutboxStats) bool { return s == peers.OutboxStats{Sent: 4} })
	b.Found(nil)
	b.Add("dan", "INBOX")
	if s := b.Stats(); s.Waiting != 0 || s.Lost != 0 {
		t.Errorf("without peers: %+v", s)
	}
	// At an address that was this process's there may be another peer.
	own := takes(t, "p1", nil)
	b.Found(asPeers([]*inbox{own}))
	b.Add("eve", "")
	own.got("eve")
	for asked := false; !asked; { // until the answer to the first was read
		b.Found(asPeers([]*inbox{own}))
		b.Add("fay", "")
		select {
		case <-own.batches:
			asked = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Hints from a peer are checked.
func TestHintsAreChecked(t *testing.T) {
	long := strings.Repeat("x", 1025)
	for _, bad := range []peers.Hint{{}, {Mailbox: "INBOX"}, {User: long}, {User: "ann", Mailbox: long}} {
		if (peers.Hints{Hints: []peers.Hint{{User: "ann"}, bad}}).Check() == nil {
			t.Errorf("%.20v is taken", bad)
		}
	}
	if (peers.Hints{Hints: slices.Repeat([]peers.Hint{{User: "ann"}}, 501)}).Check() == nil {
		t.Error("any number is taken")
	}
	if err := (peers.Hints{Hints: slices.Repeat([]peers.Hint{{User: "ann", Mailbox: "INBOX"}}, 500)}).Check(); err != nil {
		t.Error(err)
	}
}
