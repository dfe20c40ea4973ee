package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// loginClient is the IMAP client of a connection that isn't logged in yet. All that the backend
// may say is bounded but for its time, which its owner bounds.
type loginClient struct {
	*imapclient.Client
	conn *conn.Conn
	loginOptions

	// caps is what the last CAPABILITY response or code said; nil after a
	// change of state that voids it (TLS, login).
	caps wire.Caps

	// keep says that untagged responses are the client's to see: from the
	// login on. They are put in untagged, whole lines without CRLF.
	keep     bool
	untagged [][]byte

	// want names an untagged response that a command asks for: the
	// last of them lands in got instead.
	want string
	got  []byte

	alerts  []string           // texts of ALERTs since the login was sent
	secrets []telemetry.Secret // what no text may contain
}

// loginOptions are what a login needs, and a connection that is logged in doesn't.
type loginOptions struct {
	target   Target
	client   Client // the client, as the backend is told of it
	tls      *tlsConfigs
	now      func() time.Time
	patience *patience // nil: silence of the backend's has no consequence
}

func newLoginClient(c *conn.Conn, o loginOptions) *loginClient {
	return &loginClient{conn: c, loginOptions: o, Client: imapclient.New(c, imapclient.Options{
		TagPrefix: "p", MaxLine: maxLine, MaxLiteral: maxLiteral, MaxTotal: maxTotal,
		Heard: func() { o.patience.heard(false) },
	})}
}

// answer reads until the tagged response to the command, or, with plus, a continuation request.
// Untagged responses are dealt with.
func (l *loginClient) answer(tag string, plus bool) (wire.Response, error) {
	resp, err := l.Answer(tag, plus, l.onUntagged)
	return resp, l.cleaned(err)
}

// cleaned makes an error fit to be logged: what the backend said stands in it as an answerError
// has it.
func (l *loginClient) cleaned(err error) error {
	if bye, ok := errors.AsType[*imapclient.Bye](err); ok {
		return &answerError{answer: l.plain(bye.Response), err: errBye}
	}
	if stray, ok := errors.AsType[*imapclient.StrayError](err); ok {
		stray.Tag = cleanText(stray.Tag, l.secrets...)
	}
	return err
}

// onUntagged deals with an untagged response.
func (l *loginClient) onUntagged(u imapclient.Untagged) bool {
	l.heard(u.Response)
	return true
}

func (l *loginClient) heard(resp wire.Response) {
	if caps, ok := capsIn(resp); ok {
		// Before ID has been answered it may still speak of the state before
		// the login.
		if !l.IgnoresAnswer() {
			l.caps = caps
		}
		return
	}
	if l.want != "" && resp.Name == l.want {
		l.got = bytes.Clone(resp.Line)
		return
	}
	if !l.keep || resp.Code == "REFERRAL" || resp.Name == "ID" {
		return
	}
	if resp.Code == "ALERT" {
		l.alerts = append(l.alerts, cleanText(resp.Text, l.secrets...))
	}
	l.untagged = append(l.untagged, bytes.Clone(resp.Line))
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

// command sends a command, which includes its CRLF, and reads its answer.
func (l *loginClient) command(text string) (wire.Response, error) {
	tag := l.Queue(text)
	if err := l.Flush(); err != nil {
		return wire.Response{}, err
	}
	return l.answer(tag, false)
}

// logout sends LOGOUT as a courtesy. The answer isn't waited for.
func (l *loginClient) logout() {
	l.Queue("LOGOUT\r\n")
	_ = l.Flush()
}

// askCaps gives the capabilities, asking for them when they aren't known.
// RFC 9051 §6.1.1.
func (l *loginClient) askCaps() error {
	if l.caps != nil {
		return nil
	}
	resp, err := l.command("CAPABILITY\r\n")
	if err != nil {
		return err
	}
	if resp.Status != "OK" {
		return &answerError{answer: l.plain(resp), err: fmt.Errorf("%w: CAPABILITY isn't answered with OK", ErrProtocol)}
	}
	if l.caps == nil {
		return fmt.Errorf("%w: no CAPABILITY response", ErrProtocol)
	}
	return nil
}

// plain is the response's code and text, fit for errors. It outlives the
// reader's buffer.
func (l *loginClient) plain(resp wire.Response) answer {
	if resp.Code == "CAPABILITY" {
		resp.Code = "" // no reason for anything
	}
	a := answer{code: cleanText(resp.Code, l.secrets...), text: cleanText(resp.Text, l.secrets...), alerts: l.alerts}
	if args := cleanText(resp.CodeArgs, l.secrets...); args == resp.CodeArgs && resp.Code != "" {
		a.args = cleanArgs(args)
	}
	return a
}
