package imaptest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

// keepLiteral is the size in bytes up to which a literal's content is kept;
// of larger ones only size and digest are, so that a test may fetch 50 MB.
const keepLiteral = 64 << 10

// maxText bounds the text of one unit, literals not counted.
const maxText = 8 << 20

// A Literal is one literal of a response or command.
type Literal struct {
	Size   int64
	SHA256 string // hex
	Data   []byte // nil when Size is over 64 KiB
	NoSync bool   // {n+}: the sender didn't wait
}

// A Response is one unit of the dialogue: a response of the server or a
// command of the client, with its literals, to its final CRLF.
type Response struct {
	// Text is the unit without its final CRLF; each literal stands in it as
	// its marker, {12}, with neither CRLF nor content.
	Text     string
	Literals []Literal
}

// Tag is the first word: "*", "+" or the command's tag.
func (r Response) Tag() string {
	w, _, _ := strings.Cut(r.Text, " ")
	return w
}

// Word is the n-th word of Text, upper-cased; "" when there's none.
func (r Response) Word(n int) string {
	f := strings.Fields(r.Text)
	if n >= len(f) {
		return ""
	}
	return strings.ToUpper(f[n])
}

// Status is OK, NO, BAD, BYE or PREAUTH, or "" for what isn't a status
// response.
func (r Response) Status() string { return statusOf(r.Text) }

// Code is the response code without its brackets, arguments included:
// "UIDVALIDITY 7"; "" when there's none.
func (r Response) Code() string {
	if r.Status() == "" {
		return ""
	}
	f := strings.SplitN(r.Text, " ", 3)
	if len(f) < 3 || !strings.HasPrefix(f[2], "[") {
		return ""
	}
	end := strings.IndexByte(f[2], ']')
	if end < 0 {
		return ""
	}
	return f[2][1:end]
}

// String is Text with the content of short literals, for messages.
func (r Response) String() string {
	if len(r.Literals) == 0 {
		return r.Text
	}
	return r.eachLiteral(func(l Literal) string {
		if l.Data != nil && l.Size <= 200 {
			return fmt.Sprintf("<%q>", l.Data)
		}
		return fmt.Sprintf("<sha256 %.12s…>", l.SHA256)
	})
}

// digested is Text with each literal's digest behind its marker; what
// patterns and comparisons look at.
func (r Response) digested() string {
	if len(r.Literals) == 0 {
		return r.Text
	}
	return r.eachLiteral(func(l Literal) string { return "<<" + l.SHA256 + ">>" })
}

// eachLiteral puts what f says behind each marker. A marker is found by its
// size, in order: text between two literals may hold a look-alike only before
// the true one of the same size, which changes nothing but a message.
func (r Response) eachLiteral(f func(Literal) string) string {
	var b strings.Builder
	rest := r.Text
	for _, l := range r.Literals {
		mark := "{" + strconv.FormatInt(l.Size, 10) + "}"
		if l.NoSync {
			mark = "{" + strconv.FormatInt(l.Size, 10) + "+}"
		}
		i := strings.Index(rest, mark)
		if i < 0 {
			break
		}
		b.WriteString(rest[:i+len(mark)])
		b.WriteString(f(l))
		rest = rest[i+len(mark):]
	}
	return b.String() + rest
}

func statusOf(text string) string {
	f := strings.SplitN(text, " ", 3)
	if len(f) < 2 || f[0] == "+" {
		return ""
	}
	switch s := strings.ToUpper(f[1]); s {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return s
	}
	return ""
}

// ErrTooLong means that the text of one unit, literals not counted, was over
// 8 MiB.
var ErrTooLong = errors.New("imaptest: unit over 8 MiB")

// A reader splits a stream into units: lines ended by CRLF, joined across the
// literals that they announce (RFC 9051 §4.3).
type reader struct {
	br *bufio.Reader
	// status responses end in human text, in which {5} is no literal
	server bool
	// onSync is called at a synchronising literal of a client, to let it go on
	onSync func(size int64) error
}

func newReader(r io.Reader, server bool) *reader {
	return &reader{br: bufio.NewReaderSize(r, 32<<10), server: server}
}

// next reads one unit. The error is io.EOF only at a unit's boundary, within
// one it is io.ErrUnexpectedEOF with what had come in the Response's Text.
func (r *reader) next() (Response, error) {
	var res Response
	var text []byte
	for {
		line, err := r.line(len(text))
		text = append(text, line...)
		res.Text = string(text)
		if err != nil {
			if errors.Is(err, io.EOF) && len(text) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return res, err
		}
		if r.server && statusOf(res.Text) != "" {
			return res, nil
		}
		size, noSync, ok := literalAtEnd(line)
		if !ok {
			return res, nil
		}
		if !noSync && r.onSync != nil {
			if err := r.onSync(size); err != nil {
				return res, err
			}
		}
		lit, err := r.literal(size)
		lit.NoSync = noSync
		res.Literals = append(res.Literals, lit)
		if err != nil {
			return res, err
		}
	}
}

// line reads to CRLF and returns what's before it. A bare LF ends no line: it stays in the text, where no
// pattern matches it.
func (r *reader) line(have int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.br.ReadSlice('\n')
		line = append(line, part...)
		if have+len(line) > maxText {
			return line, ErrTooLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return line, err
		}
		if n := len(line); n >= 2 && line[n-2] == '\r' {
			return line[:n-2], nil
		}
	}
}

func (r *reader) literal(size int64) (Literal, error) {
	lit := Literal{Size: size}
	var h hash.Hash = sha256.New()
	var w io.Writer = h
	var kept strings.Builder
	if size <= keepLiteral {
		w = io.MultiWriter(h, &kept)
	}
	n, err := io.CopyN(w, r.br, size)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%d of %d bytes of a literal: %w", n, size, io.ErrUnexpectedEOF)
	}
	lit.SHA256 = hex.EncodeToString(h.Sum(nil))
	if size <= keepLiteral {
		lit.Data = []byte(kept.String())
	}
	return lit, err
}

// literalAtEnd says whether the line announces a literal: {n}, {n+}, and the
// binary ~{n} (RFC 3516).
func literalAtEnd(line []byte) (size int64, noSync, ok bool) {
	n := len(line)
	if n < 3 || line[n-1] != '}' {
		return 0, false, false
	}
	open := strings.LastIndexByte(string(line), '{')
	if open < 0 {
		return 0, false, false
	}
	digits := string(line[open+1 : n-1])
	if strings.HasSuffix(digits, "+") {
		noSync, digits = true, digits[:len(digits)-1]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	return size, noSync, err == nil
}
