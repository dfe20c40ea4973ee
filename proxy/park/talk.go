package park

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// Bounds of a Talk, where TalkOptions says nothing else.
const (
	DefaultMaxLine    = 4 << 20  // octets of one response's lines: the UIDs of 380,000 messages at worst
	defaultMaxLiteral = 64 << 10 // octets of a literal; a mailbox name is about the only one
)

// TalkOptions are a Talk's.
type TalkOptions struct {
	// Pass gets each untagged response that isn't the answer to a command of
	// ours, whole, with its CRLF, lent for the call: on a session connection all of
	// it is the client's to see, in the order in which it came. nil: there is no
	// client.
	Pass func(response []byte)

	// Told is how many messages the client has been told of (EXISTS, less what
	// was expunged since).
	Told uint32

	// Selected says whether a mailbox is selected, and ReadOnly whether by
	// EXAMINE.
	Selected, ReadOnly bool

	// Enabled is what ENABLE has enabled already on this connection.
	Enabled []string

	// Taken is a tag that is in use on the connection, that of the client's IDLE.
	Taken string

	// MaxLine bounds a response. Zero: DefaultMaxLine.
	MaxLine int
}

// Talk is a conversation of the proxy's own on a backend connection, which it
// owns until Release: hidden commands on a session connection, or those on a
// connection of the proxy's. One command at a time; answers are matched by tag.
//
// An error that is no *Broken leaves the connection in step: what was asked
// couldn't be had, and a session connection may be given back to its session.
type Talk struct {
	conn     *upstream.Conn
	r        *wire.Reader
	opt      TalkOptions
	tags     int
	told     uint32   // how many messages the other side has announced, less those gone
	shifts   int      // how often told or the numbering has moved
	tries    int      // how often the set of messages was asked for
	enabled  []string // in upper case
	selected bool
	readOnly bool
	broken   *Broken
}

// NewTalk takes the connection over. Nothing may be in flight on it but an IDLE,
// which EndIdle ends.
func NewTalk(c *upstream.Conn, opt TalkOptions) *Talk {
	opt.MaxLine = cmp.Or(opt.MaxLine, DefaultMaxLine)
	t := &Talk{
		conn: c, r: wire.NewReader(c, opt.MaxLine, defaultMaxLiteral), opt: opt,
		told: opt.Told, selected: opt.Selected, readOnly: opt.ReadOnly,
	}
	for _, name := range opt.Enabled {
		t.enabled = append(t.enabled, strings.ToUpper(name))
	}
	return t
}

// Release gives the connection back, with what was read of it beyond the last
// answer. After a *Broken it has to be closed.
func (t *Talk) Release() (*upstream.Conn, error) {
	t.conn.Unread(t.r.Buffered())
	if t.broken != nil {
		return t.conn, t.broken
	}
	return t.conn, nil
}

// Caps are the backend's capabilities.
func (t *Talk) Caps() wire.Caps { return t.conn.Caps }

// Told is how many messages there are after all that has come.
func (t *Talk) Told() uint32 { return t.told }

// Tries is how often the set of messages was asked for.
func (t *Talk) Tries() int { return t.tries }

// Selected says whether a mailbox is selected now.
func (t *Talk) Selected() bool { return t.selected }

// Enabled is what has been enabled on the connection, in upper case.
func (t *Talk) Enabled() []string { return t.enabled }

// untagged is one untagged response.
type untagged struct {
	wire.ResponseHead
	line []byte // all of it, without the last CRLF
}

func (u untagged) is(name string) bool { return strings.EqualFold(string(u.Name), name) }

// do sends a command and reads until its answer. take is shown each untagged
// response, with told already brought up to date, and says whether it is ours;
// else it is passed on. nil takes none. An answer that isn't OK is a *Refusal.
func (t *Talk) do(ctx context.Context, command string, take func(untagged) bool) (wire.Response, error) {
	tag := t.tag()
	return t.exchange(ctx, tag+" "+command+"\r\n", tag, verbOf(command), take)
}

// exchange sends text and reads until the answer to tag.
func (t *Talk) exchange(ctx context.Context, text, tag, verb string, take func(untagged) bool) (wire.Response, error) {
	var resp wire.Response
	err := t.within(ctx, func() error {
		if _, err := t.conn.Write([]byte(text)); err != nil {
			return err
		}
		var err error
		resp, err = t.until(tag, take)
		return err
	})
	if err != nil {
		return resp, err
	}
	if resp.Status != "OK" {
		return resp, &Refusal{Verb: verb, Status: resp.Status, Code: resp.Code, Text: resp.Text}
	}
	return resp, nil
}

// tag makes one that no command in flight has.
func (t *Talk) tag() string {
	for {
		t.tags++
		if tag := "ip" + strconv.Itoa(t.tags); tag != t.opt.Taken {
			return tag
		}
	}
}

func verbOf(command string) string {
	verb, rest, _ := strings.Cut(command, " ")
	if verb == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		verb += " " + sub
	}
	return verb
}

