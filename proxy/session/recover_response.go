package session

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A FETCH of which the client was told a part goes on where it stopped. A message's content never changes (RFC
// 9051 §2.3.1.1): the same message is fetched again, the bytes that the client has are compared as far as they
// are known and skipped, and the rest follows. Then the FETCH is sent again for the messages that the client
// was told nothing of.

const (
	// halfWithin bounds how long a client waits inside a response: it can't be told anything there, and clients
	// give up after 20 s of silence.
	halfWithin = 15 * time.Second
	// halfTag is the tag of the FETCH that continues a response.
	halfTag = "half1"
)

// cutFetchOf returns what is to be continued after a loss, nil if nothing can be.
func (s *Session) cutFetchOf(rest *track.Rest) *cutFetch {
	h := s.down.half
	switch {
	case rest == nil:
		return nil
	case s.down.scan.AtStart():
		return &cutFetch{rest: rest}
	case h == nil || h.lost:
		return nil
	}
	if number, _ := h.names(); slices.Contains(rest.Told, number) && !h.hasContent() {
		return nil // the next connection would tell the content again
	}
	s.down.half = nil
	return &cutFetch{half: h, rest: rest}
}

// passed is how much of the response the client has.
func (f *cutFetch) passed() int64 {
	if !f.inside() {
		return 0
	}
	return int64(len(f.half.lines)) + f.half.told
}

// inside says whether the client waits for the rest of a response.
func (f *cutFetch) inside() bool { return f != nil && f.half != nil }

// uid returns the UID of the message whose response isn't complete; v is what the client counts. 0: unknown.
func (f *cutFetch) uid(v *view.View) uint32 {
	number, byUID := f.half.names()
	if byUID {
		return number
	}
	uid, _ := v.UIDs.At(number)
	return uid
}

// continueFetch completes the response that the client has a part of, and puts the FETCH for the other messages
// in front of the client's next bytes. v is what the client counts. If the client is inside a response, it is told more of it before until.
func (s *Session) continueFetch(v *view.View, until time.Time) error {
	f := s.park.cutFetch
	if f == nil {
		return nil
	}
	if v == nil {
		return errOther
	}
	if f.half != nil {
		if err := s.continueResponse(v, until); err != nil {
			return err
		}
		f.rest.Tells(f.half.names())
		s.env.Halves.put(f.half)
		f.half = nil
		if err := s.answerCut(f.answers); err != nil {
			return err
		}
	}
	s.park.cutFetch = nil
	cmd, ok := f.rest.Command(v.UIDs)
	switch {
	case !ok:
		return s.say([]byte(f.rest.Tag + " NO [UNAVAILABLE] The mail server was lost during this command\r\n"))
	case cmd == nil:
		s.commands.Add(1)
		return s.say([]byte(f.rest.Tag + " OK Fetch completed\r\n"))
	}
	s.client.Unread(cmd)
	return nil
}

// continueResponse completes a response on another connection. By until the client is told more of it.
func (s *Session) continueResponse(v *view.View, until time.Time) error {
	f := s.park.cutFetch
	uid := f.uid(v)
	if uid == 0 || f.half.lost { // lost: an earlier attempt has told more than is remembered
		return errOther
	}
	ctx, cancel := s.within(time.Until(until))
	on, err := s.connFor(ctx, v)
	cancel()
	if err != nil {
		s.picked().Rest()
		return err
	}
	c := on.conn
	ctx, cancel = s.within(24 * time.Hour) // the client may be slow; LetGo ends it
	stop := c.Until(ctx)
	answered, err := s.continueOn(c, f, uid, until)
	gone := stop()
	cancel()
	c.Rearm(conn.Reads)
	if !answered || gone {
		_ = c.Abort()
		s.picked().Rest()
		return err
	}
	on.ready = false // what the backend has said meanwhile was dropped
	s.park.found = on
	return nil
}

// connFor returns the connection on which the view was found, or gets one in the user's turn. The client's mailbox is selected on it.
func (s *Session) connFor(ctx context.Context, v *view.View) (*found, error) {
	f := s.takeFound()
	if f != nil && f.ready {
		return f, nil
	}
	r := s.env.Queues.resumesAt(s.picked().Backend.ID)
	if err := r.enter(ctx, s.user, true); err != nil {
		if f != nil {
			_ = f.conn.Abort()
		}
		return nil, err
	}
	defer r.leave(s.user)
	if f == nil {
		c, enable, enabled, err := s.reconnect(ctx, &telemetry.Resume{})
		if err != nil {
			return nil, err
		}
		f = &found{conn: c, enabled: enabled}
		imap := f.client(func([]byte) {})
		err = imap.Enable(ctx, enable...)
		f.enabled = imap.Enabled()
		if err = errors.Join(err, imap.Release()); err != nil {
			_ = c.Abort()
			return nil, err
		}
	}
	imap := f.client(func([]byte) {})
	sel, err := imap.Select(ctx, v.ReadOnly, v.Mailbox, "", nil)
	if err == nil && sel.UIDValidity != v.UIDValidity {
		err = &view.NotSame{Reason: view.OtherUIDValidity}
	}
	f.selected, f.readOnly = imap.Selected(), imap.ReadOnly()
	if err = errors.Join(err, imap.Release()); err != nil {
		_ = f.conn.Abort()
		return nil, err
	}
	return f, nil
}

// patient reads from a backend that may be silent for a while, but not longer than until as long as the client is told nothing.
type patient struct {
	c      *upstream.Conn
	silent time.Duration
	until  time.Time
	f      *cutFetch
	before int64 // how much of the response the client had
}

