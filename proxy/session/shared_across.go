package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/wire"
)

// COPY and MOVE between backends are FETCH here and APPEND there. The client sees all messages copied or none:
//
//	the target has MULTIAPPEND (RFC 3502)     one command for all messages
//	one message                               one APPEND
//	otherwise                                 an APPEND for each; if one fails, the copies before it are expunged by
//	                                          their UIDs, so the target needs UIDPLUS (RFC 4315)
//
// MOVE removes the messages when all copies are acknowledged, by UID EXPUNGE, so the source needs UIDPLUS as well. If a connection
// is lost meanwhile, messages may exist twice; none is lost.

// crosses says whether a command takes messages to another mailbox.
func crosses(v wire.Verb) bool {
	return v == wire.Copy || v == wire.Move || v == wire.UIDCopy || v == wire.UIDMove
}

// piece is a message that is copied.
type piece struct {
	uid   uint32
	flags string // without \Recent
	date  string // quoted
}

// across copies or moves messages from the selected mailbox of one leg to a mailbox of the other.
func (o *visit) across(cmd []byte, h wire.CommandHead, from, to *leg, box string) error {
	h.Tag = bytes.Clone(h.Tag)
	moves := h.Verb == wire.Move || h.Verb == wire.UIDMove
	set, _, _ := bytes.Cut(h.Args, []byte(" "))
	if from == o.home && !o.s.inFlight.Selected() {
		return o.answer(h, wire.BAD, "No mailbox is selected")
	}
	if bytes.ContainsRune(set, '$') {
		return o.answer(h, wire.NO, "[CANNOT] A saved search result can't be copied to another server")
	}
	source, target := o.capsOf(from), o.capsOf(to)
	if moves && !source.Has("UIDPLUS") && !source.Has("IMAP4rev2") {
		return o.answer(h, wire.NO, "[CANNOT] The server can't remove these messages alone")
	}
	if moves {
		if no, err := o.mayNotRemove(from); err != nil || no != "" {
			if err != nil {
				return err
			}
			return o.answer(h, wire.NO, no)
		}
	}
	heard := o.s.env.Now()
	stop := o.s.reassures(&heard, true)
	defer stop()
	pieces, err := o.pieces(from, h, string(set))
	switch {
	case errors.Is(err, errTooMany):
		return o.answer(h, wire.NO, fmt.Sprintf("[LIMIT] At most %d messages at once can go to another server", maxAcross))
	case err != nil:
		return o.told(h, err, "")
	case len(pieces) == 0:
		return o.answer(h, wire.OK, "No messages")
	}
	plus := target.Has("UIDPLUS") && target.Has("UNSELECT") || target.Has("IMAP4rev2")
	var copied copies
	switch {
	case len(pieces) == 1 || target.Has("MULTIAPPEND"):
		err = o.appendAll(from, to, box, pieces, target, &copied)
	case !plus:
		return o.answer(h, wire.NO, "[CANNOT] The server of that mailbox can't take several messages at once")
	default:
		for _, p := range pieces {
			if err = o.appendAll(from, to, box, []piece{p}, target, &copied); err != nil {
				if undone := o.undo(to, box, &copied); undone != nil {
					err = errors.Join(err, undone)
				}
				break
			}
		}
	}
	if err != nil {
		return o.failedAcross(h, from, to, err)
	}
	code := copied.code(pieces)
	if moves {
		if code != "" {
			if err := o.write([]byte("* OK "+code+"Copied\r\n"), true); err != nil {
				return err
			}
			code = ""
		}
		if err := o.remove(from, pieces); err != nil {
			if _, lost := errors.AsType[*lostLeg](err); lost {
				return err
			}
			o.s.log().Warn("messages were copied to another server and couldn't be removed", "error", err)
			return o.answer(h, wire.NO, "The messages were copied, but couldn't be removed here")
		}
	}
	o.hint(to, true)
	o.hint(from, moves)
	return o.answer(h, wire.OK, code+h.Verb.String()+" completed")
}

func (o *visit) capsOf(l *leg) wire.Caps {
	if l == o.home {
		return o.s.caps.Load().list
	}
	return l.conn.Caps
}

