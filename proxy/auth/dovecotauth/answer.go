package dovecotauth

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"syscall"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// fields is where the fields of an answer begin: OK id field…
const fields = 2

// verdictOf reads an answer. The cases:
//
//	OK                         accepted
//	OK nologin, without proxy  locked: the password is right, but the user isn't let in
//	FAIL without a user        by EXTERNAL: unavailable, since it doesn't go by the certificate's name
//	FAIL code=temp_fail        unavailable, also as the word temp, which releases before 2.3 send
//	FAIL code=user_disabled    locked
//	FAIL code=pass_expired     locked
//	FAIL code=authz_fail       a master user who may not act as that user
//	FAIL                       a wrong password, or an unknown user: Dovecot doesn't say which
func verdictOf(l line, c auth.Credentials, names auth.Names) auth.Verdict {
	if l.command() == "OK" {
		return accepted(l, c, names)
	}
	if _, named := l.field(fields, "user"); !named && c.Mechanism == auth.MechanismExternal {
		return auth.Unavailable{Err: errNoName}
	}
	code, _ := l.field(fields, "code")
	if _, temp := l.field(fields, "temp"); temp || code == "temp_fail" {
		return auth.Unavailable{Err: errTemporary}
	}
	switch code {
	case "user_disabled", "pass_expired":
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}
	case "authz_fail":
		return auth.Rejected{Reason: auth.ReasonBadAuthzid}
	}
	return auth.Rejected{Reason: auth.ReasonBadPassword}
}

// errNoName is that Dovecot doesn't go by the name that it is told of a certificate.
var errNoName = errors.New("it takes no name from certificates (auth_ssl_username_from_cert = yes is missing)")

// errTemporary is that Dovecot's own source of passwords has failed.
var errTemporary = errors.New("temp_fail: Dovecot can't tell at the moment")

// accepted reads the fields of an OK.
func accepted(l line, c auth.Credentials, names auth.Names) auth.Verdict {
	_, proxied := l.field(fields, "proxy")
	_, maybe := l.field(fields, "proxy_maybe")
	if _, closed := l.field(fields, "nologin"); closed && !proxied && !maybe {
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}
	}
	user, _ := l.field(fields, "user")
	if at, ok := l.field(fields, "destuser"); ok && at != "" {
		user = at
	}
	if user == "" {
		return auth.Unavailable{Err: fmt.Errorf("%w: an OK without a user", errProtocol)}
	}
	canonical, err := names.Given(user)
	if err != nil {
		return auth.Unavailable{Err: fmt.Errorf("the name that Dovecot gives: %w", err)}
	}
	a := auth.Accepted{User: canonical, Placement: placement(l)}
	// A master's password is of no use without the master's name, and Dovecot repeats the client's own.
	_, master := l.field(fields, "master")
	if pass, _ := l.field(fields, "pass"); !master && pass != c.Password.Reveal() {
		a.Password = telemetry.Secret(pass)
	}
	return a
}

// placement is where the user's mail is: the field backend as in a passwd-file, else host and port, by
// which Dovecot's own proxy goes. An address without a port has the one that this proxy would take.
func placement(l line) string {
	if backend, _ := l.field(fields, "backend"); backend != "" {
		return backend
	}
	host, _ := l.field(fields, "host")
	port, _ := l.field(fields, "port")
	switch _, err := netip.ParseAddr(host); {
	case host == "":
		return ""
	case port != "":
		return net.JoinHostPort(host, port)
	case err != nil:
		return host
	}
	if _, tls := l.field(fields, "ssl"); tls {
		return net.JoinHostPort(host, "993")
	}
	return net.JoinHostPort(host, "143")
}

// mend says what to do about an error.
func mend(err error) string {
	switch {
	case errors.Is(err, errNoPlain):
		return "add plain to Dovecot's auth_mechanisms"
	case errors.Is(err, errNoExternal):
		return "add external to Dovecot's auth_mechanisms"
	case errors.Is(err, errNoName):
		return "write auth_ssl_username_from_cert = yes in Dovecot's configuration"
	case errors.Is(err, errTemporary):
		return "look into Dovecot's log: its passdb doesn't answer"
	case errors.Is(err, errProtocol):
		return "correct address: a listener of service auth, whose name doesn't end with -login, -userdb or -master"
	case errors.Is(err, fs.ErrPermission):
		return "let the proxy's user open the socket: unix_listener { user = imapproxy } in Dovecot's service auth"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "start Dovecot, or correct address, or add that listener to Dovecot's service auth"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "look into Dovecot's log: it closes the connection. address has to be a listener of service auth, whose name doesn't end with -login, -userdb or -master"
	}
	return cmp.Or(auth.MendConnection(err, "Dovecot", "address"), "correct address")
}
