package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// redacted is printed instead of a secret.
const redacted = "[redacted]"

// Secret is a password, token or key. Printing, logging or encoding it yields
// "[redacted]". Only Reveal returns the value itself, so that a search
// for Reveal finds every place where a secret can leave.
//
// As it is a string, its methods can't prevent every leak. Three things bypass them, so don't write them: a
// conversion string(s); a format that doesn't suit (%p, or %w where it isn't an error), which go vet, and
// with it go test, refuses; and a Secret that fmt or json reaches without its methods, as an unexported field
// of a struct that is printed whole, or as the key of a map that becomes JSON.
type Secret string

// Reveal returns the secret itself. The caller is responsible for where the
// value goes: to a backend or a hash, never into an error or a log.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer without the secret.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer without the secret.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb (%x and %d included)
// reaches the bytes.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer without the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the secret. XML and most other encoders use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler without the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// redactAttr writes durations with their unit. It also redacts each attribute whose name says that it is a secret, whatever its type, in
// case the code doesn't use Secret.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	if secretKey(a.Key) && a.Value.Kind() != slog.KindGroup {
		return slog.String(a.Key, redacted)
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String()) // with its unit; JSON has nanoseconds otherwise
	}
	return a
}

// secretKey says whether an attribute of this name would hold a secret.
func secretKey(key string) bool {
	// The switch is an optimisation: most keys are short and none of these.
	if len(key) < 4 {
		return false
	}
	switch strings.ToLower(key) {
	case "pass", "passwd", "password", "passphrase", "secret", "token", "authorization",
		"credentials", "initial_response", "master_password":
		return true
	}
	return false
}
