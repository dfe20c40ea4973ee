package session

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// names reads as much of a command as tells which mailboxes it names. It agrees to literals that are names.
func (o *visit) names(cmd []byte) ([]byte, []shared.Name, error) {
	for {
		names, err := shared.Names(cmd)
		if !errors.Is(err, shared.ErrMore) {
			return cmd, names, err
		}
		if cmd, err = o.rest(cmd); err != nil {
			return cmd, nil, err
		}
	}
}

// rest reads the literal that cmd ends with, and the line behind it.
func (o *visit) rest(cmd []byte) ([]byte, error) {
	size, sync, ok := wire.LiteralSpec(lastLine(cmd))
	switch {
	case !ok:
		return cmd, wire.ErrSyntax
	case size > shared.MaxName:
		return cmd, wire.ErrLiteralTooLong
	}
	if sync {
		if err := o.write([]byte("+ OK\r\n"), true); err != nil {
			return cmd, err
		}
	}
	o.partly = true
	if err := o.client.Copy(func(b []byte) error { cmd = append(cmd, b...); return nil }, size); err != nil {
		return cmd, err
	}
	line, err := o.client.ReadLine(maxSharedLine)
	if err != nil {
		return cmd, err
	}
	o.partly = false
	return append(cmd, line...), nil
}

// lastLine is the last line of a command as far as it was read.
func lastLine(cmd []byte) []byte {
	for i := len(cmd) - 2; i >= 0; i-- {
		if cmd[i] == '\n' {
			return cmd[i+1:]
		}
	}
	return cmd
}

// discard reads what a command that isn't carried out has behind its first line. A client that waits for an agreement to a
// literal sends nothing more.
func (o *visit) discard(cmd []byte) error {
	line := lastLine(cmd)
	for {
		size, sync, ok := wire.LiteralSpec(line)
		if !ok || sync {
			return nil
		}
		if err := o.client.Copy(func([]byte) error { return nil }, size); err != nil {
			return err
		}
		var err error
		if line, err = o.client.ReadLine(maxSharedLine); err != nil {
			return err
		}
	}
}

// refuse answers a command with NO, refuseAs with another status.
func (o *visit) refuse(cmd []byte, text string) error { return o.refuseAs(cmd, wire.NO, text) }

func (o *visit) refuseAs(cmd []byte, status wire.Status, text string) error {
	h := wire.ParseCommandHead(cmd)
	h.Tag = append([]byte(nil), h.Tag...)
	if err := o.discard(cmd); err != nil {
		return err
	}
	return o.answer(h, status, text)
}

// told answers a command that the proxy has carried out by commands of its own.
func (o *visit) told(h wire.CommandHead, err error, text string) error {
	refusal, ok := errors.AsType[*imapclient.Refusal](err)
	switch {
	case err == nil:
		return o.answer(h, wire.OK, text)
	case !ok:
		return err
	}
	code := refusal.Code
	if code != "" {
		code = "[" + code + "] "
	}
	return o.answer(h, wire.NO, code+refusal.Text)
}

// carry passes a command on with its literals, and its answer back. cmd has no literal's content.
func (o *visit) carry(l *leg, cmd []byte, h wire.CommandHead) (status wire.Status, err error) {
	h.Tag = append([]byte(nil), h.Tag...)
	if l == o.home {
		o.homeUsed = o.s.env.Now()
	}
	carried := track.Carry(h)
	defer func() { o.followed(l, &carried, status) }()
	carried.Line(wire.ParseCommandHead(cmd).Args)
	for line := cmd; ; {
		size, sync, ok := wire.LiteralSpec(line)
		waits := ok && (sync || !takesLiteral(l.conn.Caps, o.s.caps.Load().list, l == o.home, size))
		if waits && !sync {
			line = synchronising(line)
		}
		if err := o.send(l, line); err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if waits {
			kind, status, err := o.response(l, h, true)
			for err == nil && kind == wire.Untagged {
				kind, status, err = o.response(l, h, true)
			}
			if err != nil {
				return 0, err
			}
			if kind == wire.Tagged { // the literal is refused
				if !sync {
					return status, o.discard(cmdLiteral(size))
				}
				return status, nil
			}
			if sync {
				if err := o.write([]byte("+ OK\r\n"), true); err != nil {
					return 0, err
				}
			}
		}
		o.partly = true
		if err := o.client.Copy(func(b []byte) error { o.s.seen(o.s.env.Now()); carried.Literal(b); return o.send(l, b) }, size); err != nil {
			return 0, err
		}
		next, err := o.client.ReadLine(maxSharedLine)
		if err != nil {
			return 0, err
		}
		line = append([]byte(nil), next...)
		carried.Line(line)
		o.partly = false
	}
	for {
		kind, status, err := o.response(l, h, false)
		if err != nil || kind == wire.Tagged {
			return status, err
		}
	}
}

// send writes to a backend.
func (o *visit) send(l *leg, b []byte) error {
	o.waits(l)
	defer o.got(l)
	return o.sendBeside(l, b)
}

// sendBeside is send while a goroutine beside the session's owner reads from the backend, and says when it waits for it.
func (o *visit) sendBeside(l *leg, b []byte) error {
	o.s.took(int64(len(b)))
	if _, err := l.conn.WriteUntil(b, time.Now().Add(answerWithin)); err != nil { // the backend has to take it within that time
		return &lostLeg{l, err}
	}
	return nil
}

