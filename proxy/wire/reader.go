package wire

import (
	"bytes"
	"errors"
	"io"
)

// A Reader refuses units with these errors.
var (
	ErrLineTooLong    = errors.New("line too long")
	ErrLiteralTooLong = errors.New("literal too long")
	ErrNUL            = errors.New("NUL byte")
)

// Reader reads whole, bounded units where memory must not depend on what the peer sends: the client's
// commands and the backend's responses before login, and the responses to the proxy's own commands. It may
// read bytes beyond the end of a unit; Buffered returns them for the connection's next reader.
type Reader struct {
	r                   io.Reader
	maxLine, maxLiteral int
	buf                 []byte // unread bytes are buf[pos:]
	pos                 int
	// larger is called with the part of a unit that was read when the unit is larger than the bounds; see
	// Larger.
	larger func(sofar []byte) (factor int)
	strict bool // see Strict
}

// Larger sets a function that is called when a unit would be refused because of its size. It returns the
// factor by which the bounds are multiplied for this unit; 1 refuses the unit.
func (r *Reader) Larger(allowed func(sofar []byte) (factor int)) { r.larger = allowed }

// Strict makes Unit recognise a literal's announcement only where the grammar allows one (RFC 9051 §9): at
// the beginning of an argument. "LOGIN alice abc{5}" announces no literal.
func (r *Reader) Strict() { r.strict = true }

// NewReader returns a Reader that refuses a unit if its lines have more than maxLine bytes in total, if one
// literal has more than maxLiteral bytes, or if its literals have more than twice maxLiteral in total.
func NewReader(r io.Reader, maxLine, maxLiteral int) *Reader {
	return &Reader{r: r, maxLine: maxLine, maxLiteral: maxLiteral}
}

// Buffered removes and returns the bytes that were read beyond the last unit.
func (r *Reader) Buffered() []byte {
	b := r.buf[r.pos:]
	r.buf, r.pos = nil, 0
	return b
}

// Ahead returns the bytes that Buffered would return, without removing them. The slice is valid until the
// next read.
func (r *Reader) Ahead() []byte { return r.buf[r.pos:] }

// HasBuffered says whether bytes were read beyond the last unit.
func (r *Reader) HasBuffered() bool { return r.pos < len(r.buf) }

// fill reads once from r. It returns the error of that read; io.EOF in the middle of a unit becomes
// io.ErrUnexpectedEOF.
func (r *Reader) fill(mid bool) error {
	if r.pos > 0 && r.pos == len(r.buf) {
		r.buf, r.pos = r.buf[:0], 0
	}
	if cap(r.buf)-len(r.buf) < 512 {
		// The buffer doubles, so that a long line (the UIDs of a large mailbox) isn't copied once for each of
		// its kilobytes.
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

// ReadLine returns one line with its line end. If the line has more than max bytes, it returns
// ErrLineTooLong, and the bytes of the line that were read are used up. The slice is valid until the next
// call.
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

// Back puts the line back that ReadLine has just returned: Buffered returns it first, and the next call of ReadLine again.
func (r *Reader) Back(line []byte) { r.pos -= len(line) }

// DiscardLine reads up to the end of a line that was too long, but at most max more bytes.
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

// Copy passes the next n bytes to w in pieces as they arrive.
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

// readFull appends the next n bytes to dst.
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

// Unit reads a whole command or response into a new slice: its lines, each literal's content after its
// announcement, without the last line end. Before it reads a synchronising literal, it calls agree with the
// bytes read so far; if agree returns an error, Unit returns that error and reads no more. agree may be nil.
//
// After ErrLiteralTooLong for a synchronising literal, the connection is at the end of the unit, since the
// literal wasn't agreed to; the bytes read so far are returned with the error, so that the caller can find
// the tag. After all other errors the connection is in the middle of a unit.
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

// unitLine reads one line of a unit; sofar is the part of the unit read before. max is the size that remains
// for the line with factor 1.
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

// ReadLarge is ReadLine for a line that may be longer where Larger's function allows it.
func (r *Reader) ReadLarge(max int) ([]byte, error) {
	factor := 1
	return r.unitLine(nil, max, &factor)
}

// peekLine reads until the buffer has a whole line, which it doesn't use up. It returns ErrLineTooLong if the
// line has more than max bytes.
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

// BeginsArgument says whether the announcement of a literal at the end of line stands where an argument
// begins: at the front of the line, after a space or after a parenthesis; the ~ of a literal8 may come
// between. It is false if there is no announcement.
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

// LiteralError is ErrLiteralTooLong with the announced size.
type LiteralError struct {
	Size int64
	Sync bool // the peer waits for a continuation request and has sent no content
}

func (e *LiteralError) Error() string { return ErrLiteralTooLong.Error() }

// Unwrap returns ErrLiteralTooLong.
func (e *LiteralError) Unwrap() error { return ErrLiteralTooLong }