// mayNotRemove returns the answer to a MOVE whose messages the user may not remove from the selected mailbox.
func (o *visit) mayNotRemove(from *leg) (no string, err error) {
	switch {
	case from == o.home && o.s.inFlight.Client.Mailbox.ReadOnly, from != o.home && from.ronly:
		return "[READ-ONLY] The mailbox is selected read-only", nil
	case from == o.home:
		return "", nil
	}
	rights, err := o.rightsOn(from, from.box)
	if err != nil {
		return "", err
	}
	if !strings.Contains(rights, "t") || !strings.Contains(rights, "e") {
		return "[NOPERM] You may not remove messages from this mailbox", nil
	}
	return "", nil
}

// errTooMany: the command names more than maxAcross messages.
var errTooMany = errors.New("too many messages")

// pieces finds the messages that a command names.
func (o *visit) pieces(from *leg, h wire.CommandHead, set string) (all []piece, err error) {
	verb := "FETCH "
	if h.Verb.Rule().UID {
		verb = "UID FETCH "
	}
	var bad error
	_, err = o.do(from, verb+set+" (UID FLAGS INTERNALDATE)", func(u imapclient.Untagged) bool {
		if !u.Is("FETCH") && !u.Is("UIDFETCH") {
			return false
		}
		p, ok := parsePiece(u.Rest, u.Number, u.Is("UIDFETCH"))
		if !ok {
			return false // another response, about flags that have changed
		}
		if len(all) >= maxAcross {
			bad = errTooMany
			return true
		}
		all = append(all, p)
		line := append(withoutDate(u.Response.Line), "\r\n"...) // the flags may be news to the client
		if from == o.home {
			o.s.passOn(line)
		} else {
			_ = o.write(line, true) // an error shows with the next write
		}
		return true
	})
	return all, errors.Join(err, bad)
}

// withoutDate is a copy of a FETCH response without its INTERNALDATE. The client hasn't asked for one, and Thunderbird lists a message without a subject then.
func withoutDate(line []byte) []byte {
	before, rest, found := bytes.Cut(line, []byte(`INTERNALDATE "`))
	if !found {
		return bytes.Clone(line)
	}
	_, behind, _ := bytes.Cut(rest, []byte(`"`))
	before = bytes.TrimRight(before, " ")
	if bytes.HasSuffix(before, []byte("(")) {
		behind = bytes.TrimLeft(behind, " ")
	}
	return slices.Concat(before, behind)
}

// parsePiece parses the items of a FETCH response that has all of UID, FLAGS and INTERNALDATE.
func parsePiece(rest []byte, number uint32, byUID bool) (p piece, ok bool) {
	rest = bytes.TrimSpace(rest)
	if len(rest) < 2 || rest[0] != '(' || rest[len(rest)-1] != ')' {
		return p, false
	}
	if byUID {
		p.uid = number
	}
	flags := false
	for b := rest[1:]; len(b) > 0 && b[0] != ')'; b = bytes.TrimLeft(b, " ") {
		name, after, err := wire.ItemName(b)
		if err != nil {
			return p, false
		}
		value, after, err := wire.ItemValue(after)
		if err != nil {
			return p, false
		}
		b = after
		switch {
		case wire.Is(name, "UID"):
			n, err := strconv.ParseUint(string(value), 10, 32)
			if err != nil {
				return p, false
			}
			p.uid = uint32(n)
		case wire.Is(name, "FLAGS"):
			var kept []string
			for _, f := range strings.Fields(strings.Trim(string(value), "()")) {
				if !strings.EqualFold(f, `\Recent`) {
					kept = append(kept, f)
				}
			}
			p.flags, flags = strings.Join(kept, " "), true
		case wire.Is(name, "INTERNALDATE"):
			p.date = string(value)
		}
	}
	return p, p.uid != 0 && flags && strings.HasPrefix(p.date, `"`)
}

// copies are the UIDs of messages that were copied.
type copies struct {
	validity string
	uids     []string // sets, in the order of the messages; each counts as many as its APPEND had messages
	all      bool     // each APPEND was answered with APPENDUID
	n        int
}

// code is the response code COPYUID with a space, "" where the UIDs aren't known (RFC 4315 §3).
func (c *copies) code(pieces []piece) string {
	if !c.all || c.validity == "" {
		return ""
	}
	var from []string
	for _, p := range pieces {
		from = append(from, strconv.FormatUint(uint64(p.uid), 10))
	}
	return "[COPYUID " + c.validity + " " + strings.Join(from, ",") + " " + strings.Join(c.uids, ",") + "] "
}

