package restarts

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// client is a mail program that goes on whatever its backend does, and checks what it is told: a number means the
// message that it has meant before, there are as many messages as were told, and a message's content is what was
// stored.
type client struct {
	addr, user string
	n          int
	largest    int           // of its messages, in octets
	think      time.Duration // between two commands, on average; 0: none
	asks       bool          // at once for the UIDs and flags of messages that it hears of, as mail programs do
	rnd        *rand.Rand
	how        way // it connects

	conn     *imaptest.Conn
	box      string   // that is selected
	counts   []uint32 // the UIDs of its messages, by number; 0: it hasn't asked
	chooses  bool     // SELECT is under way
	commands int

	answers  atomic.Int64
	ended    atomic.Pointer[error]
	appended map[string]bool // by subject: whether the answer was OK
	refused  int             // commands that were answered NO
	bugs     int             // commands that a server answered NO [SERVERBUG]
	views    []string        // ends where others had removed messages from the mailbox
	askViews int             // those of them of clients that ask
	cuts     []string        // commands within whose literals the connection was ended
	slow     []wait          // that took long
	hangs    func(*client)   // called when it gets no answer
}

// wait is a command that was under way for some time.
type wait struct {
	line       string
	begun, end time.Time
}

// slowFrom is how long a command takes that is remembered.
const slowFrom = 100 * time.Millisecond

// errTold means that a client was told what isn't true.
var errTold = errors.New("it was told what isn't true")

// errHangs means that a client was told that its server is still there, and got no answer.
var errHangs = errors.New("it gets no answer")

// errBye means that the session was ended.
var errBye = errors.New("the session is ended")

// way is how a client connects, and what it enables.
type way struct {
	tls      *tls.Config // nil: in the clear
	compress bool
	enable   string // an argument of ENABLE; "": nothing
}

func (c *client) connect() error {
	nc, err := imaptest.DialConn(context.Background(), c.addr, imaptest.DialOptions{Timeout: 2 * time.Minute, TLS: c.how.tls})
	if err != nil {
		return err
	}
	c.conn = nc
	if _, err := nc.Next(); err != nil {
		return err
	}
	lines := []string{"LOGIN " + c.user + " " + servers.Password}
	if c.how.enable != "" {
		lines = append(lines, "ENABLE "+c.how.enable)
	}
	for i, line := range append(lines, "SELECT INBOX") {
		if i == 1 && c.how.compress {
			if err := nc.Compress(); err != nil {
				return err
			}
		}
		if r, err := c.command(line); err != nil || r.Status() != "OK" {
			return fmt.Errorf("%s: %s %w", line, r, err)
		}
	}
	return nil
}

func (c *client) gone(err error) { c.ended.CompareAndSwap(nil, &err) }

// command says a command and follows what is answered. A synchronising literal stands in it as any other.
func (c *client) command(line string) (imaptest.Response, error) {
	c.commands++
	tag, begun := fmt.Sprintf("t%d", c.commands), time.Now()
	c.chooses = strings.HasPrefix(line, "SELECT ")
	head, rest, literal := strings.Cut(line, "\r\n")
	waits := literal && strings.HasSuffix(head, "}") && !strings.HasSuffix(head, "+}")
	send := line
	if waits {
		send = head
	}
	r, err := c.exchange(tag, send, waits)
	if waits && err == nil && r.Tag() == "+" {
		if err = c.conn.Send(rest); err == nil {
			r, err = c.until(tag, false)
		}
	}
	if d := time.Since(begun); d >= slowFrom {
		c.slow = append(c.slow, wait{head, begun, begun.Add(d)})
	}
	if err == nil && c.chooses {
		c.box, c.chooses = strings.TrimPrefix(line, "SELECT "), false
		if r.Status() != "OK" {
			err = fmt.Errorf("%w: %s after %q", errTold, r, line)
		}
	}
	c.answers.Add(1)
	return r, err
}

func (c *client) exchange(tag, line string, plus bool) (imaptest.Response, error) {
	if err := c.conn.Send(tag + " " + line); err != nil {
		return imaptest.Response{}, err
	}
	return c.until(tag, plus)
}

// until reads up to the answer, or, with plus, a continuation request.
func (c *client) until(tag string, plus bool) (imaptest.Response, error) {
	for late := time.Now().Add(2 * patience); ; {
		r, err := c.conn.Next()
		if err == nil && r.Tag() == "*" && time.Now().After(late) || os.IsTimeout(err) {
			c.hangs(c)
			return r, fmt.Errorf("%w to %s in %v, heard last: %s %w", errHangs, tag, 2*patience, r, err)
		}
		switch {
		case err != nil:
			return r, err
		case r.Tag() == tag, plus && r.Tag() == "+":
			return r, nil
		case r.Tag() != "*":
			return r, fmt.Errorf("%w: %s while %s is under way", errTold, r, tag)
		}
		if err := c.follow(r); err != nil {
			return r, err
		}
	}
}

var uidItem = regexp.MustCompile(`\bUID (\d+)`)

