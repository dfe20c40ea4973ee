package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// mechanismXOAuth2 is the mechanism of tokens that has no RFC; the other one is OAUTHBEARER.
const mechanismXOAuth2 = "XOAUTH2"

// authenticateToken logs in with the user's token. A backend that refuses it says in a challenge what a client needs to get another one
// (RFC 7628 §3.2.2), and waits for an answer before its NO (§3.2.3).
func (l *loginClient) authenticateToken(a Auth, caps wire.Caps) (wire.Response, error) {
	if !caps.Has("AUTH=" + a.Mechanism) {
		return wire.Response{}, fmt.Errorf("%w: it doesn't offer AUTH=%s", errCannot, a.Mechanism)
	}
	message := tokenMessage(a)
	encoded := base64.StdEncoding.AppendEncode(nil, message)
	clear(message)
	defer clear(encoded)
	tag, early, err := l.sendInitial("AUTHENTICATE "+a.Mechanism, encoded, caps)
	if tag == "" {
		return early, err
	}
	resp, err := l.answer(tag, true)
	if err != nil || resp.Tag == tag {
		return resp, err
	}
	l.challenge = fitChallenge(resp.Line, a.Password)
	dummy := "AQ==\r\n" // ^A
	if a.Mechanism == mechanismXOAuth2 {
		dummy = "\r\n"
	}
	l.Append(func(out []byte) []byte { return append(out, dummy...) })
	if err := l.Flush(); err != nil {
		return wire.Response{}, err
	}
	return l.answer(tag, false)
}

// tokenMessage is the client's message (RFC 7628 §3.1). The user's name has no control character.
func tokenMessage(a Auth) []byte {
	if a.Mechanism == mechanismXOAuth2 {
		return []byte("user=" + a.User + "\x01auth=Bearer " + a.Password.Reveal() + "\x01\x01")
	}
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(a.User)
	return []byte("n,a=" + name + ",\x01auth=Bearer " + a.Password.Reveal() + "\x01\x01")
}

// maxChallenge bounds a challenge, in octets of base64.
const maxChallenge = 4096

// fitChallenge returns a backend's challenge, as it is, if a client can be told it: a JSON object in base64 without the token. Otherwise nil.
func fitChallenge(line []byte, token telemetry.Secret) []byte {
	text, _ := bytes.CutPrefix(line, []byte("+ "))
	said, err := base64.StdEncoding.DecodeString(string(text))
	var object map[string]any
	if err != nil || len(text) > maxChallenge || json.Unmarshal(said, &object) != nil || strings.Contains(string(said), token.Reveal()) {
		return nil
	}
	return bytes.Clone(text)
}
