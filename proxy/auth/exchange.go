package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"imapproxy/telemetry"
)

// step is the state of an exchange.
type step uint8

const (
	stepStart         step = iota // nothing done; the initial response, if any, is kept
	stepPlain                     // PLAIN: waiting for the one message
	stepLoginUser                 // LOGIN: waiting for the user name
	stepLoginPassword             // LOGIN: waiting for the password
	stepToken                     // OAUTHBEARER, XOAUTH2: waiting for the one message
	stepExternal                  // EXTERNAL: waiting for the one message
	stepDone                      // the result is available
	stepFailed                    // err is set and stays
)

// Exchange is the server's side of one AUTHENTICATE command. It is used by one
// goroutine, thus:
//
//	x, err := NewExchange(mechanism, initial, hasInitial)
//	challenge, done, err := x.Next(nil)
//	for err == nil && !done {
//		// send "+ " challenge CRLF, read a line without its CRLF
//		challenge, done, err = x.Next(line)
//	}
//
// Exchange decodes and encodes base64: pass it lines as the client sent them, and send
// its challenges as they are. It holds at most one response of MaxTokenResponse bytes.
type Exchange struct {
	mechanism  string
	initial    []byte
	hasInitial bool

	step step
	err  error

	authzid, user string
	password      telemetry.Secret
}

// NewExchange begins an exchange. mechanism is compared without regard to case;
// initial is the initial response as it stands in the command (RFC 9051 §6.2.2,
// RFC 4959), "=" for an empty one, and is copied. The only error is ErrMechanism;
// a bad initial response is reported by Next.
func NewExchange(mechanism string, initial []byte, hasInitial bool) (*Exchange, error) {
	x := &Exchange{hasInitial: hasInitial}
	for _, m := range []string{MechanismPlain, MechanismLogin, MechanismOAuthBearer, MechanismXOAuth2, MechanismExternal} {
		if strings.EqualFold(mechanism, m) {
			x.mechanism = m
		}
	}
	if x.mechanism == "" {
		return nil, ErrMechanism
	}
	if len(initial) > x.maxLine() {
		_ = x.fail(fmt.Errorf("%w: too long", ErrSyntax)) // Step returns it
	} else {
		x.initial = bytes.Clone(initial)
	}
	return x, nil
}

// Mechanism returns the mechanism's name as a Mechanism constant.
func (x *Exchange) Mechanism() string { return x.mechanism }

// Next does the next step of the exchange. The first call starts it and has a nil response; each later call
// passes a line from the client without its CRLF. Next returns the challenge in base64 (send "+ " even if it
// is empty), or done. After done or an error the state doesn't change: an error is returned again.
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	switch x.step {
	case stepFailed:
		return nil, false, x.err
	case stepDone:
		return nil, true, nil
	case stepStart:
		return x.start()
	}
	// '*' alone cancels; as an initial response it is just bad base64.
	if len(response) == 1 && response[0] == '*' {
		return nil, false, x.fail(ErrCancelled)
	}
	message, err := decode(response, x.maxLine())
	if err != nil {
		return nil, false, x.fail(err)
	}
	return x.take(message)
}

// start chooses the first step and feeds it the initial response.
func (x *Exchange) start() (challenge []byte, done bool, err error) {
	switch x.mechanism {
	case MechanismLogin:
		x.step = stepLoginUser
	case MechanismOAuthBearer, MechanismXOAuth2:
		x.step = stepToken
	case MechanismExternal:
		x.step = stepExternal
	default:
		x.step = stepPlain
	}
	if x.hasInitial {
		var message []byte
		// RFC 4959 §3: "=" is an initial response of no bytes. An empty string can't be part of the command,
		// so it isn't an initial response.
		if !bytes.Equal(x.initial, []byte("=")) {
			if len(x.initial) == 0 {
				return nil, false, x.fail(fmt.Errorf("%w: empty initial response", ErrSyntax))
			}
			if message, err = decode(x.initial, x.maxLine()); err != nil {
				return nil, false, x.fail(err)
			}
		}
		clear(x.initial)
		x.initial = nil
		// In LOGIN the server sends first; a client with an empty initial response expects the challenge.
		if x.step != stepLoginUser || len(message) > 0 {
			return x.take(message)
		}
	}
	if x.step == stepLoginUser {
		return challengeOf("Username:"), false, nil
	}
	return nil, false, nil
}

