package wire

import "bytes"

// Response is one whole response, as Reader.ReadResponse returns it.
type Response struct {
	Tag      string // "*", "+", or the tag
	Status   string // OK, NO, BAD, BYE, PREAUTH; "" if it has none
	Code     string // in upper case: CAPABILITY, AUTHENTICATIONFAILED …; "" if it has none
	CodeArgs string // the code's arguments, up to the closing bracket
	Text     string // the human-readable text, or the bytes after an untagged response's name
	Name     string // in upper case, of an untagged response without status: CAPABILITY, ID …
	Line     []byte // the whole response with its literals, without the last line end
}

// ReadResponse reads one response. It returns the errors of Unit.
func (r *Reader) ReadResponse() (Response, error) {
	for !r.HasBuffered() {
		if err := r.fill(false); err != nil {
			return Response{}, err
		}
	}
	line, err := r.responseUnit()
	if err != nil {
		return Response{}, err
	}
	return ParseResponse(line), nil
}

// responseUnit reads one response; it expects no literals in a response that ends in human-readable text.
func (r *Reader) responseUnit() ([]byte, error) {
	for bytes.IndexByte(r.buf[r.pos:], '\n') < 0 && len(r.buf)-r.pos < MaxHead {
		if err := r.fill(true); err != nil {
			return nil, err
		}
	}
	return r.Unit(nil, !isText(r.buf[r.pos:]))
}

// ParseResponse parses a whole response.
func ParseResponse(line []byte) Response {
	h := ParseResponseHead(line)
	out := Response{Line: line, Text: string(h.Rest)}
	switch h.Kind {
	case Continue:
		out.Tag = "+"
		return out
	case Untagged:
		out.Tag = "*"
		out.Name = string(bytes.ToUpper(h.Name))
	case Tagged:
		out.Tag = string(h.Tag)
	}
	out.Status = h.Status.String()
	if h.Status == NoStatus {
		return out
	}
	if code, args := Code(h.Rest); code != nil {
		out.Code, out.CodeArgs = string(bytes.ToUpper(code)), string(args)
		if end := bytes.IndexByte(h.Rest, ']'); end >= 0 {
			out.Text = string(bytes.TrimLeft(h.Rest[end+1:], " "))
		}
	}
	return out
}