// follow keeps count of the messages and checks what is told of them.
func (c *client) follow(r imaptest.Response) error {
	n, err := strconv.Atoi(r.Word(1))
	if err != nil {
		switch r.Word(1) {
		case "BYE":
			return fmt.Errorf("%w: %s", errBye, r)
		case "VANISHED":
			return c.vanished(r)
		}
		return nil
	}
	switch r.Word(2) {
	case "EXISTS":
		if c.chooses {
			c.counts = nil
		}
		if n < len(c.counts) {
			return fmt.Errorf("%w: %s of %d messages", errTold, r, len(c.counts))
		}
		c.counts = append(c.counts, make([]uint32, n-len(c.counts))...)
	case "EXPUNGE", "FETCH":
		if c.chooses {
			return nil // still of the mailbox before
		}
		if n == 0 || n > len(c.counts) {
			return fmt.Errorf("%w: %s of %d messages", errTold, r, len(c.counts))
		}
		if r.Word(2) == "EXPUNGE" {
			c.counts = append(c.counts[:n-1], c.counts[n:]...)
			return nil
		}
		if m := uidItem.FindStringSubmatch(r.Text); m != nil {
			uid, _ := strconv.ParseUint(m[1], 10, 32)
			if old := c.counts[n-1]; old != 0 && old != uint32(uid) {
				return fmt.Errorf("%w: message %d was UID %d, and is UID %d", errTold, n, old, uid)
			}
			c.counts[n-1] = uint32(uid)
		}
		return c.content(r)
	}
	return nil
}

// vanished removes the messages that a client of QRESYNC is told have gone. Of one whose UID it hasn't asked for it doesn't know which of its
// numbers goes: then it knows only how many messages there are.
func (c *client) vanished(r imaptest.Response) error {
	if c.chooses || r.Word(2) == "(EARLIER)" {
		return nil
	}
	for part := range strings.SplitSeq(r.Word(2), ",") {
		first, last, _ := strings.Cut(part, ":")
		from, err := strconv.ParseUint(first, 10, 32)
		to := from
		if err == nil && last != "" {
			to, err = strconv.ParseUint(last, 10, 32)
		}
		if err != nil {
			return fmt.Errorf("%w: %s", errTold, r)
		}
		for uid := from; uid <= to; uid++ {
			if i := slices.Index(c.counts, uint32(uid)); i >= 0 {
				c.counts = slices.Delete(c.counts, i, i+1)
			} else if i := slices.Index(c.counts, 0); i >= 0 {
				c.counts = slices.Delete(c.counts, i, i+1)
				clear(c.counts)
			}
		}
	}
	return nil
}

// content checks a message's text against its subject.
func (c *client) content(r imaptest.Response) error {
	if len(r.Literals) != 2 {
		return nil
	}
	subject := strings.TrimSpace(strings.TrimPrefix(string(r.Literals[0].Data), "Subject: "))
	text := message(subject)
	sum := sha256.Sum256([]byte(text))
	if got := r.Literals[1]; got.Size != int64(len(text)) || got.SHA256 != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%w: message %q has %d octets, and another sum: %s", errTold, subject, got.Size, r.Text)
	}
	return nil
}

// message is the message with a subject, whose last part is how many octets its text has.
func message(subject string) string {
	size, _ := strconv.Atoi(subject[strings.LastIndex(subject, "-")+1:])
	return "Subject: " + subject + "\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", size/16)
}

// unasked is the number of the first message whose UID the client hasn't been told; 0: there is none.
func (c *client) unasked() int { return 1 + slices.Index(c.counts, 0) }

// next is the next command.
func (c *client) next(i int) (line, subject string) {
	if n := c.unasked(); c.asks && n > 0 {
		known := uint32(0)
		if n > 1 {
			known = c.counts[n-2]
		}
		return fmt.Sprintf("UID FETCH %d:* (FLAGS)", known+1), ""
	}
	switch r := c.rnd; r.IntN(12) {
	case 0:
		return "NOOP", ""
	case 1:
		return "UID FETCH 1:* (FLAGS)", ""
	case 2:
		if len(c.counts) > 0 {
			return fmt.Sprintf("FETCH %d:* (UID FLAGS ENVELOPE)", 1+r.IntN(len(c.counts))), ""
		}
	case 3:
		if len(c.counts) > 0 {
			return fmt.Sprintf(`STORE %d +FLAGS.SILENT (\Seen)`, 1+r.IntN(len(c.counts))), ""
		}
	case 4:
		return "UID SEARCH UNSEEN", ""
	case 5:
		return "STATUS INBOX (MESSAGES UIDNEXT)", ""
	case 6:
		if len(c.counts) > 0 {
			return fmt.Sprintf("FETCH %d (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[])", 1+r.IntN(len(c.counts))), ""
		}
	case 7:
		return "SELECT " + []string{"INBOX", "Trash"}[r.IntN(2)], ""
	case 8:
		if len(c.counts) > 0 && c.box == "INBOX" {
			return fmt.Sprintf("COPY %d Trash", 1+r.IntN(len(c.counts))), ""
		}
	case 9:
		if len(c.counts) > 0 && c.box == "Trash" {
			return fmt.Sprintf(`STORE %d +FLAGS (\Deleted)`, 1+r.IntN(len(c.counts))), ""
		}
	case 10:
		if c.box == "Trash" {
			return "EXPUNGE", ""
		}
	}
	size := 16 << c.rnd.IntN(8) // up to 2 KB
	if c.rnd.IntN(8) == 0 {
		// As many of 1 to 2 KB as of 2 to 4 KB, and so on.
		size = 16 * int(math.Exp(c.rnd.Float64()*math.Log(float64(c.largest)/16)))
	}
	subject = fmt.Sprintf("%d-%d-%d", c.n, i, size)
	text := message(subject)
	return fmt.Sprintf("APPEND INBOX {%d%s}\r\n%s", len(text), []string{"", "+"}[c.rnd.IntN(2)], text), subject
}

