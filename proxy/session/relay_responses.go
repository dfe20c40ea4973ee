package session

import (
	"bytes"
	"fmt"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// spliceFrom is the size of a literal's rest from which on splice is worth its cost, if both sides are in the
// clear.
const spliceFrom = 64 << 10

// spliceSlice is how many bytes one splice moves, so that a slow literal still counts as a sign of life.
const spliceSlice = 4 << 20

// maxCapLine bounds a response that is collected before it is rewritten or held back.
const maxCapLine = 16 << 10

// maxLongLine bounds a response that is collected while it passes, since it can be followed only as a whole.
const maxLongLine = 64 << 10

var errLongCaps = fmt.Errorf("a capability list of more than %d bytes", maxCapLine)

// measureFrom is the size of a write to the client from which on its duration is measured: smaller writes
// don't block, and reading the clock costs more than they do.
const measureFrom = 8 << 10

// Chunk implements conn.Receiver.
func (f *responseFlow) Chunk(b []byte) (kept int, next conn.Next) {
	if f.s.overdue() {
		f.held = true
		f.s.backend.Load().Unread(b)
		return 0, conn.Stop
	}
	f.followMu.Lock()
	defer f.followMu.Unlock()
	f.s.out.follow()
	defer f.s.out.followed()
	now := f.s.env.Now()
	f.s.seen(now)
	if f.first.IsZero() {
		f.first = now
	}
	f.s.backend.Load().Progress.Hears(now)
	from, i, at := 0, 0, -1 // at: where in b the current response begins
	for i < len(b) && f.err == nil && f.broken == nil {
		start := f.scan.AtStart()
		p := f.scan.Next(b[i:])
		if p.N == 0 {
			break
		}
		if start {
			at = i
			f.begin(b[i:i+p.N], p.Last, int64(i-from), now)
		}
		if f.half != nil {
			f.half.piece(b[i:i+p.N], p)
		}
		if f.long != nil && !start {
			f.longer(b[i:i+p.N], p.Last)
		}
		if p.Last {
			at = -1
			f.whole()
		}
		if f.fetch.Active {
			f.fetched(b[i:i+p.N], p)
		}
		if f.rewrite || f.bye {
			f.write(b[from:i], start)
			f.collect(b[i:i+p.N], p)
			from = i + p.N
		}
		i += p.N
	}
	if f.fetch.Active {
		f.halfway(b, at, i)
	}
	// The bytes that are kept back haven't begun for the client.
	f.write(b[from:i], f.scan.AtStart() || f.rewrite || f.bye)
	switch {
	case f.err != nil || f.broken != nil:
		return 0, conn.Stop
	case f.splices():
		return 0, conn.Stop // fromBackend goes on with splice
	case i < len(b) || f.s.inFlight.Waiting() > 0:
		return len(b) - i, conn.Ack
	}
	return 0, conn.More
}

// begin handles the head of a response. unwritten is how many bytes before it are still to be written.
func (f *responseFlow) begin(head []byte, whole bool, unwritten int64, now time.Time) {
	h := wire.ParseResponseHead(head)
	switch h.Kind {
	case wire.Continue:
		f.s.inFlight.Prompt()
		f.s.tryToLeave(now) // a client in IDLE may send nothing for long
	case wire.Tagged:
		if h.Status == wire.NoStatus {
			return
		}
		if f.contents.Any() {
			f.contents.Forget(f.told())
		}
		f.rewrite = hasCaps(h)
		unwritten += int64(len(head)) // the whole answer, and what comes before it, is this command's
		f.pushed += unwritten
		verb := f.s.answered(h, now)
		f.pushed -= unwritten
		if f.leaves && verb.Rule().Leaves {
			f.left(h, verb.Rule())
		}
	case wire.Untagged:
		if h.Status == wire.BYE {
			f.bye = f.s.keepsBye(h)
			f.s.inFlight.SawBye(f.bye)
		}
		if t := track.TellsOf(h); t != 0 {
			f.tells.Store(f.tells.Load() + uint64(t))
		}
		if !whole && f.s.inFlight.Parks && track.FollowedWhole(h) {
			f.long = append([]byte(nil), head...)
		} else {
			f.s.inFlight.Untagged(h, whole)
		}
		f.rewrite = hasCaps(h)
		if f.s.inFlight.Parks && f.fetch.Begins(h) {
			f.number, f.content = h.Number, false
		} else if f.contents.Any() && (wire.Is(h.Name, "EXPUNGE") || wire.Is(h.Name, "VANISHED")) {
			f.contents.Forget(f.told()) // the numbers have another meaning now
		}
	}
}

// longer collects one more piece of a response that is followed once it is whole.
func (f *responseFlow) longer(b []byte, last bool) {
	fits := len(f.long)+len(b) <= maxLongLine
	if fits {
		f.long = append(f.long, b...)
	}
	if last || !fits {
		f.s.inFlight.Untagged(wire.ParseResponseHead(f.long), fits)
		f.long = nil
	}
}

// left handles the answer to the command with which a client leaves its mailbox that wasn't told what it missed. RFC 9051 §6.4.1 knows no NO to
// CLOSE; a SELECT that is answered BAD changes nothing. If the mailbox stays selected, the client's numbers mean other messages than the backend's.
// The connection then counts as lost, before the client can send another command: it is told what it missed on another one.
func (f *responseFlow) left(h wire.ResponseHead, r *wire.Rule) {
	f.leaves = false
	if h.Status == wire.OK || r.Selects && h.Status == wire.NO {
		return
	}
	f.s.log().Warn("the backend doesn't leave a mailbox of which the client wasn't told the changes", "answer", h.Status)
	if !f.s.severs() {
		f.s.Terminate(ReasonBackendProtocol)
	}
}

// fetched follows the text of a FETCH response.
func (f *responseFlow) fetched(b []byte, p wire.Piece) {
	r := &f.fetch
	if !p.InLiteral {
		r.Text(b)
		f.content = f.content || p.Announced || track.HasContent(b)
	}
	if !p.Last {
		return
	}
	r.Active = false
	if f.content {
		f.contents.Add(f.told(), f.number, f.fetch.ByUID())
	}
	if r.Tells() {
		f.s.inFlight.Fetched(r)
	}
}

// halfway records what the client has of a FETCH response that goes on behind the chunk b[:end]. at is where it
// begins there, -1: in an earlier chunk.
func (f *responseFlow) halfway(b []byte, at, end int) {
	if f.half == nil && at >= 0 {
		f.half = f.s.env.Halves.get()
		f.half.all(b[at:end])
	}
	f.s.out.setContinues(f.half != nil && !f.half.lost)
}

// whole is called when the current response is complete.
func (f *responseFlow) whole() {
	if f.half != nil {
		f.content = f.content || f.half.hasContent() // a piece may have ended within an item's name
		f.s.env.Halves.put(f.half)
		f.half = nil
		f.s.out.setContinues(false)
	}
}

// hasCaps says whether a response has a capability list.
func hasCaps(h wire.ResponseHead) bool {
	if h.Status == wire.NoStatus {
		return bytes.EqualFold(h.Name, []byte("CAPABILITY"))
	}
	code, _ := wire.Code(h.Rest)
	return bytes.EqualFold(code, []byte("CAPABILITY"))
}

// collect takes a piece of a line that is rewritten or held back. It writes a rewritten line when the line is
// complete.
func (f *responseFlow) collect(b []byte, p wire.Piece) {
	if len(f.caps)+len(b) > maxCapLine {
		f.broken = errLongCaps
		return
	}
	f.caps = append(f.caps, b...)
	if !p.Last {
		return
	}
	if f.bye {
		f.bye, f.farewell, f.caps = false, f.caps, nil
		f.s.endsSoon()
		return
	}
	f.rewrite = false
	f.write(withCaps(f.caps, f.s.tells), true)
	f.caps, f.pushed = nil, max(f.pushed, 0) // what was removed isn't written any more
}

// endsSoon is called once the backend has said BYE, and the client isn't told. It has to end the connection then (RFC 9051 §7.1.5); one that doesn't counts as
// lost: it answers no command any more.
func (s *Session) endsSoon() { s.backend.Load().LimitReads(s.env.Now().Add(lingerFor)) }

// told returns which kinds of data the client was told since the relay began.
func (f *responseFlow) told() track.Told { return track.Told(f.tells.Load()) }

// keepsBye says whether a BYE is held back, since the session may go on with another connection. The client is
// told at once of:
//   - the answer to its LOGOUT;
//   - a BYE about the user: they aren't let in any more, or have to do something (RFC 5530 §3);
//   - an ALERT (RFC 9051 §7.1).
func (s *Session) keepsBye(h wire.ResponseHead) bool {
	if logout, _ := s.inFlight.Farewell(); logout {
		return false
	}
	code, _ := wire.Code(h.Rest)
	for _, c := range []string{"ALERT", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN"} {
		if wire.Is(code, c) {
			return false
		}
	}
	return s.mayGoOn() && s.inFlight.CanSurvive() == track.BlockerNone
}

// withCaps replaces a response's capability list by what told returns for it.
func withCaps(line []byte, told func(wire.Caps) wire.Caps) []byte {
	const word = "CAPABILITY "
	at := 0
	for !bytes.EqualFold(line[at:min(at+len(word), len(line))], []byte(word)) {
		if at++; at >= len(line) {
			return line
		}
	}
	at += len(word)
	end := bytes.IndexAny(line[at:], "]\r\n")
	if end < 0 {
		end = len(line) - at
	}
	out := append([]byte(nil), line[:at]...)
	out = told(wire.ParseCaps(line[at : at+end])).Append(out)
	return append(out, line[at+end:]...)
}

// write writes bytes to the client; boundary says whether a response ends there.
func (f *responseFlow) write(b []byte, boundary bool) {
	if f.err != nil || len(b) == 0 && !boundary {
		return
	}
	f.gave(int64(len(b)))
	if len(b) < measureFrom {
		f.err = f.s.out.relay(b, boundary)
		return
	}
	t := f.s.env.Now()
	f.err = f.s.out.relay(b, boundary)
	f.s.blockedFor.Add(int64(f.s.env.Now().Sub(t)))
}

// splices says whether the literal's rest is to be moved inside the kernel.
func (f *responseFlow) splices() bool {
	return !f.rewrite && !f.bye && f.scan.LiteralLeft() >= spliceFrom && conn.CanSplice(f.s.client, f.s.backend.Load().Conn)
}

// splice moves a literal's rest. It stops before the end of the literal only with an error.
func (f *responseFlow) splice() error {
	return f.s.out.exclusive(func() error {
		t := f.s.env.Now()
		p := &f.s.backend.Load().Progress
		p.Splices(true)
		defer p.Splices(false)
		for left := f.scan.LiteralLeft(); left > 0; left = f.scan.LiteralLeft() {
			if err := f.s.goOn(); err != nil {
				return err
			}
			n, err := conn.Splice(f.s.client, f.s.backend.Load().Conn, min(left, spliceSlice))
			f.scan.Skip(n)
			if f.half != nil {
				f.half.passed(n)
			}
			f.gave(n)
			now := f.s.env.Now()
			f.s.seen(now)
			p.Hears(now)
			if err != nil {
				return err
			}
		}
		f.s.blockedFor.Add(int64(f.s.env.Now().Sub(t)))
		return nil
	})
}

// gave counts bytes that are written to the client.
func (f *responseFlow) gave(n int64) {
	f.pushed += n
	f.s.bytesOut.Add(n)
	f.s.env.Telemetry.AddBytes(telemetry.Out, n)
}
