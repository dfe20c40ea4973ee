package imaptest

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// NewModelServer runs one until the test's end.
func NewModelServer(t testing.TB, o ModelServerOptions) *ModelServer {
	s := &ModelServer{o: o, boxes: map[string]*modelBox{}}
	s.Backend = NewBackend(t, s.serve)
	return s
}

func (m *ModelServer) caps() string {
	if m.o.QResync {
		return "IMAP4rev1 LITERAL+ IDLE ENABLE UIDPLUS MOVE SORT NAMESPACE CONDSTORE QRESYNC ESEARCH UNSELECT"
	}
	return "IMAP4rev1 LITERAL+ IDLE UIDPLUS MOVE SORT NAMESPACE"
}

func (m *ModelServer) serve(c *BackendConn) error {
	s := &modelSession{ModelServer: m, c: c, rng: rand.New(rand.NewPCG(uint64(c.Index), 3))}
	if err := c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] model"); err != nil {
		return err
	}
	commands, ended := make(chan Command), make(chan struct{})
	go func() { // ends with the connection, which serve's caller closes
		defer close(ended)
		for {
			if c.SetReadDeadline(time.Time{}) != nil {
				return
			}
			u, err := c.r.next() // not ReadCommand, which keeps all of them
			if err != nil {
				return
			}
			select {
			case commands <- parseCommand(u):
			case <-c.Context().Done():
				return
			}
		}
	}()
	for {
		changed := s.wake()
		select {
		case cmd := <-commands:
			if err := s.answer(cmd); err != nil {
				_ = c.Close()
				for {
					select {
					case <-commands: // its reader may be about to hand one over
					case <-ended:
						return err
					}
				}
			}
		case <-changed:
		case <-ended:
			return nil
		}
	}
}

// wake tells a client in IDLE what has changed, and returns what says when more has.
func (s *modelSession) wake() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == "" || s.box == nil {
		return nil
	}
	s.sync(true)
	if len(s.out) > 0 {
		_ = s.c.Send(s.out...) // the reader notices that a client has gone
		s.out = nil
	}
	return s.box.changed
}

// answer answers one command, as a whole: nothing happens in between.
func (s *modelSession) answer(cmd Command) error {
	s.mu.Lock()
	before := s.box
	status := s.command(cmd)
	out := s.out
	s.out = nil
	user, hint := s.user, ""
	if s.box != nil && s.box == before && changesMailbox(cmd.Name) {
		hint = s.box.name
	}
	if cmd.Name == "APPEND" {
		hint = cmd.Strings()[0]
	}
	s.mu.Unlock()
	if hint != "" && s.o.Changed != nil {
		s.o.Changed(user, hint)
	}
	if status != "" {
		out = append(out, cmd.Tag()+" "+status)
	}
	err := s.c.Send(out...)
	if err == nil && cmd.Name == "LOGOUT" {
		return io.EOF
	}
	return err
}

func changesMailbox(verb string) bool {
	switch strings.TrimPrefix(verb, "UID ") {
	case "STORE", "EXPUNGE", "COPY", "MOVE":
		return true
	}
	return false
}

// command does one, and returns its status: "OK done". Locked, as all below.
func (s *modelSession) command(cmd Command) string {
	if s.idle != "" {
		s.sync(true)
		s.say("%s OK idle is over", s.idle)
		s.idle = ""
		if cmd.Text != "DONE" {
			return "BAD that isn't DONE"
		}
		return ""
	}
	words := cmd.Strings()
	switch cmd.Name {
	case "AUTHENTICATE":
		plain, err := base64.StdEncoding.DecodeString(words[len(words)-1])
		f := strings.Split(string(plain), "\x00")
		if err != nil || len(f) != 3 {
			return "BAD not that way"
		}
		s.user = f[1]
		return "OK [CAPABILITY " + s.caps() + "] in"
	case "LOGIN":
		s.user = words[0]
		return "OK [CAPABILITY " + s.caps() + "] in"
	case "CAPABILITY":
		s.say("* CAPABILITY %s", s.caps())
	case "ID":
		s.say("* ID NIL")
	case "NAMESPACE":
		s.say(`* NAMESPACE (("" "/")) NIL NIL`)
	case "LOGOUT":
		s.say("* BYE then")
	case "ENABLE":
		if !s.o.QResync {
			return "BAD what?"
		}
		s.say("* ENABLED %s", cmd.Args)
		if strings.Contains(cmd.Args, "QRESYNC") {
			s.dialect = ModelQResync
		} else {
			s.dialect = max(s.dialect, ModelCondStore)
		}
	case "CREATE":
		if s.find(words[0]) != nil {
			return "NO it's there"
		}
		box := &modelBox{ModelMailbox: *NewModelMailbox(1), user: s.user, name: words[0], subjects: map[uint32][]byte{}, changed: make(chan struct{})}
		box.flags = []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}
		s.boxes[s.user+"/"+words[0]] = box
	case "STATUS":
		box := s.find(words[0])
		if box == nil {
			return "NO [NONEXISTENT] no such mailbox"
		}
		s.say("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)", words[0], len(box.Messages), box.UIDNext, box.UIDValidity, box.ModSeq)
	case "SELECT", "EXAMINE":
		return s.selects(cmd, words[0])
	case "UNSELECT", "CLOSE":
		if s.box != nil && cmd.Name == "CLOSE" {
			s.expunge(func(m ModelMessage) bool { return slices.Contains(m.Flags, `\Deleted`) })
		}
		s.box = nil
	case "APPEND":
		box := s.find(words[0])
		if box == nil || len(cmd.Literals) != 1 {
			return "NO [TRYCREATE] no such mailbox"
		}
		uid := box.add(cmd.Literals[0].Data)
		s.after(cmd.Name)
		return fmt.Sprintf("OK [APPENDUID %d %d] done", box.UIDValidity, uid)
	case "NOOP", "CHECK":
		s.sync(true)
		return "OK " + s.modSeqCode() + "done"
	case "IDLE":
		s.idle = cmd.Tag()
		s.say("+ idling")
		return ""
	default:
		if s.box == nil {
			return "BAD nothing is selected"
		}
		return s.selected(cmd)
	}
	return "OK done"
}
