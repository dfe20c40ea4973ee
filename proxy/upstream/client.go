package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// loginClient is the IMAP client of a connection that isn't logged in yet. The backend's responses are
// bounded in size; the owner bounds the time.
type loginClient struct {
	*imapclient.Client
	conn *conn.Conn
	loginOptions

	// caps has the last CAPABILITY response or code; nil after a change of state that makes it invalid (TLS,
	// login).
	caps wire.Caps

	// keep says that untagged responses are for the client, as they are from the login on. They are added to
	// untagged, as whole lines without CRLF.
	keep     bool
	untagged [][]byte

	// want names an untagged response that the current command requests: the last one is stored in got
	// instead.
	want string
	got  []byte

	// headed: the PROXY header was sent. unexpected: the backend has answered it.
	headed, unexpected bool

	alerts    []string           // texts of ALERTs since the login was sent
	challenge []byte             // with which the backend has refused a token
	secrets   []telemetry.Secret // strings that no text may contain
}

// loginOptions are what a login needs and a logged-in connection doesn't.
type loginOptions struct {
	target   Target
	client   Client // the client's data for ID
	tls      *tlsConfigs
	now      func() time.Time
	patience *patience // nil: the backend's silence has no consequence
}

func newLoginClient(c *conn.Conn, o loginOptions) *loginClient {
	l := &loginClient{conn: c, loginOptions: o}
	l.Client = imapclient.New(c, imapclient.Options{
		TagPrefix: "p", MaxLine: maxLine, MaxLiteral: maxLiteral, MaxTotal: maxTotal,
		Heard:  func() { o.patience.heard(false) },
		Follow: l.followHeader,
	})
	return l
}

// followHeader is an error for an answer to the PROXY header, whose lines a backend that doesn't expect it takes for commands without
// a tag: Dovecot and Cyrus say BAD to them, Courier NO.
func (l *loginClient) followHeader(u imapclient.Untagged) error {
	resp := u.Response
	if l.headed && (resp.Status == "BAD" || resp.Status == "NO" && strings.HasPrefix(resp.Text, "Error in IMAP command")) {
		l.unexpected = true
		return ErrHeaderUnexpected
	}
	return nil
}

// answer reads until the tagged response to the command, or, with plus, a continuation request. It handles
// untagged responses.
func (l *loginClient) answer(tag string, plus bool) (wire.Response, error) {
	resp, err := l.Answer(tag, plus, l.onUntagged)
	return resp, l.cleaned(err)
}

// cleaned makes an error safe for logs: it contains the backend's text in the form of an answerError.
func (l *loginClient) cleaned(err error) error {
	if bye, ok := errors.AsType[*imapclient.Bye](err); ok {
		return &answerError{answer: l.plain(bye.Response), err: errBye}
	}
	if stray, ok := errors.AsType[*imapclient.StrayError](err); ok {
		l.unexpected = l.unexpected || l.headed // its "QUIT" was taken for a tag
		stray.Tag = cleanText(stray.Tag, l.secrets...)
	}
	return err
}

// onUntagged handles an untagged response.
func (l *loginClient) onUntagged(u imapclient.Untagged) bool {
	l.heard(u.Response)
	return true
}

func (l *loginClient) heard(resp wire.Response) {
	if caps, ok := capsIn(resp); ok {
		// Before the answer to ID, it may describe the state before the login.
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

// capsIn returns the capabilities in a response's code or in an untagged CAPABILITY.
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

// logout sends LOGOUT as a courtesy. It doesn't wait for the answer.
func (l *loginClient) logout() {
	l.Queue("LOGOUT\r\n")
	_ = l.Flush()
}

// askCaps sets the capabilities; it requests them if they aren't known. RFC 9051 §6.1.1.
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

// plain returns the response's code and text for errors. They remain valid after the next read.
func (l *loginClient) plain(resp wire.Response) answer {
	if resp.Code == "CAPABILITY" {
		resp.Code = "" // it doesn't explain an error
	}
	a := answer{code: cleanText(resp.Code, l.secrets...), text: cleanText(resp.Text, l.secrets...), alerts: l.alerts}
	if args := cleanText(resp.CodeArgs, l.secrets...); args == resp.CodeArgs && resp.Code != "" {
		a.args = cleanArgs(args)
	}
	return a
}
