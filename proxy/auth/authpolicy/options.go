package authpolicy

import (
	"crypto/x509"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Options are the options of New. URL and HashNonce are required.
type Options struct {
	URL string // of the server, http or https; ?command=allow or ?command=report is appended
	// Header is sent with each request, as NAME: VALUE; a text without a colon is the value of X-API-Key. Empty: none is.
	Header telemetry.Secret
	// RootCAs verify the server's certificate; nil: the system's.
	RootCAs *x509.CertPool

	HashMech     string           // a name of HashMechs; empty: sha256
	HashNonce    telemetry.Secret // what the hash of a password begins with
	HashTruncate int              // how many bits of the hash are sent; 0: all

	CheckBefore bool // ask before the password is checked
	CheckAfter  bool // ask after it was right
	Report      bool // report how logins ended
	// RejectOnFail refuses logins about which the server gives no answer.
	RejectOnFail bool
	// LogOnly asks and reports, and has no login refused or delayed.
	LogOnly bool

	Asking    auth.AskingOptions // of questions; of reports a quarter as many are under way
	Telemetry *telemetry.Telemetry
	Now       func() time.Time // nil: time.Now
}

// maxDelay bounds how long one login waits because the server says so.
const maxDelay = 15 * time.Second
