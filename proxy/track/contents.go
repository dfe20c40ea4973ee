package track

import (
	"bytes"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// maxContents bounds the messages that a Contents remembers.
const maxContents = 4096

// Contents are the numbers of the messages of which the client was told content, for the FETCH in progress. The
// zero value is ready. Only the goroutine that reads the backend uses it.
type Contents struct {
	told  []toldContent
	since uint32 // how many FETCH responses the client had been told when told was empty
	uids  bool   // the messages are named by UID (RFC 9586 §3.3)
}

type toldContent struct{ response, number uint32 }

// Add records that the client was told content of a message, by the last of the FETCH responses that are counted
// in told. uid says that number is a UID, from a UIDFETCH response.
func (c *Contents) Add(told Told, number uint32, uid bool) {
	if uid != c.uids {
		c.Forget(told - toldFetch)
		c.uids = uid
	}
	if len(c.told) == maxContents {
		c.Forget(told)
		return
	}
	c.told = append(c.told, toldContent{told.fetches(), number})
}

// Forget empties c: a command is over, or the messages' numbers have changed.
func (c *Contents) Forget(told Told) {
	if c.since = told.fetches(); cap(c.told) > 64 {
		c.told = nil
	}
	c.told = c.told[:0]
}

// Any says whether there is something to forget.
func (c *Contents) Any() bool { return len(c.told) > 0 }

// from returns the messages of which the client was told content since a command that began at told. known is
// false if they aren't all known.
func (c *Contents) from(told Told) (numbers []uint32, known bool) {
	if c == nil || told.fetches() < c.since {
		return nil, false
	}
	for _, t := range c.told {
		if t.response > told.fetches() {
			numbers = append(numbers, t.number)
		}
	}
	return numbers, true
}

// HasContent says whether a line of a FETCH response, without the contents of literals, has a message's content
// in it: BODY[, BINARY[, RFC822, RFC822.TEXT or RFC822.HEADER. Servers write these names in upper case.
func HasContent(line []byte) bool {
	if bytes.IndexByte(line, '[') >= 0 && (bytes.Contains(line, []byte("BODY[")) || bytes.Contains(line, []byte("BINARY["))) {
		return true
	}
	if !bytes.Contains(line, []byte("RFC822")) {
		return false
	}
	return bytes.Count(line, []byte("RFC822")) > bytes.Count(line, []byte("RFC822.SIZE"))
}

// Rest is a FETCH of message content of which the client was told a part.
type Rest struct {
	Tag  string
	Text []byte
	Told []uint32 // the numbers of the messages that it was told
	UIDs bool     // Told are UIDs

	mixed bool // not all of Told are what UIDs says
}

// Tells records that the client was told a message, by number or by UID (RFC 9586 §3.3).
func (r *Rest) Tells(number uint32, uid bool) {
	if len(r.Told) == 0 {
		r.UIDs = uid
	}
	r.mixed = r.mixed || r.UIDs != uid
	r.Told = append(r.Told, number)
}

// Command returns the FETCH for the messages that the client wasn't told, nil if there are none. known are the
// messages that the client counts. ok is false if the command's set can't be read, or if it isn't known which
// messages those are.
func (r *Rest) Command(known view.UIDs) (cmd []byte, ok bool) {
	h := wire.ParseCommandHead(wire.FirstLine(r.Text))
	uid := h.Verb.Rule().UID
	last := known.Count()
	if uid {
		last = known.Last()
	}
	switch {
	case r.mixed:
		return nil, false
	case known.Empty():
		return nil, true
	}
	cmd = ExpandStar(r.Text, last)
	args := wire.ParseCommandHead(wire.FirstLine(cmd)).Args
	word, _, ok := bytes.Cut(args, []byte(" "))
	if !ok {
		return nil, false
	}
	set, err := view.ParseUIDs(word)
	if err != nil {
		return nil, false
	}
	told := view.UIDs{}
	for _, n := range r.Told {
		if uid && !r.UIDs {
			if n, ok = known.At(n); !ok {
				return nil, false
			}
		}
		told = told.Union(view.UIDsOf(n))
	}
	if set = set.Without(told); uid { // many UIDs one by one may be more than a server reads
		set = set.Intersect(known).Bridge(known)
	}
	if set.Empty() {
		return nil, true
	}
	at := bytes.Index(cmd, args)
	out := append([]byte(nil), cmd[:at]...)
	out = set.AppendTo(out)
	return append(out, cmd[at+len(word):]...), true
}

// Of returns the command for one message, by UID and with another tag.
func (r *Rest) Of(tag string, uid uint32) []byte {
	h := wire.ParseCommandHead(wire.FirstLine(r.Text))
	_, items, _ := bytes.Cut(h.Args, []byte(" "))
	out := append([]byte(tag), " UID FETCH "...)
	out = view.UIDsOf(uid).AppendTo(out)
	out = append(append(out, ' '), items...)
	return append(out, "\r\n"...)
}
