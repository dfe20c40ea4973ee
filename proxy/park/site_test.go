package park

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

const (
	modernCaps = "IDLE ENABLE CONDSTORE QRESYNC ESEARCH UNSELECT NAMESPACE"
	plainCaps  = "IDLE UNSELECT"
)

// patience is how long what must come may take on a busy machine.
const patience = 20 * time.Second

// fake is a backend with mailboxes that are true: sessions tell what changed in IDLE
// at once, by the rules of QRESYNC where it was enabled.
type fake struct {
	*imaptest.Backend
	t    *testing.T
	caps string

	mu       sync.Mutex // guards what follows
	boxes    map[string]*imaptest.ModelMailbox
	changed  chan struct{}     // closed and replaced at each change
	refuse   map[string]string // a verb, or verb and mailbox, and what it is answered
	hold     map[string]chan struct{}
	mute     bool // IDLE and NOTIFY tell nothing
	commands []string
	logins   int
	noLogin  bool

	warm atomic.Int32 // connections that its accounts were given back and haven't lent again
}

func newFake(t *testing.T, caps string) *fake {
	f := &fake{
		t: t, caps: caps, boxes: map[string]*imaptest.ModelMailbox{}, changed: make(chan struct{}),
		refuse: map[string]string{}, hold: map[string]chan struct{}{},
	}
	f.Backend = imaptest.NewBackend(t, f.serve)
	f.box("INBOX", 3)
	return f
}

// box makes a mailbox with n messages.
func (f *fake) box(name string, n int) {
	f.change(func() {
		m := imaptest.NewModelMailbox(9)
		for range n {
			m.Append()
		}
		f.boxes[name] = m
	})
}

// change changes what is true.
func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) deliver(name string) {
	f.change(func() { f.boxes[name].Append() })
}

func (f *fake) truth(name string) *imaptest.ModelMailbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boxes[name].Clone()
}

// asked is how often a command that begins so has come.
func (f *fake) asked(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.commands {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// account is how the hub acts here. Connections that it gives back are lent again.
func (f *fake) account() Account {
	d, err := upstream.New(upstream.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	var mu sync.Mutex
	var warm []*upstream.Conn
	closed := false
	f.t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		closed = true
		for _, c := range warm {
			_ = c.Close()
		}
	})
	return Account{
		User: "u", Backend: "b1", Caps: wire.ParseCaps([]byte("IMAP4rev1 " + f.caps)),
		Login: func(ctx context.Context, _ *telemetry.Steps) (*upstream.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			for len(warm) > 0 {
				c := warm[0]
				warm = warm[1:]
				f.warm.Add(-1)
				if c.Pending() == nil {
					return c, nil
				}
				_ = c.Close()
			}
			return d.Login(ctx, upstream.Target{ID: "b1", Address: f.Addr}, upstream.Auth{User: "u", Password: "p"}, upstream.Client{})
		},
		Give: func(c *upstream.Conn, enabled []string) {
			mu.Lock()
			defer mu.Unlock()
			want := 0
			if strings.Contains(f.caps, "QRESYNC") {
				want = 1
			}
			if len(enabled) != want {
				f.t.Errorf("given back with %q", enabled)
			}
			if closed {
				_ = c.Close()
				return
			}
			warm = append(warm, c)
			f.warm.Add(1)
		},
	}
}

// fakeSession is one connection.
type fakeSession struct {
	*fake
	c       *imaptest.BackendConn
	box     string
	known   *imaptest.ModelMailbox // as the client knows it; nil: nothing is selected
	qresync bool
	idle    string // the tag of IDLE
	notify  map[string]uint64
}

func (f *fake) serve(c *imaptest.BackendConn) error {
	f.mu.Lock()
	f.logins++
	no := f.noLogin
	f.mu.Unlock()
	if no {
		return c.Send("* BYE not now")
	}
	c.Timeout = time.Hour
	s := &fakeSession{fake: f, c: c}
	if err := c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hello"); err != nil {
		return err
	}
	commands := make(chan imaptest.Command)
	ended := make(chan error, 1)
	// Ends with the connection, or with the reader of commands.
	go func() {
		for {
			cmd, err := c.ReadCommand()
			if err != nil {
				ended <- nil
				return
			}
			select {
			case commands <- cmd:
			case <-c.Context().Done():
				ended <- nil
				return
			}
		}
	}()
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if err := s.push(); err != nil {
			_ = c.Close()
			<-ended
			return err
		}
		select {
		case cmd := <-commands:
			if err := s.command(cmd); err != nil {
				_ = c.Close()
				// The reader may be about to hand a command over.
				for {
					select {
					case <-commands:
						continue
					case <-ended:
						return err
					}
				}
			}
		case <-changed:
		case err := <-ended:
			return err
		}
	}
}