// takesLiteral says whether a backend takes a literal of this size without being asked (RFC 7888).
func takesLiteral(own, told wire.Caps, home bool, size int64) bool {
	caps := own
	if home {
		caps = told
	}
	return caps.Has("LITERAL+") || (caps.Has("LITERAL-") || caps.Has("IMAP4rev2")) && size <= 4096
}

// cmdLiteral is the end of a command with a literal that isn't asked for, for discard.
func cmdLiteral(size int64) []byte { return fmt.Appendf(nil, "{%d+}\r\n", size) }

// synchronising makes the literal that a line announces one that is asked for.
func synchronising(line []byte) []byte {
	i := bytes.LastIndexByte(line, '+')
	return append(bytes.Clone(line[:i]), line[i+1:]...)
}

// line reads a line of a backend.
func (o *visit) line(l *leg) ([]byte, error) {
	if !l.r.HasBuffered() && !l.idles.Load() {
		l.conn.LimitReads(o.s.env.Now().Add(answerWithin))
		l.conn.QuickAck()
	}
	o.waits(l)
	line, err := l.r.ReadLine(maxSharedAnswer)
	if err != nil {
		o.got(l)
		return nil, &lostLeg{l, err}
	}
	o.hears(l)
	l.heard = true
	return line, nil
}

// response passes one response on. asked: a literal was announced, so a continuation request is for the proxy. Literals of FETCH
// stream; other responses are read whole.
func (o *visit) response(l *leg, cmd wire.CommandHead, asked bool) (wire.Kind, wire.Status, error) {
	line, err := o.line(l)
	if err != nil {
		return 0, 0, err
	}
	h := wire.ParseResponseHead(line)
	if h.Kind == wire.Continue {
		if !asked {
			return 0, 0, &lostLeg{l, errUnasked}
		}
		return h.Kind, 0, nil
	}
	if h.Kind == wire.Untagged && h.Number > 0 && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")) {
		return h.Kind, 0, o.fetch(l, line)
	}
	whole := append([]byte(nil), line...)
	for h.Status == wire.NoStatus {
		size, _, more := wire.LiteralSpec(lastLine(whole))
		if !more {
			break
		}
		if size > maxCatchUpLiteral {
			return 0, 0, &lostLeg{l, wire.ErrLiteralTooLong}
		}
		if err := o.read(l, size, func(b []byte) error { whole = append(whole, b...); return nil }); err != nil {
			return 0, 0, &lostLeg{l, err}
		}
		if line, err = o.line(l); err != nil {
			return 0, 0, err
		}
		whole = append(whole, line...)
	}
	h = wire.ParseResponseHead(whole)
	if h.Kind == wire.Tagged {
		if string(h.Tag) != string(cmd.Tag) {
			return 0, 0, &lostLeg{l, errUnasked}
		}
		l.conn.LimitReads(time.Time{})
		if hasCaps(h) {
			whole = withCaps(whole, o.s.tells)
		}
		o.hint(l, cmd.Verb.Rule().Changes)
		if err := o.write(whole, true); err != nil {
			return 0, 0, err
		}
		o.done(cmd, h.Status)
		return h.Kind, h.Status, nil
	}
	switch {
	case h.Status == wire.BYE:
		return 0, 0, &lostLeg{l, errSaidBye}
	case l == o.home && hasCaps(h):
		return h.Kind, 0, o.write(withCaps(whole, o.s.tells), true)
	case l == o.home:
		o.s.passOn(whole)
		return h.Kind, 0, nil
	}
	if whole = o.n.Response(whole, l.owner); whole == nil {
		return h.Kind, 0, nil
	}
	return h.Kind, 0, o.write(whole, true)
}

// hint tells the hub of a command that may have changed a mailbox of the leg's user.
func (o *visit) hint(l *leg, changes bool) {
	user := l.owner
	if l == o.home {
		user = o.s.user
	}
	o.s.hintOf(user, changes)
}

// Errors of a backend's stream.
var (
	errUnasked = errors.New("a response that no command asks for")
	errSaidBye = errors.New("the backend has said BYE")
)

// fetch passes a FETCH response on, whose first line was read.
func (o *visit) fetch(l *leg, line []byte) error {
	for {
		size, _, more := wire.LiteralSpec(line)
		if err := o.write(line, !more); err != nil || !more {
			return err
		}
		var client error
		if err := o.read(l, size, func(b []byte) error {
			client = o.write(b, false)
			return client
		}); err != nil {
			if client != nil {
				return client
			}
			return &lostLeg{l, err}
		}
		var err error
		if line, err = o.line(l); err != nil {
			return err
		}
	}
}

// deselectHome deselects the mailbox of the session's own connection.
func (o *visit) deselectHome() error {
	s := o.s
	t := &s.inFlight.Client
	b := s.backend.Load()
	b.Caps = s.caps.Load().list
	b.Unread(o.home.r.Buffered())
	b.LimitReads(time.Time{}) // as in do
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	imap := resync.NewClient(b.Conn, b.Caps, resync.Options{Selected: true, ReadOnly: t.Mailbox.ReadOnly, Messages: t.Mailbox.Exists, Enabled: t.Enabled, Forward: s.passOn})
	err := imap.Deselect(ctx)
	if broken := imap.Release(); broken != nil { // nothing is selected any more
		if err := &(lostLeg{o.home, broken}); !o.withoutHome(err) {
			return err
		}
		s.inFlight.Deselect()
		return o.reopenHome()
	}
	if err != nil {
		s.log().Debug("the own mailbox stays selected at the backend", "error", err)
	}
	s.inFlight.Deselect()
	o.homeSelects = imap.Selected()
	return nil
}
