package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"
)

// maxScramLine is the length of the longest response of SCRAM on the line: a name, of which each character may be
// escaped, twice, nonces and the data of a channel binding have less than half of it.
const maxScramLine = 4096

// Bindings are what a client can prove about its TLS connection (RFC 5929, RFC 9266). The zero value: nothing.
type Bindings struct {
	Exporter  []byte   // tls-exporter
	EndPoints [][]byte // tls-server-end-point, of each of the listener's certificates
}

// None says that there is nothing to prove.
func (b Bindings) None() bool { return len(b.Exporter) == 0 && len(b.EndPoints) == 0 }

// named returns the data of one kind.
func (b Bindings) named(kind string) [][]byte {
	switch {
	case kind == string(scram.ChannelBindingTLSExporter) && len(b.Exporter) > 0:
		return [][]byte{b.Exporter}
	case kind == string(scram.ChannelBindingTLSServerEndpoint):
		return b.EndPoints
	}
	return nil
}

// ScramExchange is the server's side of AUTHENTICATE by SCRAM (RFC 5802 §5). Use by one goroutine: First with the
// client's first message, Challenge with the user's keys, Final with the client's second message. Lines are in base64,
// without CRLF.
type ScramExchange struct {
	mechanism     string
	bindings      Bindings
	first         string
	authzid, user string
	// The client's proof is compared with one conversation for each of the listener's certificates.
	conversations []*scram.ServerConversation
}

// NewScramExchange begins an exchange by a mechanism OfScram.
func NewScramExchange(mechanism string, b Bindings) *ScramExchange {
	return &ScramExchange{mechanism: mechanism, bindings: b}
}

// First reads the client's first message. Its errors are those of an Exchange, and ErrBinding.
func (x *ScramExchange) First(line []byte) error {
	message, err := scramMessage(line)
	if err != nil {
		return err
	}
	flag, rest, _ := strings.Cut(message, ",")
	kind, binds := strings.CutPrefix(flag, "p=")
	switch {
	case binds != Binds(x.mechanism):
		return fmt.Errorf("%w: its channel binding isn't that of the mechanism", ErrMessage)
	case binds && len(x.bindings.named(kind)) == 0:
		return fmt.Errorf("%w: no such channel binding", ErrMessage)
	case flag == "y" && !x.bindings.None():
		return ErrBinding // RFC 5802 §6: the list of mechanisms was changed on its way
	case !binds && flag != "y" && flag != "n":
		return fmt.Errorf("%w: no header", ErrMessage)
	}
	authzid, rest, ok := strings.Cut(rest, ",")
	name, rest, _ := strings.Cut(rest, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	if a, has := strings.CutPrefix(authzid, "a="); ok && (has && a != "" || authzid == "") {
		x.authzid, ok = saslName(a)
	} else {
		ok = false
	}
	n, has := strings.CutPrefix(name, "n=") // m= is an extension that must be understood, and none is
	user, ok2 := saslName(n)
	if x.user = user; !ok || !ok2 || !has || x.user == "" || len(nonce) <= len("r=") {
		return fmt.Errorf("%w: not the first of SCRAM", ErrMessage)
	}
	x.first = message
	return nil
}

// Names are the client's, not normalised; the user is "" before First has found it.
func (x *ScramExchange) Names() (authzid, user string) { return x.authzid, x.user }

// Challenge returns the server's first message.
func (x *ScramExchange) Challenge(k Keys) ([]byte, error) {
	keys := scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: k.salt, Iters: k.iterations}, StoredKey: []byte(k.stored), ServerKey: []byte(k.server),
	}
	generate := scram.SHA256
	if strings.HasPrefix(x.mechanism, MechanismScramSHA1) {
		generate = scram.SHA1
	}
	server, err := generate.NewServer(func(string) (scram.StoredCredentials, error) { return keys, nil })
	if err != nil {
		return nil, err
	}
	kind := ""
	data := [][]byte{nil}
	if Binds(x.mechanism) {
		flag, _, _ := strings.Cut(x.first, ",")
		kind = strings.TrimPrefix(flag, "p=")
		data = x.bindings.named(kind)
	}
	nonce := newNonce()
	server.WithNonceGenerator(func() string { return nonce })
	var challenge string
	for _, d := range data {
		c := server.NewConversation()
		if kind != "" {
			c = server.NewConversationWithChannelBindingRequired(scram.ChannelBinding{Type: scram.ChannelBindingType(kind), Data: d})
		}
		if challenge, err = c.Step(x.first); err != nil {
			return nil, fmt.Errorf("%w: not the first of SCRAM", ErrMessage) // the library's words have the name in them
		}
		x.conversations = append(x.conversations, c)
	}
	return base64.StdEncoding.AppendEncode(nil, []byte(challenge)), nil
}

// Final reads the client's second message. right says that the client knows the password; then signature is the
// server's last message.
func (x *ScramExchange) Final(line []byte) (signature []byte, right bool, err error) {
	if bytes.Equal(line, []byte("*")) {
		return nil, false, ErrCancelled
	}
	message, err := scramMessage(line)
	if err != nil {
		return nil, false, err
	}
	err = ErrMessage
	for _, c := range x.conversations {
		said, wrong := c.Step(message)
		switch {
		case wrong == nil && c.Valid():
			return base64.StdEncoding.AppendEncode(nil, []byte(said)), true, nil
		case said == scram.ErrInvalidProof:
			err = nil
		case said == scram.ErrChannelBindingsDontMatch && err != nil:
			err = ErrBinding
		}
	}
	if errors.Is(err, ErrBinding) && !Binds(x.mechanism) {
		err = fmt.Errorf("%w: its header isn't that of the first", ErrMessage)
	}
	return nil, false, err
}

// scramMessage decodes a line. NUL isn't part of any message (RFC 5802 §7), nor are bytes that aren't UTF-8.
func scramMessage(line []byte) (string, error) {
	if bytes.Equal(line, []byte("*")) {
		return "", ErrCancelled
	}
	message, err := decode(line, maxScramLine)
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(message, 0) >= 0 {
		return "", fmt.Errorf("%w: NUL in it", ErrMessage)
	}
	return string(message), nil
}

// newNonce returns the server's part of a nonce, which has no comma.
func newNonce() string { return rand.Text() }
