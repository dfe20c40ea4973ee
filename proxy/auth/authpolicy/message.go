package authpolicy

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strings"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Login is what the server is told of a login.
type Login struct {
	auth.Credentials
	Session string // the session's id
	Device  string // what the client has sent with ID, as Dovecot sends it: "name" "Thunderbird" …
}

// message is Dovecot's default auth_policy_request_attributes. Success and PolicyReject are for reports.
type message struct {
	Device       string `json:"device_id"`
	Login        string `json:"login"`
	Protocol     string `json:"protocol"`
	Hash         string `json:"pwhash"`
	Remote       string `json:"remote"`
	Session      string `json:"session_id"`
	Success      *bool  `json:"success,omitempty"`
	PolicyReject *bool  `json:"policy_reject,omitempty"`
	TLS          bool   `json:"tls"`
}

// message is about a login, without its end.
func (o *Options) message(l Login) message {
	return message{
		Device: l.Device, Login: l.User, Protocol: "imap", Hash: o.hash(l.User, l.Password),
		Remote: l.Client.Unmap().WithZone("").String(), Session: l.Session, TLS: l.TLS,
	}
}

func (m message) encode() []byte {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // a struct of strings and truth values
	}
	return text
}

// HashMechs are the hashes that the server can be sent.
func HashMechs() []string { return []string{"md5", "sha1", "sha256", "sha512"} }

func newHash(mech string) hash.Hash {
	switch mech {
	case "md5":
		return md5.New() //nolint:gosec // what the server's other clients send
	case "sha1":
		return sha1.New() //nolint:gosec // likewise
	case "sha512":
		return sha512.New()
	}
	return sha256.New()
}

// hash is what the server is sent of a password: the first bits of a hash over the nonce, the user's name, NUL and the password,
// with zero bits before them to make whole octets, in hexadecimal. By mechanisms without a password that is empty.
func (o *Options) hash(user string, password telemetry.Secret) string {
	h := newHash(o.HashMech)
	h.Write([]byte(o.HashNonce.Reveal() + user + "\x00"))
	h.Write([]byte(password.Reveal()))
	return hex.EncodeToString(firstBits(h.Sum(nil), o.HashTruncate))
}

// firstBits returns the first n bits of b, moved to the right end of as few octets as they need; n = 0: all.
func firstBits(b []byte, n int) []byte {
	if n <= 0 || n >= 8*len(b) {
		return b
	}
	b = b[:(n+7)/8]
	shift := 8*len(b) - n
	for i, before := 0, byte(0); i < len(b); i++ {
		before, b[i] = b[i], b[i]>>shift|before<<(8-shift)
	}
	return b
}

// ends are the values of Success and PolicyReject.
func ends(success, refused bool) (*bool, *bool) { return &success, &refused }

// readHeader splits Options.Header.
func readHeader(text string) (name, value string) {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return "X-API-Key", strings.TrimSpace(text)
	}
	return strings.TrimSpace(name), strings.TrimSpace(value)
}

// goodHeader says whether a header can be sent.
func goodHeader(name, value string) bool {
	token := !slices.ContainsFunc([]rune(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
	return name != "" && token && value != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
}
