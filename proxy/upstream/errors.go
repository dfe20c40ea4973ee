package upstream

import (
	"errors"
	"strings"
	"unicode"

	"imapproxy/proxy/imapclient"
	"imapproxy/telemetry"
)

// Refused means that the backend has checked the user's own credentials, and that they are wrong. It occurs
// only in mode user (see classify).
type Refused struct {
	Backend string // Target.ID
	Code    string // response code of the NO, such as "EXPIRED"; often empty
	Text    string // the NO's text, safe to log and to pass on
	// Challenge is what the backend says of a refused token, for the client: JSON in base64. nil: nothing usable.
	Challenge []byte

	args   string   // the code's arguments
	alerts []string // ALERTs before it
}

func (e *Refused) Error() string {
	return "backend " + e.Backend + " refuses the credentials: " + bracketed(e.Code, e.Text)
}

// Discreet returns Error's text without what the backend said, which can name users in the backend's own spelling.
func (e *Refused) Discreet() string {
	return "backend " + e.Backend + " refuses the credentials: " + unsaid(e.Code, e.Text)
}

// Stages of a login, the values of Unavailable.Stage.
const (
	StageSettings   = "settings"   // nothing was sent: the target or the credentials can't be used
	StageDial       = "dial"       // TCP connect
	StageTLS        = "tls"        // STARTTLS or handshake
	StageGreeting   = "greeting"   // BYE, PREAUTH or no IMAP at all
	StageCapability = "capability" // CAPABILITY, before or after the login
	StageLogin      = "login"      // ID, AUTHENTICATE, LOGIN
	StageVerify     = "verify"     // the check for the intended user
)

// Unavailable means that the login isn't possible at this backend now, which says nothing about the user's
// credentials.
type Unavailable struct {
	Backend string // Target.ID
	Stage   string
	Code    string // response code of the backend's NO, BAD or BYE; empty if it sent none
	Text    string // its text, safe to log and to pass on; empty when the backend didn't answer
	Err     error  // the cause, where it isn't the backend's answer

	sent   bool     // bytes of the login had been sent
	args   string   // the code's arguments
	alerts []string // ALERTs before it
}

func (e *Unavailable) Error() string { return e.words(bracketed(e.Code, e.Text)) }

// Discreet is as Refused.Discreet. What the cause says is left.
func (e *Unavailable) Discreet() string { return e.words(unsaid(e.Code, e.Text)) }

// words returns the error with the backend's answer in these words.
func (e *Unavailable) words(answer string) string {
	s := "backend " + e.Backend + " unavailable: " + e.Stage + ": "
	switch {
	case e.Err == nil:
		return s + answer
	case e.Code == "" && e.Text == "":
		return s + e.Err.Error()
	}
	return s + e.Err.Error() + ": " + answer
}

func (e *Unavailable) Unwrap() error { return e.Err }

// Answered says whether err is a backend's answer, to a login or to a command. The backend was reached then, so that
// another session's success is no reason to try again sooner.
func Answered(err error) bool {
	if e, ok := errors.AsType[*Unavailable](err); ok {
		return e.Code != "" || e.Text != ""
	}
	_, login := errors.AsType[*Refused](err)
	_, command := errors.AsType[*imapclient.Refusal](err)
	return login || command
}

// AtLimit says whether the backend has as many connections of the user as it allows. Some Dovecots (Debian's
// 2.3.19 up to deb12u6) send [UNAVAILABLE] then, and only their text distinguishes it from a user database
// that is down.
func (e *Unavailable) AtLimit() bool {
	return saysLimit(e.Code, e.Text)
}

// saysLimit is AtLimit for a code and a text. Cyrus sends no code.
func saysLimit(code, text string) bool {
	return code == "LIMIT" || code == "UNAVAILABLE" && strings.HasPrefix(text, "Maximum number of connections") ||
		code == "" && strings.HasPrefix(text, "Too many open connections")
}

// Causes of an Unavailable that callers may want to tell apart.
var (
	// ErrTimeout: LoginTimeout or ConnectTimeout has passed.
	ErrTimeout = errors.New("timed out")
	// ErrProtocol is imapclient's.
	ErrProtocol = imapclient.ErrProtocol
	// ErrInjection is imapclient's.
	ErrInjection = imapclient.ErrInjection
	// ErrIntendedUser: this backend logs in another user than the one that a master login requests. All
	// master logins there are refused.
	ErrIntendedUser = errors.New("a master login doesn't yield the intended user")
	// ErrCleartext: a master login without TLS on another machine, which the settings don't permit.
	ErrCleartext = errors.New("the master's password isn't sent to another machine without TLS (backend_defaults.tls, or backend_login.cleartext)")
	// ErrUnverified: it couldn't be found out whether the backend logs in the requested user.
	ErrUnverified = errors.New("the proxy can't tell whether a master login yields the intended user")

	// ErrRights: the backend doesn't apply the rights of the user who opens another user's mail. No mailbox of
	// that backend is shared.
	ErrRights = errors.New("the backend doesn't apply the rights of the user who opens another user's mail")
	// ErrUnproved: it couldn't be found out whether it does.
	ErrUnproved = errors.New("can't tell whether the backend applies the rights of the user who opens another user's mail")

	errGaveUp = errors.New("the caller gave up") // with context.Canceled or context.DeadlineExceeded
	errBye    = errors.New("BYE")
	errNo     = errors.New("NO")  // a tagged NO that isn't a *Refused
	errBad    = errors.New("BAD") // a tagged BAD
	// errTooLong: the credentials are longer than the backend accepts; they weren't sent.
	errTooLong = errors.New("longer than the backend takes")
	errCannot  = errors.New("no usable login") // the backend offers no usable mechanism
)

func bracketed(code, text string) string {
	switch {
	case code == "" && text == "":
		return "(no text)"
	case code == "":
		return text
	}
	return "[" + code + "] " + text
}

// unsaid is bracketed without the text.
func unsaid(code, text string) string {
	if code == "" && text != "" {
		return "(text removed)"
	}
	return bracketed(code, "")
}

// maxText bounds the backend's text in errors: it goes into logs and to clients.
const maxText = 500

// cleanText makes a backend's text safe for logs and clients: valid UTF-8, no control characters, bounded. A
// backend may echo its input, so a text that contains one of the secrets is withheld as a whole (to blank
// only the secret would show where it was).
func cleanText(text string, secrets ...telemetry.Secret) string {
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s.Reveal()) {
			return "(text withheld: it contains what was sent)"
		}
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f:
			return ' '
		case !unicode.IsPrint(r) && r != ' ': // C1 controls, direction marks
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// answer is a response of the backend, as text.
type answer struct {
	code, args, text string
	alerts           []string // ALERTs before it
}

// answerError is an error that consists of the backend's answer.
type answerError struct {
	answer
	err error
}

func (e *answerError) Error() string { return e.err.Error() + ": " + bracketed(e.code, e.text) }
func (e *answerError) Unwrap() error { return e.err }

// Discreet is as Refused.Discreet.
func (e *answerError) Discreet() string { return e.err.Error() + ": " + unsaid(e.code, e.text) }

// maxCodeArgs bounds the arguments of a response code, such as the address of [WEBALERT].
const maxCodeArgs = 300

// cleanArgs returns a code's arguments if they can be passed on within brackets; otherwise "".
func cleanArgs(args string) string {
	if len(args) > maxCodeArgs || strings.ContainsFunc(args, func(r rune) bool { return r <= ' ' && r != ' ' || r >= 0x7f || r == ']' || r == '[' }) {
		return ""
	}
	return args
}
