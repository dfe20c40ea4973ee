package model

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// defaultPatience bounds an answer, on a busy machine.
const defaultPatience = 40 * time.Second

// transcript has the lines of a case, of both sides.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (t *transcript) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// client is a mail program: a connection, and the model of the state that the program knows.
type client struct {
	dialing
	dialect imaptest.ModelDialect
	conn    *imaptest.Conn
	in      chan imaptest.Response // closed at the connection's end
	model   *imaptest.ModelClient  // nil: nothing is selected
	leaving *imaptest.ModelLeaving // nil, or the model while it leaves a mailbox and has none
	local   string
	tags    int

	tagged      chan string // the tags of answers, for the test that plants packets; nil: there is none
	uidValidity string
	idleTag     string // of the IDLE that it is in
	bye         string
	ended       bool
}

// dialing has the user of a connection, and the address.
type dialing struct {
	addr      string
	tls       *tls.Config // nil: in the clear
	user, box string
	name      string
	t         *transcript
	patience  time.Duration
	fault     func() fault // nil: there is none
	// staleFlags: the server may tell older flags after newer ones.
	staleFlags bool
	packets    packets
	breaks     bool // the server's connections are cut, also those that log in
	compress   bool
}

// fault changes the responses to one connection, as a fault of the server would.
type fault func(imaptest.Response) []imaptest.Response

var errCut = errors.New("the connection has ended")

func dial(d dialing) (*client, error) {
	nc, err := imaptest.DialConn(t0(), d.addr, imaptest.DialOptions{Timeout: time.Hour, TLS: d.tls})
	if err != nil {
		return nil, err
	}
	c := &client{dialing: d, conn: nc, in: make(chan imaptest.Response, 4096)}
	c.local = netip.MustParseAddrPort(nc.LocalAddr().String()).String()
	if _, err := nc.Next(); err != nil {
		_ = nc.Close()
		return nil, err
	}
	if d.compress {
		if err := d.begin(nc); err != nil {
			_ = nc.Close()
			return nil, err
		}
	}
	var fault fault
	if c.fault != nil {
		fault = c.fault()
	}
	if c.packets == apart {
		c.tagged = make(chan string, 4096)
	}
	go func() { // ends with the connection
		defer close(c.in)
		if c.tagged != nil {
			defer close(c.tagged)
		}
		for {
			r, err := nc.Next()
			if err != nil {
				return
			}
			all := []imaptest.Response{r}
			if fault != nil {
				all = fault(r)
			}
			for _, r := range all {
				c.t.add("%s< %s", c.name, r)
				c.in <- r
				if c.tagged != nil && r.Tag() != "*" && r.Tag() != "+" {
					c.tagged <- r.Tag()
				}
			}
		}
	}()
	if d.compress {
		return c, nil
	}
	_, tagged, err := c.do("LOGIN", "LOGIN %s %s", d.user, servers.Password)
	for try := 0; d.breaks && err == nil && try < 5 && strings.Contains(tagged.Text, "NO [UNAVAILABLE]"); try++ {
		_, tagged, err = c.do("LOGIN", "LOGIN %s %s", d.user, servers.Password)
	}
	if err != nil || tagged.Status() != "OK" {
		c.close()
		return nil, fmt.Errorf("login: %v %v", tagged, err)
	}
	return c, nil
}

// begin logs in, and turns compression on, before responses are read by a goroutine.
func (d dialing) begin(nc *imaptest.Conn) error {
	for try := 0; ; try++ {
		_, tagged, err := nc.Command("login", fmt.Sprintf("LOGIN %s %s", d.user, servers.Password))
		switch {
		case err == nil && tagged.Status() == "OK":
			return nc.Compress()
		case err != nil || !d.breaks || try == 5 || !strings.Contains(tagged.Text, "NO [UNAVAILABLE]"):
			return fmt.Errorf("login: %v %v", tagged, err)
		}
	}
}

func (c *client) close() {
	_ = c.conn.Close()
	for range c.in { //nolint:revive // until the reader has ended
	}
}

// hear takes one response into account.
func (c *client) hear(r imaptest.Response) error {
	if r.Tag() == "*" && r.Status() == "BYE" {
		c.bye = r.Text
	}
	if c.leaving != nil {
		if err := c.leaving.Response(r); err != nil {
			return fmt.Errorf("%w: %s is told %q: %w", errTold, c.name, r, err)
		}
		return nil
	}
	if c.model == nil {
		return nil
	}
	cached := c.model.Cached
	if err := c.model.Response(r); err != nil {
		return fmt.Errorf("%w: %s is told %q: %w", errTold, c.name, r, err)
	}
	if !strings.HasPrefix(r.Code(), "HIGHESTMODSEQ ") {
		// What FETCH says isn't to be resynchronised from: Dovecot itself tells flags of after
		// an EXPUNGE that it holds back.
		c.model.Cached = cached
	}
	return nil
}