// push tells what happened to a client that waits for it.
func (s *fakeSession) push() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return nil
	}
	var out []string
	if s.idle != "" {
		out = s.syncLocked()
	}
	for name, modSeq := range s.notify {
		if box := s.boxes[name]; box != nil && box.ModSeq != modSeq {
			s.notify[name] = box.ModSeq
			out = append(out, s.statusLocked(name))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return s.c.Send(out...)
}

func (s *fakeSession) statusLocked(name string) string {
	b := s.boxes[name]
	return fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)",
		wire.AppendQuoted(nil, view.EncodeMailbox(name, false)), len(b.Messages), b.UIDNext, b.UIDValidity, b.ModSeq)
}

// syncLocked brings the client up to date.
func (s *fakeSession) syncLocked() []string {
	now := s.boxes[s.box]
	if s.known == nil || now == nil || now.ModSeq == s.known.ModSeq {
		return nil
	}
	var out []string
	old := s.known.UIDs()
	s.known = now.Clone()
	uids := now.UIDs()
	var left, gone []uint32
	for i := len(old) - 1; i >= 0; i-- {
		if slices.Contains(uids, old[i]) {
			left = append(left, old[i])
			continue
		}
		gone = append(gone, old[i])
		if !s.qresync {
			out = append(out, fmt.Sprintf("* %d EXPUNGE", i+1))
		}
	}
	if len(gone) > 0 && s.qresync {
		out = append(out, "* VANISHED "+view.UIDsOf(gone...).String())
	}
	if len(uids) != len(left) {
		out = append(out, fmt.Sprintf("* %d EXISTS", len(uids)))
	}
	for i, m := range now.Messages {
		// To know which have changed since, an honest server keeps more; telling too
		// much is allowed.
		if slices.Contains(left, m.UID) {
			out = append(out, s.fetch(i+1, m, true))
		}
	}
	return out
}

func (s *fakeSession) fetch(n int, m imaptest.ModelMessage, uid bool) string {
	items := "FLAGS (" + strings.Join(m.Flags, " ") + ")"
	if uid || s.qresync {
		items = fmt.Sprintf("UID %d ", m.UID) + items
	}
	if s.qresync {
		items += fmt.Sprintf(" MODSEQ (%d)", m.ModSeq)
	}
	return fmt.Sprintf("* %d FETCH (%s)", n, items)
}

func (s *fakeSession) command(cmd imaptest.Command) error {
	tag := cmd.Tag()
	line := strings.TrimPrefix(cmd.Text, tag+" ")
	s.mu.Lock()
	s.commands = append(s.commands, line)
	hold := s.hold[cmd.Name]
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-s.c.Context().Done():
			return s.c.Context().Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != "" {
		if cmd.Text != "DONE" {
			return fmt.Errorf("%q in IDLE", cmd.Text)
		}
		out := append(s.syncLocked(), s.idle+" OK done")
		s.idle = ""
		return s.c.Send(out...)
	}
	for _, key := range []string{cmd.Name, line} {
		if answer, ok := s.refuse[key]; ok {
			return s.c.Send(tag + " " + answer)
		}
	}
	var out []string
	switch cmd.Name {
	case "AUTHENTICATE":
		return s.c.Send(tag + " OK [CAPABILITY IMAP4rev1 " + s.caps + "] in")
	case "ENABLE":
		if !s.qresync { // as Cyrus, which doesn't repeat it
			s.qresync = true
			out = append(out, "* ENABLED QRESYNC")
		}
	case "NAMESPACE":
		out = append(out, `* NAMESPACE (("" "/")("virtual/" "/")) (("Other Users/" "/")) (("Shared/" "/"))`)
	case "UNSELECT":
		s.known = nil
	case "NOOP":
		out = s.syncLocked()
	case "EXAMINE":
		var no string
		if out, no = s.examineLocked(cmd); no != "" {
			return s.c.Send(tag + " " + no)
		}
		return s.c.Send(append(out, tag+" OK [READ-ONLY] done")...)
	case "UID SEARCH":
		uids := view.UIDsOf(s.known.UIDs()...)
		all := ""
		if !uids.Empty() {
			all = " ALL " + uids.String()
		}
		out = append(out, fmt.Sprintf(`* ESEARCH (TAG %q) UID%s COUNT %d`, tag, all, uids.Count()))
	case "UID FETCH":
		out = s.uidFetchLocked(cmd)
		out = append(out, s.syncLocked()...)
	case "IDLE":
		s.idle = tag
		return s.c.Send("+ idling")
	case "NOTIFY":
		if cmd.Args == "NONE" {
			s.notify = nil
			break
		}
		if s.notify != nil {
			s.t.Error("NOTIFY is set over another setting: Dovecot would be slow from then on")
		}
		out = s.notifyLocked(cmd)
	default:
		return s.c.Send(tag + " BAD what?")
	}
	return s.c.Send(append(out, tag+" OK done")...)
}

