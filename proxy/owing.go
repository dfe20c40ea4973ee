package proxy

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"

	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
)

// Bounds while a client is owed EXPUNGE and each of its commands is translated as
// a whole. Beyond them the session ends.
const (
	maxOwedLine    = 1 << 20 // sets of UIDs can be long
	maxOwedLiteral = 64 << 10
	maxOwedAnswer  = 4 << 20 // one line of a response: SEARCH has all its numbers in it
)

// bearsSet says whether a command has message numbers in it, or a "*" that is the
// client's last message.
func bearsSet(v wire.Verb) bool {
	switch v {
	case wire.Fetch, wire.Store, wire.Search, wire.Sort, wire.Thread, wire.Copy, wire.Move, wire.Replace,
		wire.UIDFetch, wire.UIDStore, wire.UIDSearch, wire.UIDSort, wire.UIDThread, wire.UIDCopy, wire.UIDMove,
		wire.UIDReplace, wire.UIDExpunge:
		return true
	}
	return false
}

// forbidsExpunge says whether EXPUNGE may not be told while the command is in
// progress (RFC 9051 §7.5.1; RFC 5256 for SORT and THREAD).
func forbidsExpunge(v wire.Verb) bool {
	switch v {
	case wire.Fetch, wire.Store, wire.Search, wire.Sort, wire.Thread:
		return true
	}
	return false
}

// owed is what a resumed client hasn't been told, since its command bears message
// numbers of before.
type owed struct {
	missed park.Difference
	view   *park.View   // before missed
	n      park.Numbers // with what is new in missed, which takes no number away
}

// owing relays while the client counts messages that its backend hasn't any more:
// one command at a time, with its numbers translated there and back, until a
// command lets the client be told. Then the relay goes on as usual.
func (s *Session) owing() {
	o := owing{
		s: s, n: s.park.owed.n, untold: s.park.owed, modSeq: s.park.owed.view.ModSeq,
		client:  wire.NewReader(s.client, maxOwedLine, maxOwedLiteral),
		backend: wire.NewReader(s.backend.Load(), maxOwedAnswer, maxOwedLiteral),
	}
	s.park.owed = nil
	for {
		relay, err := o.command()
		if s.reason() != "" {
			s.finish()
			return
		}
		if err != nil {
			s.over(o.endOf(err))
			s.finish()
			return
		}
		if relay {
			s.park.owing.Store(false)
			go s.relay()
			return
		}
	}
}

// owing is one stretch of it.
type owing struct {
	s               *Session
	n               park.Numbers
	untold          *owed // nil: all but EXPUNGE was told, and flags
	client, backend *wire.Reader
	modSeq          uint64            // the client's bound
	flags           []park.FlagChange // owed as well: they show mod-sequences beyond the bound
	backendFailed   bool
}

func (o *owing) endOf(err error) Reason {
	switch {
	case o.backendFailed && !o.s.out.atBoundary():
		return ReasonBackendLostInner
	case o.backendFailed:
		return ReasonBackendLost
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonClientClosed
	case errors.Is(err, wire.ErrLineTooLong) || errors.Is(err, wire.ErrLiteralTooLong) || errors.Is(err, wire.ErrNUL):
		return ReasonClientProtocol
	}
	return ReasonClientLost
}

// command takes one command of the client's. relay means that nothing is owed any
// more, and the rest, this command included where it isn't done, is the relay's.
func (o *owing) command() (relay bool, err error) {
	s := o.s
	unit, err := o.client.Unit(func([]byte) error { return s.out.relay([]byte("+ OK\r\n"), true) }, true)
	if err != nil {
		return false, err
	}
	now := s.srv.now()
	s.seen(now)
	s.lastHeard.Store(now.UnixNano())
	unit = append(unit, "\r\n"...)
	h := wire.ParseCommandHead(firstLine(unit))
	if !bearsSet(h.Verb) {
		return true, o.told(unit)
	}
	cmd, fate := o.n.Command(nil, unit)
	switch {
	case !forbidsExpunge(h.Verb) && fate == park.Refuse:
		if err := o.told(nil); err != nil {
			return false, err
		}
		return true, o.write(park.AppendExpungeIssued(nil, h.Tag), true)
	case !forbidsExpunge(h.Verb):
		return true, o.told(cmd)
	}
	if err := o.tellHalf(); err != nil {
		return false, err
	}
	if fate == park.Refuse {
		return false, o.write(park.AppendExpungeIssued(nil, h.Tag), true)
	}
	if h.Verb == wire.Store && len(o.flags) > 0 {
		cmd = aloud(cmd)
	}
	s.flight.begin(h, true, now)
	s.took(int64(len(cmd)))
	if err := o.send(cmd); err != nil {
		return false, err
	}
	s.flight.sent(int64(len(cmd)), s.srv.now(), s.blocked())
	return false, o.answers(h, fate)
}

