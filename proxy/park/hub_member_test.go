package park

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
)

// clock runs, and the test may put it forward.
type clock struct {
	ahead atomic.Int64
	hub   *Hub
}

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// pass lets d go by.
func (c *clock) pass(d time.Duration) {
	c.ahead.Add(int64(d))
	c.hub.timers.recheck()
}

// newHub runs a hub until the test's end.
func newHub(t *testing.T, o HubOptions) (*Hub, *clock) {
	t.Helper()
	c := &clock{}
	if o.Now == nil {
		o.Now = c.Now
	}
	h := NewHub(o)
	c.hub = h
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with cancel below
		defer close(done)
		h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	eventually(t, "the hub's poller", func() bool { // a watch that comes before it keeps its goroutine until something happens
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.poller != nil
	})
	return h, c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// member is a parked session whose client is in IDLE, and believes what it is
// told.
type member struct {
	t       *testing.T
	dialect view.Dialect

	mu      sync.Mutex // guards what follows
	view    *view.View
	client  *imaptest.ModelClient
	states  int
	err     error
	gone    error
	lost    int
	changed chan struct{} // closed and replaced at each change
	onApply func()
}

// newMember is a session that has just selected the mailbox and taken its view.
func newMember(t *testing.T, f *fake, sub *Subscription, box string, dialect view.Dialect) *member {
	t.Helper()
	truth := f.truth(box)
	var table *view.FlagTable
	if sub.Strategy() == "comparison" {
		table = truthTable(truth)
	}
	v := &view.View{
		Mailbox: box, UIDValidity: truth.UIDValidity, UIDNext: truth.UIDNext, UIDs: view.UIDsOf(truth.UIDs()...),
		Flags: mustFlags(`\Seen \Flagged \Deleted $A $B`), ModSeq: truth.ModSeq, Told: table,
	}
	if table != nil {
		v.ModSeq = 0
	} else if bound := sub.ModSeq(); bound != 0 {
		if bound > truth.ModSeq {
			t.Errorf("the bound is %d, the mailbox' own %d", bound, truth.ModSeq)
		}
		v.ModSeq = bound
	}
	m := &member{t: t, dialect: dialect, view: v, changed: make(chan struct{})}
	m.client = imaptest.NewModelClient(imaptest.ModelDialect(dialect), truth, `\Seen`, `\Flagged`, `\Deleted`, "$A", "$B")
	m.client.Begin("IDLE")
	return m
}

func truthTable(box *imaptest.ModelMailbox) *view.FlagTable {
	var rows []view.FlagChange
	for _, m := range box.Messages {
		rows = append(rows, view.FlagChange{UID: m.UID, Flags: mustFlags(strings.Join(m.Flags, " "))})
	}
	return view.NewFlagTable(rows)
}

func mustFlags(s string) view.Flags {
	f, err := view.ParseFlags([]byte(s))
	if err != nil {
		panic(err) // a test's own constant
	}
	return f
}

func (m *member) View() *view.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

func (m *member) Apply(s *view.State) {
	if m.onApply != nil {
		m.onApply()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changedLocked()
	m.states++
	if m.view == nil {
		return
	}
	d, err := view.Compare(m.view, s)
	if err != nil {
		m.err = err
		m.t.Logf("compare: %v", err)
		return
	}
	for line := range bytes.Lines(d.AppendTo(nil, m.dialect, m.view)) {
		if err := m.client.Response(imaptest.Response{Text: string(bytes.TrimRight(line, "\r\n"))}); err != nil {
			m.t.Errorf("%s: %v", line, err)
		}
	}
	m.view = m.view.After(d)
}

func (m *member) Gone(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changedLocked()
	m.gone = err
}

func (m *member) Lost() {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changedLocked()
	m.lost++
}

func (m *member) changedLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// leave is what a session does when it resumes.
func (m *member) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view = nil
}

// until waits until ok, which is asked with the lock held.
func (m *member) until(what string, ok func() bool) {
	m.t.Helper()
	for late := time.After(patience); ; {
		m.mu.Lock()
		done, changed := ok(), m.changed
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			m.t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

func (m *member) counts(n int) {
	m.t.Helper()
	m.until("the client counts its messages", func() bool { return m.client.Count() == n })
}

// converged says that the client knows what is true.
func (m *member) converged(truth *imaptest.ModelMailbox) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		m.t.Errorf("compare: %v", m.err)
	}
	// A client whose dialect tells no UIDs learns them itself.
	for i, uid := range truth.UIDs() {
		if err := m.client.Learn(i+1, uid); err != nil {
			m.t.Error(err)
		}
	}
	if err := m.client.Converged(truth); err != nil {
		m.t.Error(err)
	}
}

// eventually waits for a state that no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	imaptest.Eventually(t, what, ok)
}

func subscribe(t *testing.T, h *Hub, a Account, box string) *Subscription {
	t.Helper()
	s, err := h.Subscribe(within(t), a, box)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// parked is a session that is parked.
func parked(t *testing.T, h *Hub, f *fake, a Account, box string, dialect view.Dialect) (*Subscription, *member) {
	t.Helper()
	s := subscribe(t, h, a, box)
	m := newMember(t, f, s, box, dialect)
	s.Join(m)
	return s, m
}
