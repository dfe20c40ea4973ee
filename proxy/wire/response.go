package wire

import "bytes"

// Response is one whole response, as read before login.
type Response struct {
	Tag      string // "*", "+", or the tag
	Status   string // OK, NO, BAD, BYE, PREAUTH; "" where there is none
	Code     string // in upper case: CAPABILITY, AUTHENTICATIONFAILED …; "" where there is none
	CodeArgs string // what stands behind the code within its brackets
	Text     string // the text for people, or what follows an untagged response's name
	Name     string // of a response without status, in upper case: CAPABILITY, ID …
	Line     []byte // all of it, literals inline, without the last line end
}

// ReadResponse reads one response. Its errors are Unit's.
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

// responseUnit reads on into literals only where a response can have them.
func (r *Reader) responseUnit() ([]byte, error) {
	for bytes.IndexByte(r.buf[r.pos:], '\n') < 0 && len(r.buf)-r.pos < MaxHead {
		if err := r.fill(true); err != nil {
			return nil, err
		}
	}
	return r.Unit(nil, !isText(r.buf[r.pos:]))
}

// ParseResponse takes a whole response apart.
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
