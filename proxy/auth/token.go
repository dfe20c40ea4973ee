package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"imapproxy/telemetry"
)

// readOAuthBearer reads the message of RFC 7628 §3.1, where ^A is 0x01:
//
//	n,a=alice@example.org,^Ahost=imap.example.org^Aport=993^Aauth=Bearer TOKEN^A^A
//
// The name is required here, though the RFC has it optional: limits and delays go by it before the token is
// looked at. Channel bindings (p=) aren't offered. Keys that aren't known are ignored.
func readOAuthBearer(message []byte) (user string, token telemetry.Secret, err error) {
	header, rest, ok := bytes.Cut(message, []byte{1})
	if !ok {
		return "", "", fmt.Errorf("%w: no key", ErrMessage)
	}
	parts := strings.Split(string(header), ",")
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" || parts[2] != "" {
		return "", "", fmt.Errorf("%w: its header isn't n,a=NAME,", ErrMessage)
	}
	name, ok := strings.CutPrefix(parts[1], "a=")
	if !ok || name == "" {
		return "", "", fmt.Errorf("%w: no name", ErrMessage)
	}
	if user, ok = saslName(name); !ok {
		return "", "", fmt.Errorf("%w: the name has a bad escape", ErrMessage)
	}
	_, token, err = readPairs(rest, "")
	return user, token, err
}

// readXOAuth2 reads the message of XOAUTH2, which has no escapes:
//
//	user=alice@example.org^Aauth=Bearer TOKEN^A^A
func readXOAuth2(message []byte) (user string, token telemetry.Secret, err error) {
	user, token, err = readPairs(message, "user")
	if err == nil && user == "" {
		err = fmt.Errorf("%w: no name", ErrMessage)
	}
	return user, token, err
}

// saslName removes the escapes of a name (RFC 5801 §4).
func saslName(s string) (name string, ok bool) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "=")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}

// readPairs reads KEY=VALUE^A …, and ^A at the end: the value of the key name, which is there once at most, and
// the token of auth, which is there once.
func readPairs(b []byte, name string) (named string, token telemetry.Secret, err error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return "", "", fmt.Errorf("%w: NUL in it", ErrMessage)
	}
	seen := map[string]bool{}
	for {
		pair, rest, ok := bytes.Cut(b, []byte{1})
		switch {
		case !ok:
			return "", "", fmt.Errorf("%w: its end isn't there", ErrMessage)
		case len(pair) == 0 && len(rest) > 0:
			return "", "", fmt.Errorf("%w: more behind its end", ErrMessage)
		case len(pair) == 0 && token == "":
			return "", "", fmt.Errorf("%w: no token", ErrMessage)
		case len(pair) == 0:
			return named, token, nil
		}
		key, value, ok := bytes.Cut(pair, []byte{'='})
		k := string(key)
		if !ok || k == "" {
			return "", "", fmt.Errorf("%w: no key", ErrMessage)
		}
		if k == "auth" || k == name {
			if seen[k] {
				return "", "", fmt.Errorf("%w: the same key twice", ErrMessage)
			}
			seen[k] = true
		}
		switch k {
		case "auth":
			if token, ok = bearer(value); !ok {
				return "", "", fmt.Errorf("%w: no bearer token", ErrMessage)
			}
		case name:
			named = string(value)
		}
		b = rest
	}
}

// bearer reads "Bearer TOKEN" (RFC 6750 §2.1).
func bearer(value []byte) (token telemetry.Secret, ok bool) {
	scheme, rest, ok := bytes.Cut(value, []byte{' '})
	rest = bytes.TrimLeft(rest, " ")
	if !ok || !strings.EqualFold(string(scheme), "Bearer") || len(rest) > maxToken {
		return "", false
	}
	body := bytes.TrimRight(rest, "=")
	for _, c := range body {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", rune(c)) {
			return "", false
		}
	}
	return telemetry.Secret(rest), len(body) > 0
}

// TokenExpiry returns when a token expires by its own words (RFC 7519 §4.1.4), which aren't verified; the zero time: it doesn't say so, or isn't
// a JWT.
func TokenExpiry(token telemetry.Secret) time.Time {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var claims struct {
		Exp float64 `json:"exp"`
	}
	const last = 1 << 40 // beyond it time.Time's arithmetic ends
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Exp <= 0 || claims.Exp > last {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}