// take passes a decoded response to the current step, and then clears it.
func (x *Exchange) take(message []byte) (challenge []byte, done bool, err error) {
	defer clear(message)
	switch x.step {
	case stepPlain:
		err := x.plain(message)
		return nil, err == nil, err
	case stepToken:
		read := readXOAuth2
		if x.mechanism == MechanismOAuthBearer {
			read = readOAuthBearer
		}
		if x.user, x.password, err = read(message); err != nil {
			return nil, false, x.fail(err)
		}
		x.step = stepDone
		return nil, true, nil
	case stepExternal: // RFC 4422, appendix A.2: the name of the user to act as, or nothing
		if bytes.IndexByte(message, 0) >= 0 || !utf8.Valid(message) {
			return nil, false, x.fail(fmt.Errorf("%w: not UTF-8, or NUL in it", ErrMessage))
		}
		x.authzid = string(message)
		x.step = stepDone
		return nil, true, nil
	case stepLoginUser:
		if len(message) == 0 || bytes.IndexByte(message, 0) >= 0 {
			return nil, false, x.fail(fmt.Errorf("%w: user name empty or with NUL", ErrMessage))
		}
		x.user = string(message)
		x.step = stepLoginPassword
		return challengeOf("Password:"), false, nil
	case stepLoginPassword:
		if len(message) == 0 || bytes.IndexByte(message, 0) >= 0 {
			return nil, false, x.fail(fmt.Errorf("%w: password empty or with NUL", ErrMessage))
		}
		x.password = telemetry.Secret(message)
		x.step = stepDone
		return nil, true, nil
	}
	panic("auth: an exchange takes a response in a step that expects none")
}

// plain reads the message of RFC 4616 §2: [authzid] NUL authcid NUL passwd, with
// neither authcid nor passwd empty and no third NUL.
func (x *Exchange) plain(message []byte) error {
	authzid, rest, ok := bytes.Cut(message, []byte{0})
	if !ok {
		return x.fail(fmt.Errorf("%w: no NUL", ErrMessage))
	}
	user, password, ok := bytes.Cut(rest, []byte{0})
	switch {
	case !ok:
		return x.fail(fmt.Errorf("%w: one NUL", ErrMessage))
	case bytes.IndexByte(password, 0) >= 0:
		return x.fail(fmt.Errorf("%w: more than two NULs", ErrMessage))
	case len(user) == 0 || len(password) == 0:
		return x.fail(fmt.Errorf("%w: user name or password empty", ErrMessage))
	}
	x.authzid, x.user, x.password = string(authzid), string(user), telemetry.Secret(password)
	x.step = stepDone
	return nil
}

// maxLine is the length of the longest response on the line.
func (x *Exchange) maxLine() int {
	if OfToken(x.mechanism) {
		return MaxTokenLine
	}
	return MaxResponseLine
}

// fail ends the exchange and forgets the password.
func (x *Exchange) fail(err error) error {
	x.step, x.err = stepFailed, err
	clear(x.initial)
	x.initial, x.password = nil, ""
	return err
}

// Result returns the client's names and its password or token, not normalised, for
// NewCredentials. Before done the password is empty. The user is set as soon
// as it is known, for the log of an exchange that failed.
func (x *Exchange) Result() (authzid, user string, password telemetry.Secret) {
	return x.authzid, x.user, x.password
}

// decode reads one response strictly: canonical base64 (RFC 4648 §4, padding
// and zero trailing bits included) and nothing else.
func decode(line []byte, most int) ([]byte, error) {
	if len(line) > most {
		return nil, fmt.Errorf("%w: too long", ErrSyntax)
	}
	// encoding/base64 skips CR and LF; here they can't be part of a response.
	if bytes.ContainsAny(line, "\r\n") {
		return nil, fmt.Errorf("%w: bad base64", ErrSyntax)
	}
	message := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(message, line)
	if err != nil {
		clear(message)
		// Its own text says at which byte, which is of no use in a log.
		return nil, fmt.Errorf("%w: bad base64", ErrSyntax)
	}
	return message[:n], nil
}

func challengeOf(text string) []byte {
	return base64.StdEncoding.AppendEncode(nil, []byte(text))
}
