package wire

import (
	"bytes"
	"errors"
	"io"
)

// What a Reader refuses.
var (
	ErrLineTooLong    = errors.New("line too long")
	ErrLiteralTooLong = errors.New("literal too long")
	ErrNUL            = errors.New("NUL byte")
)

// Reader reads whole, bounded units: the client's commands and the backend's
// responses before login, when memory must not depend on what is sent. Bytes that it has read
// beyond a unit are kept; Buffered returns them for the connection's next reader.
type Reader struct {
	r                   io.Reader
	maxLine, maxLiteral int
	buf                 []byte // unread bytes are buf[pos:]
	pos                 int
	// larger is asked, with what there is of a unit, when it is larger than the bounds; see
	// Larger.
	larger func(sofar []byte) (factor int)
	strict bool // see Strict
}

// Larger sets a function that is called when a unit would be refused for its size. It returns the
// factor by which the bounds are multiplied for this one unit; 1 refuses it.
func (r *Reader) Larger(allowed func(sofar []byte) (factor int)) { r.larger = allowed }

// Strict makes Unit take for a literal's announcement only what can be one by the
// grammar (RFC 9051 §9): it begins an argument. "LOGIN alice abc{5}" announces none.
func (r *Reader) Strict() { r.strict = true }

// NewReader makes a Reader that refuses units whose lines have together more
// than maxLine bytes, or whose literals have together more than twice
// maxLiteral or one more than maxLiteral.
func NewReader(r io.Reader, maxLine, maxLiteral int) *Reader {
	return &Reader{r: r, maxLine: maxLine, maxLiteral: maxLiteral}
}

// Buffered returns the bytes that were read beyond the last unit, and forgets them.
func (r *Reader) Buffered() []byte {
	b := r.buf[r.pos:]
	r.buf, r.pos = nil, 0
	return b
}

// Ahead returns what Buffered would return, lent until the next read, and keeps it.
func (r *Reader) Ahead() []byte { return r.buf[r.pos:] }

// HasBuffered says whether bytes were read beyond the last unit.
func (r *Reader) HasBuffered() bool { return r.pos < len(r.buf) }