// appendAll copies messages by one APPEND. Its errors are *lostLeg and *imapclient.Refusal.
func (o *visit) appendAll(from, to *leg, box string, pieces []piece, target wire.Caps, copied *copies) error {
	o.tags++
	tag := "ap" + strconv.Itoa(o.tags)
	line := []byte(tag + " APPEND ")
	line = shared.AppendName(line, box)
	begun := false // bytes of the command are with the backend
	for _, p := range pieces {
		line = append(line, " ("+p.flags+") "+p.date+" "...)
		err := o.body(from, p, func(size int64) error {
			sync := !takesLiteral(target, target, false, size)
			line = append(line, '{')
			line = strconv.AppendInt(line, size, 10)
			if !sync {
				line = append(line, '+')
			}
			line = append(line, "}\r\n"...)
			begun = true
			if err := o.send(to, line); err != nil {
				return err
			}
			if sync {
				return o.agreed(to, tag)
			}
			return nil
		}, func(b []byte) error { return o.send(to, b) })
		if err != nil {
			if begun { // the backend waits for the rest; if it gets none, it appends nothing
				o.cutOff(to)
			}
			return err
		}
		line = line[:0]
	}
	if err := o.send(to, []byte("\r\n")); err != nil {
		return err
	}
	status, rest, err := o.tagged(to, tag)
	if err != nil {
		return err
	}
	code, args := wire.Code(rest)
	if status != wire.OK {
		_, text, _ := strings.Cut(string(rest), "] ")
		return &imapclient.Refusal{Verb: "APPEND", Status: status.String(), Code: string(code), Text: strings.TrimRight(text, "\r\n")}
	}
	words := strings.Fields(string(args))
	has := wire.Is(code, "APPENDUID") && len(words) == 2
	copied.all = has && (copied.all || copied.n == 0)
	if has {
		copied.validity = words[0]
		copied.uids = append(copied.uids, words[1])
	}
	copied.n++
	return nil
}

// begin sends a command whose answer streams, as imapclient's don't.
func (o *visit) begin(l *leg, command string) (tag string, err error) {
	o.tags++
	tag = "ap" + strconv.Itoa(o.tags)
	return tag, o.send(l, []byte(tag+" "+command+"\r\n"))
}

// body reads a message from the selected mailbox of a leg: it calls begin with its size and then w with its pieces.
func (o *visit) body(from *leg, p piece, begin func(size int64) error, w func([]byte) error) error {
	tag, err := o.begin(from, fmt.Sprintf("UID FETCH %d (BODY.PEEK[])", p.uid))
	if err != nil {
		return err
	}
	found := false
	var failed error // of begin or w: the answer is read to its end, so that the connection can be used again
	for {
		line, err := o.line(from)
		if err != nil {
			return err
		}
		h := wire.ParseResponseHead(line)
		size, _, literal := wire.LiteralSpec(line)
		switch {
		case h.Kind == wire.Tagged && string(h.Tag) == tag:
			switch {
			case failed != nil:
				return failed
			case found && h.Status == wire.OK:
				return nil
			}
			return &imapclient.Refusal{Verb: "FETCH", Status: "NO", Code: "EXPUNGEISSUED", Text: "A message doesn't exist any more"}
		case h.Kind != wire.Untagged || h.Status == wire.BYE:
			return &lostLeg{from, errUnasked}
		case literal && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")) && !found:
			found = true
			failed = begin(size)
			if err := o.read(from, size, func(b []byte) error {
				if failed == nil {
					failed = w(b)
				}
				return nil
			}); err != nil {
				return &lostLeg{from, err}
			}
			if _, err := o.line(from); err != nil { // the rest of the response
				return err
			}
		case from == o.home:
			o.s.passOn(bytes.Clone(line))
		default:
			if line = o.n.Response(bytes.Clone(line), from.owner); line != nil {
				if err := o.write(line, true); err != nil {
					return err
				}
			}
		}
	}
}

// agreed waits until a backend agrees to a literal.
func (o *visit) agreed(l *leg, tag string) error {
	for {
		line, err := o.line(l)
		if err != nil {
			return err
		}
		switch h := wire.ParseResponseHead(line); {
		case h.Kind == wire.Continue:
			return nil
		case h.Kind == wire.Tagged && string(h.Tag) == tag:
			code, _ := wire.Code(h.Rest)
			return &imapclient.Refusal{Verb: "APPEND", Status: h.Status.String(), Code: string(code), Text: "The server of that mailbox doesn't take the message"}
		}
	}
}