func (p *patient) Read(b []byte) (int, error) {
	end := time.Now().Add(p.silent)
	if p.until.Before(end) && p.f.passed() == p.before {
		end = p.until
	}
	p.c.LimitReads(end)
	return p.c.Read(b)
}

// continueOn fetches the message again and tells the client what it doesn't have of the response. The error is nil if
// the client has the whole response; answered says that the backend has answered the command as well, so that the
// connection can be used again.
func (s *Session) continueOn(c *upstream.Conn, f *cutFetch, uid uint32, until time.Time) (answered bool, err error) {
	if _, err := c.Write(f.rest.Of(halfTag, uid)); err != nil {
		return false, &imapclient.Broken{Err: err}
	}
	p := &patient{c, halfWithin, until, f, f.passed()}
	r := wire.NewReader(p, maxCatchUpAnswer, maxCatchUpLiteral)
	for done := false; ; {
		line, err := r.ReadLine(maxCatchUpAnswer)
		h := wire.ParseResponseHead(line)
		switch {
		case err != nil:
			err = &imapclient.Broken{Err: err}
		case h.Kind == wire.Tagged && string(h.Tag) == halfTag && done:
			c.Unread(r.Buffered())
			return true, nil
		case h.Kind == wire.Tagged && string(h.Tag) == halfTag:
			return false, errOther
		case !done && h.Number > 0 && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")) && f.half.begins(line, uid):
			if err := s.goOnWith(r, f.half, line); err != nil {
				return false, err
			}
			done, p.silent = true, lingerFor // the client waits for the other messages
		default:
			err = passOver(r, line)
		}
		switch {
		case err != nil && done:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// passOver reads the literals of a response and the lines behind them. line is its first line.
func passOver(r *wire.Reader, line []byte) error {
	for size, _, more := wire.LiteralSpec(line); more; size, _, more = wire.LiteralSpec(line) {
		err := r.Copy(func([]byte) error { return nil }, size)
		if err == nil {
			line, err = r.ReadLine(maxCatchUpAnswer)
		}
		if err != nil {
			return &imapclient.Broken{Err: err}
		}
	}
	return nil
}

// goOnWith tells the client the rest of a response whose first line is line. t is what the client has, and
// follows it.
func (s *Session) goOnWith(r *wire.Reader, t *halfTold, line []byte) error {
	told := t.lines
	for {
		first := wire.FirstLine(told)
		_, _, announces := wire.LiteralSpec(first)
		complete := announces && bytes.HasSuffix(first, []byte("\n"))
		size, _, more := wire.LiteralSpec(line)
		told = told[len(first):]
		last := len(told) == 0
		switch {
		case !complete: // the client has a part of this line
			if !bytes.HasPrefix(line, first) {
				return errOther
			}
			return s.passRest(r, t, line, len(first))
		case !more || !bytes.Equal(volatile(line), volatile(first)):
			return errOther
		case last && t.inside:
			if size != t.size {
				return errOther
			}
			if err := t.skip(r); err != nil {
				return err
			}
			if err := s.passLiteral(r, t, size-t.told); err != nil {
				return err
			}
		default:
			if err := r.Copy(func([]byte) error { return nil }, size); err != nil {
				return &imapclient.Broken{Err: err}
			}
		}
		next, err := r.ReadLine(maxCatchUpAnswer)
		if err != nil {
			return &imapclient.Broken{Err: err}
		}
		if line = next; last {
			return s.passRest(r, t, line, 0)
		}
	}
}

// skip reads the part of the literal that the client has, and compares the end of it with what is known.
func (t *halfTold) skip(r *wire.Reader) error {
	at, from := int64(0), t.tailAt-int64(len(t.tail))
	other := false
	err := r.Copy(func(b []byte) error {
		for _, c := range b {
			if at >= from && at < t.tailAt && t.tail[at-from] != c {
				other = true
			}
			at++
		}
		return nil
	}, t.told)
	switch {
	case err != nil:
		return &imapclient.Broken{Err: err}
	case other:
		return errOther
	}
	return nil
}

// passRest tells the client a line from its byte from on, and what follows it in the response.
func (s *Session) passRest(r *wire.Reader, t *halfTold, line []byte, from int) error {
	for {
		size, _, more := wire.LiteralSpec(line)
		p := wire.Piece{N: len(line) - from, Last: !more, Announced: more, Size: size}
		if err := s.passPiece(t, line[from:], p); err != nil || !more {
			return err
		}
		if err := s.passLiteral(r, t, size); err != nil {
			return err
		}
		next, err := r.ReadLine(maxCatchUpAnswer)
		if err != nil {
			return &imapclient.Broken{Err: err}
		}
		line, from = next, 0
	}
}

// passLiteral tells the client n bytes of a literal.
func (s *Session) passLiteral(r *wire.Reader, t *halfTold, n int64) error {
	var told error
	err := r.Copy(func(b []byte) error {
		told = s.passPiece(t, b, wire.Piece{N: len(b), InLiteral: true})
		return told
	}, n)
	if told != nil {
		return told
	}
	if err != nil {
		return &imapclient.Broken{Err: err}
	}
	return nil
}

// passPiece tells the client a piece of a response.
func (s *Session) passPiece(t *halfTold, b []byte, p wire.Piece) error {
	s.seen(s.env.Now())
	s.bytesOut.Add(int64(len(b)))
	s.env.Telemetry.AddBytes(telemetry.Out, int64(len(b)))
	if err := s.out.relay(b, p.Last); err != nil {
		s.Terminate(ReasonClientLost)
		return err
	}
	t.piece(b, p)
	return nil
}