// fill reads once. It fails with the reader's error, io.ErrUnexpectedEOF in the
// middle of a unit.
func (r *Reader) fill(mid bool) error {
	if r.pos > 0 && r.pos == len(r.buf) {
		r.buf, r.pos = r.buf[:0], 0
	}
	if cap(r.buf)-len(r.buf) < 512 {
		// Doubled, so that a long line (the UIDs of a large mailbox) isn't copied for
		// each of its kilobytes.
		unread := len(r.buf) - r.pos
		grown := make([]byte, unread, 2*unread+1024)
		copy(grown, r.buf[r.pos:])
		r.buf, r.pos = grown, 0
	}
	n, err := r.r.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	if n > 0 {
		return nil
	}
	if err == io.EOF && (mid || r.HasBuffered()) {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// ReadLine returns one line with its line end, at most max bytes of it
// (ErrLineTooLong: then all of the line up to there has been used up). The slice
// is valid until the next call.
func (r *Reader) ReadLine(max int) ([]byte, error) {
	for from := r.pos; ; {
		if i := bytes.IndexByte(r.buf[from:], '\n'); i >= 0 {
			line := r.buf[r.pos : from+i+1]
			r.pos += len(line)
			if len(line) > max {
				return nil, ErrLineTooLong
			}
			if bytes.IndexByte(line, 0) >= 0 {
				return nil, ErrNUL
			}
			return line, nil
		}
		if len(r.buf)-r.pos > max {
			r.pos = len(r.buf)
			return nil, ErrLineTooLong
		}
		seen := len(r.buf) - r.pos
		if err := r.fill(seen > 0); err != nil {
			return nil, err
		}
		from = r.pos + seen
	}
}

// DiscardLine reads on to the end of a line that was too long, at most max
// bytes more.
func (r *Reader) DiscardLine(max int) error {
	for max > 0 {
		b := r.buf[r.pos:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			r.pos += i + 1
			return nil
		}
		max -= len(b)
		r.pos = len(r.buf)
		if err := r.fill(true); err != nil {
			return err
		}
	}
	return ErrLineTooLong
}

// Copy hands n bytes on to w as they come.
func (r *Reader) Copy(w func([]byte) error, n int64) error {
	for n > 0 {
		if !r.HasBuffered() {
			if err := r.fill(true); err != nil {
				return err
			}
		}
		take := min(n, int64(len(r.buf)-r.pos))
		if err := w(r.buf[r.pos : r.pos+int(take)]); err != nil {
			return err
		}
		r.pos += int(take)
		n -= take
	}
	return nil
}

// readFull appends n bytes to dst.
func (r *Reader) readFull(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if !r.HasBuffered() {
			if err := r.fill(true); err != nil {
				return dst, err
			}
		}
		take := min(n, len(r.buf)-r.pos)
		dst = append(dst, r.buf[r.pos:r.pos+take]...)
		r.pos += take
		n -= take
	}
	return dst, nil
}

// Unit reads a whole command or response into a slice of its own: its lines, the
// literals inline behind their announcements, without the last line end. agree
// is called, with what has been read, before a synchronising literal is read; its error
// is returned, and nothing more is read then. It may be nil.
//
// After ErrLiteralTooLong from a synchronising literal the connection is at the end of the unit,
// since nothing was agreed to; the bytes read so far are returned with the error
// so that the caller can name the tag. After the other errors it is in the middle of one.
func (r *Reader) Unit(agree func(sofar []byte) error, literals bool) ([]byte, error) {
	var unit []byte
	lines, lits, factor := 0, 0, 1
	for {
		line, err := r.unitLine(unit, r.maxLine-lines, &factor)
		if err != nil {
			return unit, err
		}
		lines += len(line)
		unit = append(unit, line...)
		size, sync, ok := LiteralSpec(line)
		if !ok || !literals || r.strict && !BeginsArgument(line) {
			return trimEOL(unit), nil
		}
		if factor == 1 && r.larger != nil && lits+int(min(size, 1<<30)) > 2*r.maxLiteral {
			factor = r.larger(unit)
		}
		if size > int64(r.maxLiteral) || lits+int(size) > 2*r.maxLiteral*factor {
			return unit, &LiteralError{Size: size, Sync: sync}
		}
		lits += int(size)
		if sync && agree != nil {
			if err := agree(unit); err != nil {
				return unit, err
			}
		}
		at := len(unit)
		if unit, err = r.readFull(unit, int(size)); err != nil {
			return unit, err
		}
		if bytes.IndexByte(unit[at:], 0) >= 0 {
			return unit, ErrNUL
		}
	}
}

// unitLine reads a line of a unit of which sofar was read. max is what factor 1 leaves
// for it.
func (r *Reader) unitLine(sofar []byte, max int, factor *int) ([]byte, error) {
	if *factor == 1 && r.larger != nil {
		if err := r.peekLine(max); err == ErrLineTooLong {
			*factor = r.larger(append(sofar[:len(sofar):len(sofar)], r.buf[r.pos:]...))
		} else if err != nil {
			return nil, err
		}
	}
	return r.ReadLine(max + (*factor-1)*r.maxLine)
}

// peekLine reads until a whole line is there, and uses nothing up. ErrLineTooLong: there are
// more than max bytes of it.
func (r *Reader) peekLine(max int) error {
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[r.pos+seen:], '\n'); i >= 0 {
			if seen+i+1 > max {
				return ErrLineTooLong
			}
			return nil
		}
		if seen = len(r.buf) - r.pos; seen > max {
			return ErrLineTooLong
		}
		if err := r.fill(seen > 0); err != nil {
			return err
		}
	}
}

// BeginsArgument says whether the announcement of a literal at the end of line stands where an
// argument begins: at its front, behind a space or a parenthesis, or the ~ of a
// literal8 there. Without an announcement it is false.
func BeginsArgument(line []byte) bool {
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return false
	}
	if i > 0 && line[i-1] == '~' {
		i--
	}
	return i == 0 || line[i-1] == ' ' || line[i-1] == '('
}

// LiteralError is ErrLiteralTooLong with what was announced.
type LiteralError struct {
	Size int64
	Sync bool // the peer waits for our word, and has sent nothing of it
}

func (e *LiteralError) Error() string { return ErrLiteralTooLong.Error() }

// Unwrap makes it ErrLiteralTooLong.
func (e *LiteralError) Unwrap() error { return ErrLiteralTooLong }