func (s *fakeSession) examineLocked(cmd imaptest.Command) (out []string, no string) {
	name, err := view.DecodeMailbox(cmd.Strings()[0], false)
	box := s.boxes[name]
	if err != nil || box == nil {
		return nil, "NO [NONEXISTENT] no such mailbox"
	}
	s.box, s.known = name, box.Clone()
	out = append(out, fmt.Sprintf("* %d EXISTS", len(box.Messages)), `* FLAGS (\Seen \Flagged \Deleted $A $B)`,
		fmt.Sprintf("* OK [UIDVALIDITY %d] v", box.UIDValidity), fmt.Sprintf("* OK [UIDNEXT %d] n", box.UIDNext))
	if s.qresync {
		out = append(out, fmt.Sprintf("* OK [HIGHESTMODSEQ %d] m", box.ModSeq))
	}
	_, params, ok := strings.Cut(cmd.Args, "(QRESYNC (")
	if !ok {
		return out, ""
	}
	if !s.qresync {
		return nil, "BAD QRESYNC isn't enabled"
	}
	words := strings.Fields(strings.Trim(params, "()"))
	validity, _ := strconv.ParseUint(words[0], 10, 32)
	since, _ := strconv.ParseUint(words[1], 10, 64)
	if uint32(validity) != box.UIDValidity || since > box.ModSeq {
		return out, ""
	}
	var gone []uint32
	for _, m := range box.Gone {
		if m.ModSeq > since {
			gone = append(gone, m.UID)
		}
	}
	if len(gone) > 0 {
		out = append(out, "* VANISHED (EARLIER) "+view.UIDsOf(gone...).String())
	}
	for i, m := range box.Messages {
		if m.ModSeq > since {
			out = append(out, s.fetch(i+1, m, true))
		}
	}
	return out, ""
}

func (s *fakeSession) uidFetchLocked(cmd imaptest.Command) (out []string) {
	words := strings.Fields(cmd.Args)
	first, _ := strconv.ParseUint(strings.TrimSuffix(words[0], ":*"), 10, 32)
	flags := strings.Contains(cmd.Args, "FLAGS")
	for i, m := range s.known.Messages {
		last := i == len(s.known.Messages)-1
		if m.UID < uint32(first) && !last {
			continue
		}
		if flags {
			out = append(out, s.fetch(i+1, m, true))
		} else {
			out = append(out, fmt.Sprintf("* %d FETCH (UID %d)", i+1, m.UID))
		}
	}
	return out
}

func (s *fakeSession) notifyLocked(cmd imaptest.Command) (out []string) {
	s.notify = map[string]uint64{}
	if strings.Contains(cmd.Args, "(personal (") {
		for name, box := range s.boxes {
			s.notify[name] = box.ModSeq
			out = append(out, s.statusLocked(name))
		}
		return out
	}
	_, list, _ := strings.Cut(cmd.Args, "mailboxes (")
	list, _, _ = strings.Cut(list, ")")
	for len(list) > 0 {
		name, rest, err := wire.AString([]byte(list))
		if err != nil {
			s.t.Error(err)
		}
		list = string(rest)
		name, _ = view.DecodeMailbox(name, false)
		if box := s.boxes[name]; box != nil {
			s.notify[name] = box.ModSeq
			out = append(out, s.statusLocked(name))
		}
	}
	return out
}
