package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// ErrNotHTTP stands for errors that repeat what a server has sent.
var ErrNotHTTP = errors.New("the answer isn't one of HTTP")

// OfRequest is an error of a request by net/http, fit for a log: without the URL, which may hold a secret, and without what the server has
// sent. A header that isn't one may be a password: a service that is asked about users gives those of backends.
func OfRequest(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if err == nil || ofConnection(err) {
		return err
	}
	for _, words := range []string{"tls: ", "x509: ", "http: server gave HTTP response to HTTPS client", "net/http: server response headers exceeded"} {
		if strings.HasPrefix(err.Error(), words) {
			return err
		}
	}
	return ErrNotHTTP
}

// ofConnection says whether an error is about a connection, or a context.
func ofConnection(err error) bool {
	_, network := errors.AsType[net.Error](err)
	_, number := errors.AsType[syscall.Errno](err)
	_, header := errors.AsType[tls.RecordHeaderError](err)
	return network || number || header || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled)
}

// MendConnection says what to do about an error of a connection to a server that is asked ("the directory"), whose address a setting has
// ("url"); "" if the error is about something else.
func MendConnection(err error, server, setting string) string {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	invalid, bad := errors.AsType[x509.CertificateInvalidError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	_, lookup := errors.AsType[*net.DNSError](err)
	switch {
	case unknown:
		return "name the authority's certificate in ca_file"
	case name:
		return "write a name in " + setting + " that " + server + "'s certificate is for"
	case bad && invalid.Reason == x509.Expired:
		return "renew " + server + "'s certificate, or set this machine's clock"
	case bad:
		return "correct " + server + "'s certificate"
	case plain, strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "correct " + setting + ": that port doesn't speak TLS"
	case lookup:
		return "correct the host's name in " + setting + ", or have this machine find it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start " + server + ", or correct " + setting
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "see that " + server + " answers, or write a longer timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "correct " + setting + ", if that port speaks TLS and " + setting + " has none, or the other way around; or look into the log of " + server + ", which closes the connection"
	}
	return ""
}
