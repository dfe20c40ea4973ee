package upstream

import (
	"bytes"
	"fmt"
	"strconv"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// dialogue is a backend connection while this room talks on it: commands out,
// answers matched by tag. It is bounded in everything but time, for which its
// owner closes the socket.
type dialogue struct {
	c      *conn.Conn
	r      *wire.Reader
	out    []byte // commands to go out with the next flush
	tags   int    // how many were given out
	budget int    // octets of responses still allowed

	// beside is the tag of a command whose answer nobody waits for by itself:
	// ID, sent together with the login. Empty when none is due.
	beside string

	// caps is what the last CAPABILITY response or code said; nil after a
	// change of state that voids it (TLS, login).
	caps wire.Caps

	// keep says that untagged responses are the client's to see: from the
	// login on. They are put in untagged, whole lines without CRLF.
	keep     bool
	untagged [][]byte

	// want names an untagged response that a command of ours asks for: the
	// last of them lands in got instead.
	want string
	got  []byte

	alerts  []string           // texts of ALERTs since the login was sent
	secrets []telemetry.Secret // what no text may contain

	patience *patience // nil: the dialogue waits as long as its owner does
}

func newDialogue(c *conn.Conn) *dialogue {
	return &dialogue{c: c, r: wire.NewReader(c, maxLine, maxLiteral), budget: maxTotal}
}

// command appends a tagged command to what goes out next and gives its tag.
func (d *dialogue) command(text string) string {
	d.tags++
	tag := "p" + strconv.Itoa(d.tags)
	d.out = append(d.out, tag...)
	d.out = append(d.out, ' ')
	d.out = append(d.out, text...)
	return tag
}

// flush sends everything in one write. What was sent is overwritten: it may
// have held a password.
func (d *dialogue) flush() error {
	_, err := d.c.Write(d.out)
	clear(d.out)
	d.out = d.out[:0]
	return err
}

// next reads one response. BYE ends the dialogue wherever it comes.
func (d *dialogue) next() (wire.Response, error) {
	// Cyrus has Nagle's algorithm on: without this the second segment of an
	// answer waits for our delayed acknowledgement, 44 ms.
	if !d.r.HasBuffered() {
		d.c.QuickAck()
	}
	resp, err := d.r.ReadResponse()
	if err != nil {
		return wire.Response{}, err
	}
	d.patience.heard(false)
	if d.budget -= len(resp.Line) + 2; d.budget < 0 {
		return wire.Response{}, fmt.Errorf("%w: more than %d octets before the login was done", ErrProtocol, maxTotal)
	}
	switch {
	case resp.Tag == "":
		return wire.Response{}, fmt.Errorf("%w: a line that is no response", ErrProtocol)
	case resp.Tag == "*" && resp.Status == "BYE":
		return wire.Response{}, &answerError{answer: d.plain(resp), err: errBye}
	}
	return resp, nil
}

// answer reads until the tagged response of the command, dealing with all that
// comes before. With plus, a continuation request is returned as well; without
// it is an error, as is an answer that nobody asked for.
func (d *dialogue) answer(tag string, plus bool) (wire.Response, error) {
	for {
		resp, err := d.next()
		if err != nil {
			return resp, err
		}
		switch resp.Tag {
		case tag:
			return resp, nil
		case "*":
			d.take(resp)
		case "+":
			if !plus {
				return resp, fmt.Errorf("%w: a continuation request where none is due", ErrProtocol)
			}
			return resp, nil
		case d.beside:
			d.beside = "" // whatever it says: ID is a courtesy
		default:
			return resp, d.stray(resp)
		}
	}
}

// stray is the error of an answer that nothing has asked for.
func (d *dialogue) stray(resp wire.Response) error {
	return fmt.Errorf("%w: an answer to a command that wasn't sent (tag %.32q, the last is p%d)", ErrProtocol, cleanText(resp.Tag, d.secrets...), d.tags)
}

// take deals with an untagged response.
func (d *dialogue) take(resp wire.Response) {
	if caps, ok := capsIn(resp); ok {
		// Before ID has been answered it may still speak of the state before
		// the login.
		if d.beside == "" {
			d.caps = caps
		}
		return
	}
	if d.want != "" && resp.Name == d.want {
		d.got = bytes.Clone(resp.Line)
		return
	}
	if !d.keep || resp.Code == "REFERRAL" || resp.Name == "ID" {
		return
	}
	if resp.Code == "ALERT" {
		d.alerts = append(d.alerts, cleanText(resp.Text, d.secrets...))
	}
	d.untagged = append(d.untagged, bytes.Clone(resp.Line))
}

// capsIn gives the capabilities that a response carries, in its code or as an
// untagged CAPABILITY.
func capsIn(resp wire.Response) (wire.Caps, bool) {
	switch {
	case resp.Code == "CAPABILITY":
		return wire.ParseCaps([]byte(resp.CodeArgs)), true
	case resp.Tag == "*" && resp.Name == "CAPABILITY":
		return wire.ParseCaps([]byte(resp.Text)), true
	}
	return nil, false
}

// askCaps gives the capabilities, asking for them when they aren't known.
// RFC 9051 §6.1.1.
func (d *dialogue) askCaps() error {
	if d.caps != nil {
		return nil
	}
	tag := d.command("CAPABILITY\r\n")
	if err := d.flush(); err != nil {
		return err
	}
	resp, err := d.answer(tag, false)
	if err != nil {
		return err
	}
	if resp.Status != "OK" {
		return &answerError{answer: d.plain(resp), err: fmt.Errorf("%w: CAPABILITY isn't answered with OK", ErrProtocol)}
	}
	if d.caps == nil {
		return fmt.Errorf("%w: no CAPABILITY response", ErrProtocol)
	}
	return nil
}

// plain is the response's code and text, fit for errors. It outlives the
// reader's buffer.
func (d *dialogue) plain(resp wire.Response) answer {
	if resp.Code == "CAPABILITY" {
		resp.Code = "" // no reason for anything
	}
	a := answer{code: cleanText(resp.Code, d.secrets...), text: cleanText(resp.Text, d.secrets...), alerts: d.alerts}
	if args := cleanText(resp.CodeArgs, d.secrets...); args == resp.CodeArgs && resp.Code != "" {
		a.args = cleanArgs(args)
	}
	return a
}

// answer is what the backend said in words.
type answer struct {
	code, args, text string
	alerts           []string // that came before it
}

// answerError is an error that consists of what the backend said.
type answerError struct {
	answer
	err error
}

func (e *answerError) Error() string { return e.err.Error() + ": " + bracketed(e.code, e.text) }
func (e *answerError) Unwrap() error { return e.err }
