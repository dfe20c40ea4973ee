package wire

import "bytes"

// Direction is the direction of the bytes that a Scanner reads.
type Direction uint8

const (
	// Commands flow from the client to the server.
	Commands Direction = iota
	// Responses flow from the server to the client.
	Responses
)

// MaxHead is the largest number of bytes at the start of a unit that Next needs in one slice: a tag and a
// verb, or a status and the beginning of its code.
const MaxHead = 192

// maxSpec is the longest literal announcement, `~{18446744073709551615+}` CR LF.
const maxSpec = 26

// Piece describes the bytes that Next found at the front of its argument.
type Piece struct {
	// N is the number of bytes that belong to the piece. 0: a unit begins here, and its head is incomplete;
	// the caller keeps the bytes and calls Next again when it has more.
	N int
	// First is set on the first piece of a unit (a command or a response). That piece contains the unit's
	// whole head, or MaxHead bytes of it.
	First bool
	// Last is set on the piece that ends the unit.
	Last bool
	// InLiteral: the bytes are the content of a literal.
	InLiteral bool
	// Announced: the piece ends with the announcement of a literal of Size bytes. Sync: the content is sent
	// only after the server's continuation request ("+").
	Announced, Sync bool
	Size            int64
}

// Scanner splits one direction of an IMAP connection into its units, in whatever pieces the
// bytes arrive. It stores only its position. The zero value reads Commands.
//
// A line ends with LF; the CR before it is optional, as for most servers.
type Scanner struct {
	Direction Direction

	literal int64 // bytes of a literal's content that haven't arrived
	inside  bool  // a unit has begun and not ended
	text    bool  // the line is human-readable text, which announces no literal
	tail    [maxSpec]byte
	ntail   int
}

// AtStart says whether the next byte begins a unit.
func (s *Scanner) AtStart() bool { return !s.inside }

// LiteralLeft returns how many bytes of the current literal haven't arrived.
func (s *Scanner) LiteralLeft() int64 { return s.literal }

// Skip tells the scanner that n bytes of the current literal were passed on without Next.
func (s *Scanner) Skip(n int64) { s.literal -= n }

// Abandon ends the current unit: the server refused an announced literal, so the next bytes are a new command
// (RFC 9051 §4.3).
func (s *Scanner) Abandon() { *s = Scanner{Direction: s.Direction} }

// Next describes the piece at the front of b, which must not be empty.
func (s *Scanner) Next(b []byte) Piece {
	if s.literal > 0 {
		n := int64(len(b))
		if n > s.literal {
			n = s.literal
		}
		s.literal -= n
		return Piece{N: int(n), InLiteral: true}
	}
	eol := bytes.IndexByte(b, '\n')
	first := !s.inside
	if first {
		if eol < 0 && len(b) < MaxHead {
			return Piece{}
		}
		s.inside = true
		// Only the head decides, so that the result doesn't depend on how much of the line arrived at once.
		s.text = s.Direction == Responses && isText(b[:min(len(b), MaxHead)])
	}
	if eol < 0 {
		s.remember(b)
		return Piece{N: len(b), First: first}
	}
	p := Piece{N: eol + 1, First: first}
	if !s.text {
		p.Size, p.Sync, p.Announced = s.spec(b[:eol+1])
	}
	s.ntail = 0
	if p.Announced {
		s.literal = p.Size
		return p
	}
	p.Last = true
	s.inside = false
	return p
}

// UnitLen returns the length of the command at the front of b with its literals, as if the server accepted
// each of them. whole is false if b doesn't contain the whole command.
func UnitLen(b []byte) (n int, whole bool) {
	for n < len(b) {
		eol := bytes.IndexByte(b[n:], '\n')
		if eol < 0 {
			return len(b), false
		}
		line := b[n : n+eol+1]
		n += len(line)
		size, _, more := LiteralSpec(line)
		if !more {
			return n, true
		}
		if size > int64(len(b)-n) {
			return len(b), false
		}
		n += int(size)
	}
	return n, false
}

// spec finds a literal's announcement at the end of a line. Earlier pieces may contain the beginning of the
// line.
func (s *Scanner) spec(line []byte) (size int64, sync, ok bool) {
	if s.ntail > 0 && len(line) < maxSpec {
		s.remember(line)
		line = s.tail[:s.ntail]
	}
	return LiteralSpec(line)
}

// remember keeps the last bytes of an incomplete line.
func (s *Scanner) remember(b []byte) {
	if len(b) >= maxSpec {
		s.ntail = copy(s.tail[:], b[len(b)-maxSpec:])
		return
	}
	if over := s.ntail + len(b) - maxSpec; over > 0 {
		copy(s.tail[:], s.tail[over:s.ntail])
		s.ntail -= over
	}
	s.ntail += copy(s.tail[s.ntail:], b)
}

// LiteralSpec reads the announcement of a literal at the end of a line: {n}, {n+} or, for literal8, ~{n} (RFC
// 9051 §4.3, RFC 7888, RFC 3516). An announcement of more than 2^63-1 bytes doesn't count as one.
func LiteralSpec(line []byte) (size int64, sync, ok bool) {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
	}
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	if n < 3 || line[n-1] != '}' {
		return 0, false, false
	}
	n--
	sync = true
	if line[n-1] == '+' {
		sync = false
		n--
	}
	end := n
	for n > 0 && line[n-1] >= '0' && line[n-1] <= '9' {
		n--
	}
	if n == end || end-n > 19 || n == 0 || line[n-1] != '{' {
		return 0, false, false
	}
	for _, d := range line[n:end] {
		size = size*10 + int64(d-'0')
	}
	return size, sync, size >= 0
}

// isText says whether a response ends in resp-text, human-readable text that may end in any bytes. Status
// responses and continuation requests do.
func isText(b []byte) bool {
	if b[0] == '+' {
		return true
	}
	sp := bytes.IndexByte(b, ' ')
	if sp < 0 {
		return true
	}
	return StatusOf(b[sp+1:]) != NoStatus
}