// tellHalf tells what takes no message away, before a command that forbids the
// rest.
func (o *owing) tellHalf() error {
	if o.untold == nil {
		return nil
	}
	t := &o.s.flight.told
	d, rest := o.untold.missed.Split(t.dialect)
	line := d.AppendTo(nil, t.dialect, o.untold.view)
	after := o.untold.view.After(d)
	t.box.exists, t.box.flags = after.UIDs.Count(), after.Flags
	o.flags, o.untold = rest.Changed, nil
	return o.write(line, true)
}

// told tells what is owed, and leaves the command to the relay. Where nothing was told
// before, EXPUNGE comes before EXISTS, as servers do it: mutt 2.2 asks for new
// mail by the numbers of EXISTS, whatever EXPUNGE says behind it.
func (o *owing) told(cmd []byte) error {
	s := o.s
	t := &s.flight.told
	var line []byte
	if u := o.untold; u != nil {
		line = u.missed.AppendTo(nil, t.dialect, u.view)
		after := u.view.After(u.missed)
		t.box.exists, t.box.flags = after.UIDs.Count(), after.Flags
	} else {
		line = o.n.Tell(nil, t.dialect)
		known, count := o.n.Client()
		t.box.exists = count
		o.flags = slices.DeleteFunc(o.flags, func(c park.FlagChange) bool { return !known.Contains(c.UID) })
		line = park.Difference{Changed: o.flags}.AppendTo(line, t.dialect, &park.View{UIDs: known})
	}
	if err := o.write(line, true); err != nil {
		return err
	}
	s.client.Unread(append(cmd, o.client.Buffered()...))
	s.backend.Load().Unread(o.backend.Buffered())
	return nil
}

// send writes to the backend: a command, its literals where they must be asked
// for one by one.
func (o *owing) send(cmd []byte) error {
	o.backendFailed = true
	for len(cmd) > 0 {
		line := firstLine(cmd)
		cmd = cmd[len(line):]
		size, sync, ok := wire.LiteralSpec(line)
		if _, err := o.s.backend.Load().Write(line); err != nil {
			return err
		}
		if !ok {
			continue
		}
		if sync {
			resp, err := o.backend.ReadResponse()
			if err != nil {
				return err
			}
			if resp.Tag != "+" {
				return errSessionOver
			}
		}
		if _, err := o.s.backend.Load().Write(cmd[:size]); err != nil {
			return err
		}
		cmd = cmd[size:]
	}
	o.backendFailed = false
	return nil
}

// answers relays a command's responses up to its tagged one.
func (o *owing) answers(h wire.CommandHead, fate park.Fate) error {
	for {
		done, err := o.response(h, fate)
		if done || err != nil {
			return err
		}
	}
}

