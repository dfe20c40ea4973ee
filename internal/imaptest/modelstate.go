package imaptest

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// ModelServer is an IMAP server in memory that is right: what it says is made from
// what it has told that client before, one command at a time. What RFC 9051 leaves
// open it does now this way, now another, as real servers do: an EXPUNGE is told
// at once or kept back, SEARCH may answer by what the client knows, QRESYNC may report
// more gone than there were, and `*` may be a message that was not told yet.
//
// Every name is a user, whatever the password is; mailboxes are made by CREATE.
type ModelServer struct {
	*Backend
	o ModelServerOptions

	mu    sync.Mutex // guards what follows
	boxes map[string]*modelBox
}

// ModelServerOptions are a ModelServer's. The zero value is an IMAP4rev1 server
// without extensions.
type ModelServerOptions struct {
	// QResync: it speaks CONDSTORE, QRESYNC, ESEARCH and UNSELECT, too.
	QResync bool
	// Changed is told of each change by a client, as a push event would say it, before
	// that client's answer goes out.
	Changed func(user, mailbox string)
}

// modelSession is one connection to it.
type modelSession struct {
	*ModelServer
	c       *BackendConn
	rng     *rand.Rand
	user    string
	dialect ModelDialect
	idle    string // the tag of IDLE

	// Of the selected mailbox, nil for none: what the client was told.
	box      *modelBox
	readOnly bool
	view     []uint32          // the UIDs that it counts
	told     map[uint32]uint64 // the mod-sequence of the flags that it knows
	flags    int               // so many of box.flags
	out      []string          // what is to be sent
}

// modelBox is a mailbox: what is true of it, and what it lists of keywords.
type modelBox struct {
	ModelMailbox
	user, name string
	flags      []string
	subjects   map[uint32][]byte
	changed    chan struct{} // closed and replaced at each change
}

func (s *modelSession) say(format string, args ...any) {
	s.out = append(s.out, fmt.Sprintf(format, args...))
}

func (b *modelBox) add(text []byte, flags ...string) (uid uint32) {
	uid = b.Append(flags...)
	b.subjects[uid] = text
	b.happened()
	return uid
}

// happened wakes the sessions that wait for a change.
func (b *modelBox) happened() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (s *modelSession) find(name string) *modelBox { return s.boxes[s.user+"/"+name] }
