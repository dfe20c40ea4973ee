package session

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// errNotAsked says that the client's connection has no certificate, or that the listener takes none.
var errNotAsked = errors.New("the client has no certificate, or the listener takes none")

// certified is what the client's certificate names its user, if the certificate is good at that time. Connections on which
// the proxy doesn't end TLS have none.
func (s *Session) certified(at time.Time) (user string, err error) {
	judge, state := s.lis.Settings().Certified, s.client.TLS()
	if judge == nil || state == nil || len(state.PeerCertificates) == 0 {
		return "", errNotAsked
	}
	return judge(state.PeerCertificates, at)
}

// stays says whether a session by certificate may go on, for all that its certificate says; for any other it is true.
func (s *Session) stays(at time.Time) bool {
	if s.cred.mechanism != auth.MechanismExternal {
		return true
	}
	user, err := s.certified(at)
	if err != nil {
		return false
	}
	canonical, err := s.settings().Names.Normalize(user)
	return err == nil && canonical == s.cred.login(s.user)
}

// fingerprint names the client's certificate: it stands where other sessions have a password, and is none.
func (s *Session) fingerprint() telemetry.Secret {
	sum := sha256.Sum256(s.client.TLS().PeerCertificates[0].Raw)
	return telemetry.Secret(hex.EncodeToString(sum[:]))
}