// pause is the time to the next command, at the client's own pace.
func (c *client) pause() time.Duration {
	if c.asks && c.unasked() > 0 {
		return 0
	}
	return time.Duration((0.5 + c.rnd.Float64()) * float64(c.think))
}

// work does what mail programs do.
func (c *client) work(end <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		case <-time.After(c.pause()):
		}
		line, subject := c.next(i)
		a, err := c.command(line)
		head, _, _ := strings.Cut(line, "\r\n")
		if subject != "" {
			c.appended[subject] = err == nil && a.Status() == "OK"
		}
		switch {
		case err != nil && !errors.Is(err, errTold) && (subject != "" || strings.Contains(line, "BODY.PEEK[]")):
			// Within a literal there may be no other way (docs/failures.md).
			c.cuts = append(c.cuts, fmt.Sprintf("%q: %v", head, err))
			_ = c.conn.Close()
			if err := c.connect(); err != nil {
				c.gone(err)
				return
			}
		case errors.Is(err, errBye) && c.box == "Trash":
			// Others add and remove messages there. Which of them the client was told of can't always be found.
			c.views = append(c.views, fmt.Sprintf("%q: %v", head, err))
			if c.asks {
				c.askViews++
			}
			_ = c.conn.Close()
			if err := c.connect(); err != nil {
				c.gone(err)
				return
			}
		case err != nil:
			c.gone(fmt.Errorf("%q: %w", head, err))
			return
		case a.Status() == "NO" && (a.Code() == "UNAVAILABLE" || a.Code() == "EXPUNGEISSUED"):
			c.refused++
		case a.Status() == "NO" && a.Code() == "SERVERBUG":
			c.bugs++ // the server's own answer, whose log has to say why
		case a.Status() != "OK":
			c.gone(fmt.Errorf("%q: %s", head, a))
			return
		}
	}
}

// idle waits in IDLE, and asks now and then.
func (c *client) idle(end <-chan struct{}, every time.Duration) {
	for i := 0; ; i++ {
		tag, begun := fmt.Sprintf("i%d", i), time.Now()
		if err := c.conn.Send(tag + " IDLE"); err != nil {
			c.gone(err)
			return
		}
		for done := false; !done; {
			select {
			case <-end:
				done = true
			default:
				done = time.Since(begun) >= every
			}
			r, err := c.conn.NextWithin(min(every/20, time.Second)) // so late it notices the end
			switch {
			case err != nil && os.IsTimeout(err):
				continue
			case err == nil && r.Tag() == "*":
				err = c.follow(r)
			case err == nil && r.Tag() != "+":
				err = fmt.Errorf("in IDLE: %s", r)
			}
			if err != nil {
				c.gone(err)
				return
			}
		}
		begun = time.Now()
		if err := c.conn.Send("DONE"); err != nil {
			c.gone(err)
			return
		}
		a, err := c.untilAfterIdle(tag)
		if err != nil || a.Status() != "OK" {
			c.gone(fmt.Errorf("DONE: %s %w", a, err))
			return
		}
		if d := time.Since(begun); d >= slowFrom {
			c.slow = append(c.slow, wait{"DONE", begun, begun.Add(d)})
		}
		c.answers.Add(1)
		select {
		case <-end:
			return
		default:
		}
	}
}

// untilAfterIdle is until; the continuation request may still be on its way.
func (c *client) untilAfterIdle(tag string) (imaptest.Response, error) {
	r, err := c.until(tag, true)
	if err == nil && r.Tag() == "+" {
		return c.until(tag, false)
	}
	return r, err
}

// fleet is the clients of a test.
type fleet struct {
	t       testing.TB
	p       *proxy
	s       *servers.Server // that has all mail
	users   int
	busy    []*client
	idle    []*client
	end     chan struct{}
	done    chan struct{} // closed when all clients have ended
	outages []outage

	lost, logins float64 // connections that the outages have cost, and logins during them
	hung         sync.Once
	hanging      string // what the proxy did when a client first got no answer
}

// outage is a time without a backend.
type outage struct {
	name        string
	begin, over time.Time
	settled     time.Time // when all that it has led to had happened
}