// response relays one response. Of FETCH only the head is translated, the rest
// streams; all others are translated whole.
func (o *owing) response(cmd wire.CommandHead, fate park.Fate) (done bool, err error) {
	s := o.s
	o.backendFailed = true
	line, err := o.backend.ReadLine(maxOwedAnswer)
	if err != nil {
		return false, err
	}
	head := wire.ParseResponseHead(line)
	whole := append([]byte(nil), line...)
	fetch := head.Kind == wire.Untagged && named(head.Name, "FETCH")
	size, _, more := wire.LiteralSpec(line)
	text := head.Status != wire.NoStatus || head.Kind == wire.Continue
	for more && !text && !fetch {
		if size > maxOwedLiteral {
			return false, wire.ErrLiteralTooLong
		}
		_ = o.backend.Copy(func(b []byte) error { whole = append(whole, b...); return nil }, size)
		if line, err = o.backend.ReadLine(maxOwedAnswer); err != nil {
			return false, err
		}
		whole = append(whole, line...)
		size, _, more = wire.LiteralSpec(line)
	}
	s.seen(s.srv.now())
	var out []byte
	switch {
	case head.Kind == wire.Tagged:
		out = whole
		if fate == park.RelayPart {
			out = park.AppendPartly(nil, whole)
		}
		out = park.ClampModSeq(nil, out, o.modSeq)
		s.answered(wire.ParseResponseHead(whole), s.srv.now())
		done = true
	case head.Status != wire.NoStatus:
		out = park.ClampModSeq(nil, whole, o.modSeq)
	default:
		if out, err = o.n.Response(nil, whole, cmd.Verb >= wire.UIDCopy); err != nil {
			return false, err
		}
	}
	o.backendFailed = false
	if fetch && containsFold(out, "FLAGS") {
		o.newer(wire.ParseResponseHead(out).Number)
	}
	if !fetch || !more {
		return done, o.write(out, true)
	}
	if err := o.write(out, false); err != nil {
		return false, err
	}
	for more { // the literals of a FETCH stream
		o.backendFailed = true
		if err := o.backend.Copy(func(b []byte) error { return o.write(b, false) }, size); err != nil {
			return false, err
		}
		if line, err = o.backend.ReadLine(maxOwedAnswer); err != nil {
			return false, err
		}
		o.backendFailed = false
		size, _, more = wire.LiteralSpec(line)
		if err := o.write(line, !more); err != nil {
			return false, err
		}
	}
	return false, nil
}

// aloud takes .SILENT out of a STORE. The flags that are owed would else be told after it, as
// they were before it; and left out the client would never hear what others have set.
func aloud(cmd []byte) []byte {
	line := firstLine(cmd)
	if i := bytes.Index(bytes.ToUpper(line), []byte("FLAGS.SILENT ")); i > 0 {
		i += len("FLAGS")
		return slices.Delete(slices.Clone(cmd), i, i+len(".SILENT"))
	}
	return cmd
}

// newer forgets owed flags of the client's message n, for which the backend has just told
// others.
func (o *owing) newer(n uint32) {
	known, _ := o.n.Client()
	if uid, ok := known.At(n); ok {
		o.flags = slices.DeleteFunc(o.flags, func(c park.FlagChange) bool { return c.UID == uid })
	}
}

func (o *owing) write(b []byte, boundary bool) error {
	o.s.down.gave(int64(len(b)))
	return o.s.out.relay(b, boundary)
}

// lastOf is the client's last message, in the numbers of a command that changes
// or copies messages: its "*" mustn't mean one that the client hasn't heard of. To
// FETCH and SEARCH it may, and has to: `UID FETCH n:*` is how new mail is found.
func lastOf(uids park.UIDs, v wire.Verb) uint32 {
	switch v {
	case wire.Store, wire.Copy, wire.Move, wire.Replace:
		return uids.Count()
	case wire.UIDStore, wire.UIDCopy, wire.UIDMove, wire.UIDReplace, wire.UIDExpunge:
		return uids.Last()
	}
	return 0
}

// withStar says a number for "*" in the set that is a command's first argument.
func withStar(cmd []byte, last uint32) []byte {
	h := wire.ParseCommandHead(firstLine(cmd))
	set, _, _ := bytes.Cut(h.Args, []byte(" "))
	if !bytes.Contains(set, []byte("*")) {
		return cmd
	}
	i := bytes.Index(cmd, h.Args)
	out := append([]byte(nil), cmd[:i]...)
	out = append(out, bytes.ReplaceAll(set, []byte("*"), strconv.AppendUint(nil, uint64(last), 10))...)
	return append(out, cmd[i+len(set):]...)
}
