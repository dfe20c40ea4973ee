package session

import (
	"bytes"
	"errors"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// Chunk implements conn.Receiver.
func (f *commandFlow) Chunk(b []byte) (kept int, next conn.Next) {
	if f.s.Reason() != "" {
		return 0, conn.Stop // ends a client that sends many commands and gets no answers written
	}
	if !f.gone && f.s.overdue() {
		f.held = true
		f.s.client.Unread(b)
		return 0, conn.Stop
	}
	now := f.s.env.Now()
	f.s.seen(now)
	f.s.lastHeard.Store(clock.Of(now))
	began := f.began(now) // the first chunk has what waited for the connection
	if f.awaiting {
		f.resolve()
	}
	ahead := f.refuses && f.s.client.Arrived() // before anything is answered: what comes later the client may have sent having read that
	from := 0                                  // b[from:i] is due to be passed on
	i := 0
	for i < len(b) && f.err == nil && f.refused == nil && !f.over {
		start := f.scan.AtStart()
		if start && f.gone {
			if f.left = !takesLost(b[i:]); f.left {
				break
			}
		}
		if start && !f.gone && f.s.concernsShared(b[i:]) {
			f.visits = true
			break
		}
		if start && f.s.inFlight.Waits() && from < i {
			// begin may wait for answers, so the backend must have the commands that they answer.
			f.pass(b[from:i])
			from = i
		}
		p := f.scan.Next(b[i:])
		if p.N == 0 {
			break
		}
		if start {
			f.begin(b[i:i+p.N], p.Last, i+p.N < len(b), began)
			if f.swallow {
				f.pass(b[from:i])
			}
		}
		if f.command && !p.Last && !p.InLiteral {
			f.quotes.Text(b[i : i+p.N])
			if p.Announced && track.Disputed(f.rule, f.quotes, b[i:i+p.N]) {
				f.s.inFlight.Dispute()
			}
		}
		if f.command && f.keeps && !start {
			f.s.inFlight.Keep(b[i : i+p.N])
		}
		if f.command && f.args.Active() {
			f.s.inFlight.Piece(&f.args, &f.s.env.Names, b[i:i+p.N], p, start)
		}
		i += p.N
		f.size += int64(p.N)
		if f.swallow {
			from = i
		}
		if p.Announced {
			f.announced(p, start)
			if f.gone && f.scan.AtStart() {
				f.last(now)
			}
			if f.awaiting && i < len(b) {
				f.pass(b[from:i])
				from = i
				f.resolve()
			}
		}
		if p.Last {
			f.last(now)
		}
	}
	f.pass(b[from:i])
	f.refuses = f.refuses && (i < len(b) || len(f.s.client.PutBack()) > 0 || ahead)
	switch {
	case f.err != nil || f.refused != nil || f.over || f.left || f.visits:
		f.s.client.Unread(b[i:]) // the commands after those in progress aren't lost with the connection
		return 0, conn.Stop
	case f.turns:
		return 0, conn.Stop // fromClient reads on; nothing is behind COMPRESS
	case f.splices():
		return 0, conn.Stop // fromClient goes on with splice
	case i < len(b) || !f.scan.AtStart():
		return len(b) - i, conn.Ack
	}
	return 0, conn.More
}

// begin handles the head of a unit. more says that bytes behind it have been read.
func (f *commandFlow) begin(head []byte, whole, more bool, now time.Time) {
	f.size, f.swallow, f.command = 0, false, false
	f.args.Reset(&f.s.env.Names)
	f.s.inFlight.Settle()
	if f.kind = f.s.inFlight.Line(head); f.kind != track.LineCommand {
		return
	}
	h := wire.ParseCommandHead(head)
	answer := ownAnswer(h, head, whole)
	if answer == nil && f.refuses && h.Verb.Rule().Alters() {
		answer = []byte(string(h.Tag) + " NO " + behindRefused + "\r\n")
	}
	switch {
	case wire.IsEmpty(head): // some clients send an empty line after a literal
		return
	case len(h.Tag) > track.MaxTag:
		f.swallow, f.refused = true, errLongTag
		return
	case answer == nil && whole && f.s.interceptLogout(h):
		f.swallow, f.refused = true, errLoggedOut
		return
	case answer == nil:
		f.command, f.rule, f.quotes = true, h.Verb.Rule(), track.Quoting{}
		f.keeps = f.s.inFlight.Parks && f.rule.Loss != wire.LossRefused
		if !whole && f.s.inFlight.Parks {
			f.args.Begin(&f.s.env.Names, h, head)
		}
		if !f.s.inFlight.BeginWith(h, head, whole, f.s.down.told(), now) {
			f.swallow, f.refused = true, errSessionOver
		}
		return
	}
	f.swallow = true
	f.s.intercepted(h.Verb)
	if h.Verb == wire.Compress && wire.ValidTag(h.Tag) {
		more = more || len(f.s.client.PutBack()) > 0 || f.s.client.Arrived()
		if answer, f.turns = f.s.compression(h, whole, more); f.turns {
			f.s.client.Inflate(f.s.env.Buffers, f.s.lis.Settings().CompressHistory)
			f.s.env.Telemetry.Compresses()
		}
	}
	if err := f.s.out.sayAndTurn(answer, f.turns); err != nil {
		f.refused = err
	}
}

// announced handles the announcement of a literal. first says that the piece begins the command.
func (f *commandFlow) announced(p wire.Piece, first bool) {
	switch {
	case f.kind == track.LineIdle:
		f.scan.Abandon() // the backend takes the literal for text in place of DONE
	case !p.Sync || f.kind == track.LineAnswer:
	case f.swallow || f.gone:
		f.scan.Abandon() // the command is answered without "+", so no literal follows
	default:
		f.awaiting = true
		f.s.inFlight.Ask()
		if !first && !f.keeps {
			f.s.inFlight.Forget() // its text isn't whole
		}
	}
}

// resolve waits for the backend's answer to the announced literal before the bytes after it are parsed: after
// "+" they are a literal, after NO they are commands (RFC 9051 §4.3). If the client has waited as it should,
// the answer is here already.
func (f *commandFlow) resolve() {
	f.awaiting = false
	if f.s.inFlight.LiteralRefused() {
		f.scan.Abandon()
	}
}

// last is called at the end of a unit.
func (f *commandFlow) last(now time.Time) {
	if f.command {
		f.s.inFlight.Sent(f.size, now, f.s.blocked())
	}
	f.command, f.swallow, f.over = false, false, f.gone
}

// pass writes bytes to the backend.
func (f *commandFlow) pass(b []byte) {
	if len(b) == 0 || f.err != nil || f.gone {
		return
	}
	f.s.took(int64(len(b)))
	backend := f.s.backend.Load()
	backend.Progress.Writes(clock.At(f.s.lastHeard.Load())) // when these bytes were read
	_, f.err = backend.Write(b)
	backend.Progress.Wrote()
}

// splices says whether the literal's rest is to be moved inside the kernel.
func (f *commandFlow) splices() bool {
	return !f.awaiting && !f.swallow && !f.gone && f.scan.LiteralLeft() >= spliceFrom && conn.CanSplice(f.s.backend.Load().Conn, f.s.client)
}

// splice moves a literal's rest. It stops before the end of the literal only with an error.
func (f *commandFlow) splice() error {
	if f.keeps {
		f.s.inFlight.Forget() // its text isn't seen
	}
	for left := f.scan.LiteralLeft(); left > 0; left = f.scan.LiteralLeft() {
		if err := f.s.goOn(); err != nil {
			return err
		}
		backend := f.s.backend.Load()
		backend.Progress.Writes(f.s.env.Now())
		n, err := conn.Splice(backend.Conn, f.s.client, min(left, spliceSlice))
		backend.Progress.Wrote()
		f.scan.Skip(n)
		f.size += n
		f.s.took(n)
		f.s.seen(f.s.env.Now())
		if err != nil {
			return err
		}
	}
	return nil
}

// clientBroke ends a session whose client's stream can't be followed any further.
func (s *Session) clientBroke() {
	switch err := s.up.refused; {
	case errors.Is(err, errSessionOver): // the session has a reason already
	case errors.Is(err, errLoggedOut):
		s.Terminate(ReasonLogout)
	case errors.Is(err, errTooMuchPending):
		s.Terminate(ReasonClientUnread)
	case errors.Is(err, errLongTag):
		s.log().Info("the client can't be followed", "error", err)
		s.Terminate(ReasonClientProtocol)
	default: // an answer of the proxy's couldn't be written
		s.Terminate(ReasonClientLost)
	}
}

// takesLost says whether takeArrived takes the command that b begins with.
func takesLost(b []byte) bool {
	line := wire.FirstLine(b)
	if wire.IsEmpty(line) || !bytes.HasSuffix(line, []byte("\n")) && len(line) < wire.MaxHead {
		return true // in the latter case the scanner keeps it until there is more
	}
	h := wire.ParseCommandHead(line)
	return h.Verb != wire.Idle && h.Verb != wire.Logout && ownAnswer(h, line, true) == nil
}