// tagged reads up to the answer to a command of the proxy's own.
func (o *visit) tagged(l *leg, tag string) (wire.Status, []byte, error) {
	for {
		line, err := o.line(l)
		if err != nil {
			return 0, nil, err
		}
		h := wire.ParseResponseHead(line)
		switch {
		case h.Kind == wire.Tagged && string(h.Tag) == tag:
			return h.Status, bytes.Clone(h.Rest), nil
		case h.Kind == wire.Untagged && h.Status == wire.BYE:
			return 0, nil, &lostLeg{l, errSaidBye}
		case l == o.home:
			o.s.passOn(bytes.Clone(line))
		}
	}
}

// cutOff ends a connection in the middle of an APPEND.
func (o *visit) cutOff(l *leg) {
	if l == o.home {
		o.homeCut = true
		return
	}
	o.close(l)
}

// undo expunges copies. Their mailbox is selected on a connection that has none selected.
func (o *visit) undo(to *leg, box string, copied *copies) error {
	if copied.n == 0 || to == nil {
		return nil
	}
	if !copied.all || to == o.home && o.homeCut || to.closed { // the connection is in the middle of an APPEND, or is closed
		return errNotUndone
	}
	set := strings.Join(copied.uids, ",")
	commands := []string{"SELECT " + string(shared.AppendName(nil, box)), "UID STORE " + set + ` +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE " + set}
	if to == o.home { // nothing else is selected there: the messages come from another user's mailbox
		commands = append(commands, "UNSELECT")
	}
	for _, command := range commands {
		if _, err := o.do(to, command, func(imapclient.Untagged) bool { return true }); err != nil {
			return errors.Join(errNotUndone, err)
		}
	}
	o.close(to) // it has a mailbox selected
	return nil
}

var errNotUndone = errors.New("copies that were made before stay")

// failedAcross answers a COPY or MOVE that has failed.
func (o *visit) failedAcross(h wire.CommandHead, from, to *leg, err error) error {
	lost, ok := errors.AsType[*lostLeg](err)
	switch gone := ok && lost.leg == o.home; {
	case ok && lost.leg == o.at:
		return err
	case (o.homeCut || gone) && (o.at == nil || !o.s.out.atBoundary() || !o.s.survives()):
		if !gone {
			err = &lostLeg{o.home, err}
		}
		return err
	case o.homeCut || gone: // nothing is selected there
		o.homeCut = false
		if err := o.reopenHome(); err != nil {
			return err
		}
		if gone {
			return o.lost(h, goneHome)
		}
	}
	if _, ok := errors.AsType[*lostLeg](err); ok {
		o.close(to)
		return o.lost(h, "[UNAVAILABLE] The server of that mailbox can't be reached now")
	}
	if errors.Is(err, errNotUndone) {
		o.s.log().Warn("a copy to another server has failed, and a part of it stays", "error", err)
	}
	return o.told(h, err, "")
}

// remove removes the messages that were moved.
func (o *visit) remove(from *leg, pieces []piece) error {
	for len(pieces) > 0 {
		n := min(len(pieces), 500)
		var set, kept []string // kept: those that weren't marked as deleted before
		for _, p := range pieces[:n] {
			uid := strconv.FormatUint(uint64(p.uid), 10)
			if set = append(set, uid); !strings.Contains(strings.ToLower(p.flags), `\deleted`) {
				kept = append(kept, uid)
			}
		}
		pieces = pieces[n:]
		uids := strings.Join(set, ",")
		if _, err := o.do(from, "UID STORE "+uids+` +FLAGS.SILENT (\Deleted)`, nil); err != nil {
			return err
		}
		if _, err := o.do(from, "UID EXPUNGE "+uids, nil); err != nil {
			if _, refused := errors.AsType[*imapclient.Refusal](err); refused && len(kept) > 0 {
				_, _ = o.do(from, "UID STORE "+strings.Join(kept, ",")+` -FLAGS.SILENT (\Deleted)`, nil) // the first error is what the user is told
			}
			return err
		}
	}
	return nil
}
