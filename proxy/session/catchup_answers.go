package session

import (
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// send writes a command to the backend; it asks for each synchronising literal. answered says that the backend
// has answered the command before its end.
func (o *catchUp) send(cmd []byte, h wire.CommandHead, disposition view.Disposition) (answered bool, err error) {
	b := o.s.backend.Load()
	defer b.Progress.Wrote()
	for len(cmd) > 0 {
		b.Progress.Writes(o.s.env.Now())
		o.backendFailed = true
		line := wire.FirstLine(cmd)
		cmd = cmd[len(line):]
		size, sync, ok := wire.LiteralSpec(line)
		if _, err := b.Write(line); err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		for agreed := !sync; !agreed; {
			kind, err := o.response(h, disposition, true)
			if err != nil || kind == wire.Tagged {
				return true, err
			}
			agreed = kind == wire.Continue
		}
		o.backendFailed = true
		if _, err := b.Write(cmd[:size]); err != nil {
			return false, err
		}
		cmd = cmd[size:]
	}
	o.backendFailed = false
	return false, nil
}

// answers relays a command's responses up to the tagged one.
func (o *catchUp) answers(h wire.CommandHead, disposition view.Disposition) error {
	for {
		kind, err := o.response(h, disposition, false)
		if kind == wire.Tagged || err != nil {
			return err
		}
	}
}

// response relays one response and returns its kind. Of FETCH only the first line is translated and the rest
// streams; any other response is translated whole. asked says that a literal was announced, so that a
// continuation request is for the proxy.
func (o *catchUp) response(cmd wire.CommandHead, disposition view.Disposition, asked bool) (kind wire.Kind, err error) {
	s := o.s
	o.backendFailed = true
	line, err := o.backend.ReadLine(maxCatchUpAnswer)
	if err != nil {
		return kind, err
	}
	head := wire.ParseResponseHead(line)
	kind = head.Kind
	whole := append([]byte(nil), line...)
	fetch := kind == wire.Untagged && (wire.Is(head.Name, "FETCH") || wire.Is(head.Name, "UIDFETCH"))
	size, _, more := wire.LiteralSpec(line)
	text := head.Status != wire.NoStatus || kind == wire.Continue
	caps := kind != wire.Continue && hasCaps(head)
	for more && !text && !fetch {
		if size > maxCatchUpLiteral {
			return kind, wire.ErrLiteralTooLong
		}
		if err := o.backend.Copy(func(b []byte) error { whole = append(whole, b...); return nil }, size); err != nil {
			return kind, err
		}
		if line, err = o.backend.ReadLine(maxCatchUpAnswer); err != nil {
			return kind, err
		}
		whole = append(whole, line...)
		size, _, more = wire.LiteralSpec(line)
	}
	now := s.env.Now()
	s.seen(now)
	s.backend.Load().Progress.Hears(now)
	s.down.tells.Add(uint64(track.TellsOf(head)))
	if fetch {
		s.down.contents.Forget(s.down.told()) // it isn't recorded which messages are told here
	}
	if kind == wire.Continue && asked {
		o.backendFailed = false
		return kind, nil
	}
	out := whole
	if kind == wire.Untagged && (s.inFlight.Client.UIDOnly || !namesMessages(head)) {
		s.inFlight.Untagged(wire.ParseResponseHead(whole), true)
	}
	if !s.inFlight.Client.UIDOnly {
		if out, err = o.n.Response(nil, whole, cmd.Verb.Rule().UID); err != nil {
			return kind, err
		}
	}
	if head.Status == wire.BYE {
		keeps := s.keepsBye(head)
		s.inFlight.SawBye(keeps)
		if keeps {
			s.down.farewell = whole
			s.endsSoon()
			return kind, nil
		}
	}
	if head.Status != wire.NoStatus {
		if kind == wire.Tagged {
			if disposition == view.RelayPart {
				out = view.AppendPartly(nil, out)
			}
			s.answered(wire.ParseResponseHead(whole), s.env.Now())
		}
		out = view.ClampModSeq(nil, out, o.modSeq)
	}
	if caps {
		out = withCaps(out, s.tells)
	}
	o.backendFailed = false
	switch {
	case kind == wire.Tagged:
		return kind, o.answer(out)
	case !fetch:
		return kind, o.write(out, true)
	}
	return kind, o.fetch(whole, out, size, more)
}

// namesMessages says whether an untagged response is about messages. Where those of a client that is owed EXPUNGE are translated, what it counts
// isn't found by following them.
func namesMessages(h wire.ResponseHead) bool {
	return h.Number > 0 || wire.Is(h.Name, "EXISTS") || wire.Is(h.Name, "VANISHED")
}

// fetch relays a FETCH response: line is its first line as the backend sent it, out the same line for the
// client. Its literals stream. more says that a literal of size follows.
func (o *catchUp) fetch(line, out []byte, size int64, more bool) error {
	number := wire.ParseResponseHead(out).Number
	var items track.FetchResponse
	items.Text(line)
	p := &o.s.backend.Load().Progress
	p.Splices(true) // as long as this takes, the kernel knows when something has come
	defer p.Splices(false)
	if err := o.write(out, !more); err != nil {
		return err
	}
	for more {
		o.backendFailed = true
		if err := o.backend.Copy(func(b []byte) error { return o.write(b, false) }, size); err != nil {
			return err
		}
		line, err := o.backend.ReadLine(maxCatchUpAnswer)
		if err != nil {
			return err
		}
		o.backendFailed = false
		items.Text(line)
		size, _, more = wire.LiteralSpec(line)
		if err := o.write(line, !more); err != nil {
			return err
		}
	}
	if items.HasFlags {
		o.newer(number)
	}
	return nil
}
