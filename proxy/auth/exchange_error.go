package auth

import "errors"

// Errors of an Exchange. None of them quotes what the client sent.
var (
	// ErrMechanism: no such mechanism here. Answer NO.
	ErrMechanism = errors.New("mechanism not supported")
	// ErrCancelled: the client sent '*'. Answer BAD (RFC 9051 §6.2.2).
	ErrCancelled = errors.New("exchange cancelled by the client")
	// ErrSyntax: not base64, or too long. Answer BAD.
	ErrSyntax = errors.New("response can't be decoded")
	// ErrMessage: decoded, but not a message of the mechanism. Answer NO.
	ErrMessage = errors.New("response isn't a message of the mechanism")
	// ErrBinding: the client's TLS connection isn't the proxy's, or it was told that there is no -PLUS although there
	// is one: another program is in between. Answer NO.
	ErrBinding = errors.New("the client's TLS connection isn't the one to the proxy")
)