// drain reads the responses that have arrived.
func (c *client) drain() error {
	for {
		select {
		case r, ok := <-c.in:
			if !ok {
				return c.gone()
			}
			if err := c.hear(r); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (c *client) gone() error {
	c.ended = true
	return fmt.Errorf("%s: %w (%s)", c.name, errCut, c.bye)
}

// next is the next response, taken into account.
func (c *client) next(within time.Duration) (imaptest.Response, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case r, ok := <-c.in:
		if !ok {
			return r, c.gone()
		}
		return r, c.hear(r)
	case <-timer.C:
		return imaptest.Response{}, errQuiet
	}
}

var errQuiet = errors.New("nothing comes")

// begin sends a command; finish reads its answer.
func (c *client) begin(verb, format string, args ...any) (tag string, err error) {
	line := fmt.Sprintf(format, args...)
	c.tags++
	tag = fmt.Sprintf("t%d", c.tags)
	if c.model != nil {
		if err := c.drain(); err != nil {
			return tag, err
		}
		c.model.Begin(verb)
	}
	c.t.add("%s> %s %s", c.name, tag, strings.ReplaceAll(line, "\r\n", "␍"))
	head, literal, waits := strings.Cut(line, "}\r\n")
	if waits = waits && !strings.HasSuffix(head, "+"); !waits {
		head = line
	} else {
		head += "}"
	}
	if err := c.conn.SendRaw(tag + " " + head + "\r\n"); err != nil {
		return tag, c.gone()
	}
	quickAck(c.conn)
	for waits {
		r, err := c.next(c.patience)
		if err != nil {
			return tag, fmt.Errorf("%s: %w", line, err)
		}
		if r.Tag() == tag {
			return tag, fmt.Errorf("%s: %s", c.name, r)
		}
		if waits = r.Tag() != "+"; !waits {
			if err := c.conn.SendRaw(literal + "\r\n"); err != nil {
				return tag, c.gone()
			}
		}
	}
	return tag, nil
}

// quickAck has the kernel acknowledge all data at once: Cyrus keeps the second half of an answer back
// until then, 44 ms.
func quickAck(conn *imaptest.Conn) {
	tcp, ok := conn.Conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

func (c *client) finish(tag string) (untagged []imaptest.Response, tagged imaptest.Response, err error) {
	for {
		r, err := c.next(c.patience)
		if errors.Is(err, errQuiet) {
			buf := make([]byte, 8<<20)
			if f := os.Getenv("MODEL_STACKS"); f != "" { // the stacks of all goroutines while they wait
				_ = os.WriteFile(f, buf[:runtime.Stack(buf, true)], 0o600)
			}
			err = fmt.Errorf("%s: no answer to %s in %v", c.name, tag, c.patience)
		}
		if err != nil {
			return untagged, r, err
		}
		if r.Tag() == tag {
			if c.model != nil {
				c.model.Begin("")
			}
			if r.Status() == "BAD" {
				return untagged, r, fmt.Errorf("%s: %s", c.name, r)
			}
			return untagged, r, nil
		}
		if r.Tag() != "*" && r.Tag() != "+" {
			return untagged, r, fmt.Errorf("%s: %s while waiting for %s", c.name, r, tag)
		}
		untagged = append(untagged, r)
	}
}

// do is a command and its answer.
func (c *client) do(verb, format string, args ...any) (untagged []imaptest.Response, tagged imaptest.Response, err error) {
	tag, err := c.begin(verb, format, args...)
	if err != nil {
		return nil, imaptest.Response{}, err
	}
	return c.finish(tag)
}

// selectBox enables the dialect and selects the mailbox, then learns all there is.
func (c *client) selectBox(dialect imaptest.ModelDialect) error {
	c.dialect = dialect
	params := ""
	switch dialect {
	case imaptest.ModelQResync:
		if _, r, err := c.do("ENABLE", "ENABLE QRESYNC"); err != nil || r.Status() != "OK" {
			return fmt.Errorf("ENABLE: %v %v", r, err)
		}
	case imaptest.ModelCondStore:
		params = " (CONDSTORE)"
	case imaptest.ModelPlain:
	}
	c.model = imaptest.NewModelClient(dialect, imaptest.NewModelMailbox(1))
	c.model.Cached = 0
	untagged, r, err := c.do("SELECT", "SELECT %s%s", c.box, params)
	if err != nil || r.Status() != "OK" {
		return fmt.Errorf("SELECT: %v %v", r, err)
	}
	for _, u := range untagged {
		if v, ok := strings.CutPrefix(u.Code(), "UIDVALIDITY "); ok {
			c.uidValidity = v
		}
	}
	return c.learn()
}

// learn asks for the UIDs and flags of all messages.
func (c *client) learn() error {
	if c.model.Count() == 0 {
		return nil
	}
	_, _, err := c.do("UID FETCH", "UID FETCH 1:* (UID FLAGS)")
	return err
}

// catchUp learns all there is, as a device that has just come back.
func (c *client) catchUp() error {
	if _, _, err := c.do("NOOP", "NOOP"); err != nil {
		return err
	}
	return c.learn()
}

// idle begins IDLE.
func (c *client) idle() error {
	tag, err := c.begin("IDLE", "IDLE")
	if err != nil {
		return err
	}
	for {
		r, err := c.next(c.patience)
		if err != nil {
			return fmt.Errorf("IDLE: %w", err)
		}
		switch r.Tag() {
		case "+":
			c.idleTag = tag
			return nil
		case tag:
			return fmt.Errorf("%s: IDLE: %s", c.name, r)
		}
	}
}

// done ends IDLE.
func (c *client) done() error {
	if c.idleTag == "" {
		return nil
	}
	tag := c.idleTag
	c.idleTag = ""
	c.t.add("%s> DONE", c.name)
	if err := c.conn.SendRaw("DONE\r\n"); err != nil {
		return c.gone()
	}
	_, _, err := c.finish(tag)
	return err
}

// resync cuts the connection and comes back, as a client of QRESYNC does: from what
// it has cached. It returns the connection that takes the old one's place.
func (c *client) resync() (*client, error) {
	if err := c.drain(); err != nil && !errors.Is(err, errCut) {
		return nil, err
	}
	var belief []imaptest.ModelMessage
	var cached uint64
	if c.model != nil { // else it was between two mailboxes
		belief, cached = c.model.Belief(), c.model.Cached
	}
	c.close()
	n, err := dial(c.dialing)
	if err != nil {
		return nil, err
	}
	if c.dialect != imaptest.ModelQResync || cached == 0 {
		return n, n.selectBox(c.dialect)
	}
	n.dialect, n.uidValidity = c.dialect, c.uidValidity
	if _, r, err := n.do("ENABLE", "ENABLE QRESYNC"); err != nil || r.Status() != "OK" {
		return n, fmt.Errorf("ENABLE: %v %v", r, err)
	}
	untagged, r, err := n.do("SELECT", "%s", n.since(cached))
	if err != nil || r.Status() != "OK" {
		return n, fmt.Errorf("SELECT: %v %v", r, err)
	}
	return n, n.resynced(belief, cached, untagged)
}

// since is the SELECT of a client of QRESYNC that has cached the mailbox.
func (c *client) since(cached uint64) string {
	return fmt.Sprintf("SELECT %s (QRESYNC (%s %d))", c.box, c.uidValidity, cached)
}

// resynced takes what SELECT has told of the changes since what was cached, and asks for what is new.
func (c *client) resynced(belief []imaptest.ModelMessage, cached uint64, untagged []imaptest.Response) error {
	known := map[uint32][]string{}
	var last uint32 // up to here it knows them all
	for _, m := range belief {
		if m.UID == 0 {
			break
		}
		known[m.UID] = m.Flags
		last = m.UID
	}
	exists := 0
	apply := func(list []imaptest.Response) error {
		for _, u := range list {
			switch {
			case u.Word(2) == "EXISTS":
				exists, _ = strconv.Atoi(u.Word(1))
			case u.Word(1) == "VANISHED":
				f := strings.Fields(u.Text)
				gone, err := imaptest.ModelSet(f[len(f)-1])
				if err != nil {
					return err
				}
				for _, uid := range gone {
					delete(known, uid)
				}
			case u.Word(2) == "FETCH":
				uid, flags, ok := uidAndFlags(u)
				if uid != 0 && (ok || known[uid] == nil) {
					known[uid] = flags
				}
			}
		}
		return nil
	}
	if err := apply(untagged); err != nil {
		return err
	}
	news, _, err := c.do("UID FETCH", "UID FETCH %d:* (UID FLAGS)", last+1)
	if err != nil {
		return err
	}
	if err := apply(news); err != nil {
		return err
	}
	now := imaptest.NewModelMailbox(1)
	now.ModSeq = cached
	for uid, flags := range known {
		now.Messages = append(now.Messages, imaptest.ModelMessage{UID: uid, Flags: flags})
	}
	slices.SortFunc(now.Messages, func(a, b imaptest.ModelMessage) int { return int(a.UID) - int(b.UID) })
	if exists != len(now.Messages) {
		return fmt.Errorf("%s resynchronises from %d, and has %d messages where there are %d", c.name, cached, len(now.Messages), exists)
	}
	c.model = imaptest.NewModelClient(c.dialect, now)
	for i, m := range now.Messages {
		if m.Flags == nil {
			c.model.Forget(i + 1)
		}
	}
	for _, u := range news {
		if u.Code() != "" {
			_ = c.model.Response(u)
		}
	}
	return nil
}
