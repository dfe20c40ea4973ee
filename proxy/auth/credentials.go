package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"imapproxy/telemetry"
)

// Errors of NewCredentials beside ErrName.
var (
	// ErrAuthzid: the client wants to act as another user than the one it logs in as.
	// The answer is NO [AUTHORIZATIONFAILED].
	ErrAuthzid = errors.New("authorization identity is not the user's own")
	// ErrPassword: the password is empty or contains NUL.
	ErrPassword = errors.New("password not acceptable")
)

// Credentials are a client's name, and its password or token, for a login. Only NewCredentials and NewNamed
// make them.
type Credentials struct {
	// User is the canonical name.
	User string
	// Password is as the client sent it: never empty, without NUL, otherwise any
	// bytes (old clients send Latin-1). By a mechanism OfToken it is the token. By one OfScram there is none at the
	// login, and later it is Keys.Proof. By MechanismExternal it is nothing to a source.
	Password telemetry.Secret
	// Mechanism is one of the Mechanism constants.
	Mechanism string
	// Authzid is the canonical authorization identity: empty, or equal to User.
	Authzid string
	// Client is the address from which the credentials came; hashing is shared between networks by it. The
	// zero Addr: unknown. NewCredentials doesn't set it.
	Client netip.Addr
	// Known says that a user has logged in from that network lately. NewCredentials doesn't set it, nor
	// what follows.
	Known bool
	// Local is the address that the client is connected to; the zero Addr where there is none.
	Local netip.Addr
	// TLS says that the client's connection is under TLS.
	TLS bool
	// Attempt counts the logins of the client's connection, from 1.
	Attempt int
	// Trace is the login's trace; nil: it has none.
	Trace *telemetry.LoginTrace
}

// NewCredentials makes credentials of the client's data. authzid is empty for mechanisms without one.
//
// An authzid is accepted only when it is the user's own name after
// normalisation: a client never acts as another user through the proxy,
// even where the backends would allow it. Errors match ErrName, ErrAuthzid or
// ErrPassword (ReasonOf tells them apart) and quote neither name nor password.
func NewCredentials(names Names, mechanism, authzid, user string, password telemetry.Secret) (Credentials, error) {
	c, err := NewNamed(names, mechanism, authzid, user)
	if err != nil {
		return Credentials{}, err
	}
	c.Password = password
	// Some directories behind backends treat an empty password as an anonymous login. Dovecot cuts a password
	// at NUL and logs in with the rest.
	switch raw := password.Reveal(); {
	case raw == "":
		return Credentials{}, fmt.Errorf("%w: empty", ErrPassword)
	case strings.IndexByte(raw, 0) >= 0:
		return Credentials{}, fmt.Errorf("%w: NUL in it", ErrPassword)
	}
	return c, nil
}

// NewNamed makes credentials without a password, for a mechanism that has none. It is NewCredentials otherwise.
func NewNamed(names Names, mechanism, authzid, user string) (Credentials, error) {
	if names.separated(user) || names.separated(authzid) {
		return Credentials{}, fmt.Errorf("%w: it has a character of users.refuse_separators", ErrName)
	}
	canonical, err := names.Normalize(user)
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{User: canonical, Mechanism: mechanism}
	if authzid != "" {
		c.Authzid, err = names.Normalize(authzid)
		if err != nil || c.Authzid != canonical {
			return Credentials{}, ErrAuthzid
		}
	}
	return c, nil
}
