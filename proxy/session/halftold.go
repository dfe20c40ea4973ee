package session

import (
	"bytes"
	"errors"
	"regexp"
	"sync"

	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// A response that is larger than one chunk may be incomplete at the client when the backend connection is lost.
// A halfTold has what is needed to go on with a FETCH response where it stopped (recover_response.go): the text
// of its lines, how much of its last literal the client has, and the end of that.

const (
	maxHalfText = 16 << 10 // of the lines of a response; a longer one can't be continued
	maxHalfTail = 4 << 10  // of a literal's content
)

// halfTold is the part of a FETCH response that the client was told.
type halfTold struct {
	lines  []byte // without the contents of literals
	size   int64  // of the last literal
	told   int64  // of its content
	tail   []byte // of its content, the bytes that end at tailAt
	tailAt int64
	inside bool // the client has lines up to the literal's announcement, and not all of the content
	has    bool // a literal was announced
	lost   bool // it can't be continued
}

// cutFetch is a FETCH of message content of which the client was told a part.
type cutFetch struct {
	half *halfTold // of the response that isn't complete; nil: the connection was lost between two responses
	rest *track.Rest
	// answers are those to the other commands of the time of the loss, which the client is told once the response is
	// complete; the zero value if half is nil.
	answers track.Cut
}

// halves lends halfTolds to the sessions that need one at the moment.
type halves struct{ pool sync.Pool }

func (h *halves) get() *halfTold {
	if t, ok := h.pool.Get().(*halfTold); ok {
		return t
	}
	return &halfTold{lines: make([]byte, 0, 512), tail: make([]byte, 0, maxHalfTail)}
}

func (h *halves) put(t *halfTold) {
	if cap(t.lines) > 2*maxHalfText {
		return
	}
	*t = halfTold{lines: t.lines[:0], tail: t.tail[:0]}
	h.pool.Put(t)
}

// piece follows a piece of the response.
func (t *halfTold) piece(b []byte, p wire.Piece) {
	switch {
	case p.InLiteral:
		t.content(b)
	case len(t.lines)+len(b) > maxHalfText:
		t.lost = true
	default:
		t.lines = append(t.lines, b...)
	}
	if p.Announced {
		t.size, t.told, t.tail, t.tailAt, t.inside, t.has = p.Size, 0, t.tail[:0], 0, p.Size > 0, true
	}
}

// hasContent says whether the client was told content of the message, or may have been.
func (t *halfTold) hasContent() bool { return t.has || t.lost || track.HasContent(t.lines) }

// names returns how the response names its message: its number, or its UID if uid is set (RFC 9586 §3.3).
func (t *halfTold) names() (number uint32, uid bool) {
	h := wire.ParseResponseHead(t.lines)
	return h.Number, wire.Is(h.Name, "UIDFETCH")
}

// begins says whether line is the first line of the response that the client has a part of. uid is the message's.
// A line of which the client has a part may have been about flags that another client has set, as may line: it has to
// name the message by its UID and to have content.
func (t *halfTold) begins(line []byte, uid uint32) bool {
	first := wire.FirstLine(t.lines)
	named := track.UIDOf(line)
	if bytes.HasSuffix(first, []byte("\n")) {
		return (named == 0 || named == uid) && bytes.Equal(volatile(line), volatile(first))
	}
	_, _, announces := wire.LiteralSpec(line)
	return named == uid && (announces || track.HasContent(line)) && bytes.HasPrefix(line, first)
}

// content follows a part of the literal's content.
func (t *halfTold) content(b []byte) {
	if t.tailAt == t.told { // otherwise a part in between wasn't seen
		if over := len(t.tail) + min(len(b), maxHalfTail) - maxHalfTail; over > 0 {
			t.tail = t.tail[:copy(t.tail, t.tail[over:])]
		}
		t.tail = append(t.tail, b[max(0, len(b)-maxHalfTail):]...)
		t.tailAt += int64(len(b))
	}
	t.passed(int64(len(b)))
}

// passed follows n bytes of the literal's content that weren't seen.
func (t *halfTold) passed(n int64) {
	t.told += n
	t.inside = t.told < t.size
}

// all follows the beginning of a response.
func (t *halfTold) all(b []byte) {
	scan := wire.Scanner{Direction: wire.Responses}
	for len(b) > 0 {
		p := scan.Next(b)
		if p.N == 0 {
			t.lost = true
			return
		}
		t.piece(b[:p.N], p)
		b = b[p.N:]
	}
}

// errOther says that a response isn't the one that the client has the beginning of.
var errOther = errors.New("the response isn't the same")

// volatile removes what may have changed since: the message's number, its flags and its mod-sequence. Its UID
// is removed since servers may add it.
func volatile(line []byte) []byte {
	_, items, ok := bytes.Cut(line, []byte("("))
	if i := bytes.IndexByte(line, ' '); ok && i == 1 && line[0] == '*' {
		line = items
	}
	return regexp.MustCompile(`(?i)(\b(UID \d+|FLAGS \([^)]*\)|MODSEQ \(\d+\)) ?)`).ReplaceAll(line, nil)
}