// until reads up to the tagged response.
func (t *Talk) until(tag string, take func(untagged) bool) (wire.Response, error) {
	for {
		// Cyrus has Nagle's algorithm on: the rest of its answer waits for our
		// acknowledgement.
		if !t.r.HasBuffered() {
			t.conn.QuickAck()
		}
		resp, err := t.r.ReadResponse()
		if err != nil {
			return resp, err
		}
		switch resp.Tag {
		case tag:
			if resp.Status != "OK" && resp.Status != "NO" && resp.Status != "BAD" {
				return resp, errAnswer
			}
			return resp, nil
		case "*":
			if err := t.untagged(resp, take); err != nil {
				return resp, err
			}
		default:
			return resp, errAnswer // a continuation request, or an answer nobody waits for
		}
	}
}

func (t *Talk) untagged(resp wire.Response, take func(untagged) bool) error {
	u := untagged{ResponseHead: wire.ParseResponseHead(resp.Line), line: resp.Line}
	if err := t.follow(u); err != nil {
		return err
	}
	bye := u.Status == wire.BYE
	if (bye || take == nil || !take(u)) && t.opt.Pass != nil {
		t.opt.Pass(append(resp.Line, '\r', '\n'))
	}
	if bye {
		return errBye
	}
	return nil
}

// follow counts messages as a client does. RFC 9051 §7.4.1, §7.5.1; RFC 7162
// §3.2.10.
func (t *Talk) follow(u untagged) error {
	switch {
	case u.is("EXISTS"):
		t.told = u.Number
	case u.is("EXPUNGE"):
		if u.Number == 0 || u.Number > t.told {
			return fmt.Errorf("%w: EXPUNGE of a message that isn't there", errAnswer)
		}
		t.told--
	case u.is("VANISHED"):
		earlier, uids, err := parseVanished(u.Rest)
		if err != nil {
			return err
		}
		if earlier {
			return nil // of before the SELECT: its EXISTS doesn't have them
		}
		if uids.Count() > t.told {
			return fmt.Errorf("%w: VANISHED of more messages than there are", errAnswer)
		}
		t.told -= uids.Count()
	default:
		return nil
	}
	t.shifts++
	return nil
}

// within runs f, which reads and writes, and has it return when ctx ends. Every
// error of f's breaks the connection: nobody knows then where in a response it
// stands.
func (t *Talk) within(ctx context.Context, f func() error) error {
	if t.broken != nil {
		return t.broken
	}
	stop := t.conn.Until(ctx)
	err := f()
	if stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		t.broken = &Broken{Err: err}
		return t.broken
	}
	return nil
}

// Enable enables capabilities, those that aren't yet. RFC 5161 §3.1. A backend
// that doesn't say that it did is errNotEnabled.
func (t *Talk) Enable(ctx context.Context, names ...string) error {
	var missing []string
	for _, name := range names {
		if !wire.Caps(t.enabled).Has(name) {
			missing = append(missing, strings.ToUpper(name))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var now wire.Caps
	_, err := t.do(ctx, "ENABLE "+strings.Join(missing, " "), func(u untagged) bool {
		if !u.is("ENABLED") {
			return false
		}
		now = append(now, wire.ParseCaps(u.Rest)...)
		return true
	})
	if err != nil {
		return err
	}
	for _, name := range missing {
		if !now.Has(name) {
			return fmt.Errorf("%w: %s", ErrNotEnabled, name)
		}
		t.enabled = append(t.enabled, name)
	}
	return nil
}

// Errors that leave the connection in step.
var (
	// ErrUnsettled: the mailbox changed at each try, or what the backend says of
	// it doesn't add up. Whoever wanted to park stays attached.
	ErrUnsettled = errors.New("the mailbox doesn't settle")
	// ErrNoModSeq: the mailbox keeps no mod-sequences (RFC 7162 §3.1.2.2).
	ErrNoModSeq = errors.New("the mailbox has no mod-sequences")
	// ErrTooMany: there are more messages, or changes, than are looked at.
	ErrTooMany = errors.New("too many messages")
	// ErrNotEnabled: the backend doesn't enable what it was asked to.
	ErrNotEnabled = errors.New("not enabled")
	// ErrCannotDeselect: there is no way to deselect without expunging. The
	// connection is of no further use.
	ErrCannotDeselect = errors.New("the backend can't deselect a mailbox")
	// ErrName: the mailbox name can't be sent.
	ErrName = errors.New("the mailbox name can't be sent")
)

var (
	errBye    = errors.New("BYE")
	errAnswer = errors.New("an answer that IMAP doesn't have here")
)

// Broken means that the connection is of no use any more: it ended, ran out of
// time, or said what can't be understood.
type Broken struct{ Err error }

func (e *Broken) Error() string { return "backend connection broken: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Broken) Unwrap() error { return e.Err }

// Refusal is a backend's NO or BAD to a command of ours.
type Refusal struct {
	Verb         string // ours
	Status, Code string
	Text         string // as the backend sent it
}

// Passing says whether it may be another answer in a moment, by its code (RFC 5530).
func (e *Refusal) Passing() bool {
	switch e.Code {
	case "UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CORRUPTION", "OVERQUOTA", "CONTACTADMIN":
		return e.Status == "NO"
	}
	return false
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("%s: %s [%s] %.200q", e.Verb, e.Status, e.Code, e.Text)
}
