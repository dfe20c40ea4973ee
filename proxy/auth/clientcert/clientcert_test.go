package clientcert

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

func parsed(t *testing.T, c tls.Certificate, between ...*imaptest.CA) []*x509.Certificate {
	t.Helper()
	all := []*x509.Certificate{c.Leaf}
	for _, ca := range between {
		all = append(all, ca.Cert)
	}
	return all
}

// Each certificate that a client may send, and what becomes of it.
func TestACertificateIsGoodOrItIsSaidWhyNot(t *testing.T) {
	root, other := imaptest.NewCA(t, "root"), imaptest.NewCA(t, "other")
	named := imaptest.NewCA(t, "root") // another authority that calls itself the same
	between := root.Below("between")
	deep := between.Below("deep")
	good := root.Issue("alice@example.org")
	revoked := root.Issue("alice@example.org")
	email := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "carol@example.org"}
	cn := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "second"}
	with := func(more ...pkix.AttributeTypeAndValue) tls.Certificate {
		return root.Issue("", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "carol", ExtraNames: more} })
	}
	lists := slices.Concat(root.Revocations([]*x509.Certificate{revoked.Leaf}), between.Revocations(nil))
	old := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	early := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	both := slices.Concat(root.CertPEM, between.CertPEM)
	for name, c := range map[string]struct {
		ca, crl []byte
		kind    string
		sent    []*x509.Certificate
		at      time.Duration
		user    string
		err     error
	}{
		"good":                          {ca: root.CertPEM, sent: parsed(t, good), user: "alice@example.org"},
		"none":                          {ca: root.CertPEM, err: ErrNone},
		"expired":                       {ca: root.CertPEM, sent: parsed(t, good), at: 25 * time.Hour, err: ErrTime},
		"not valid yet":                 {ca: root.CertPEM, sent: parsed(t, good), at: -25 * time.Hour, err: ErrTime},
		"its authority has expired":     {ca: root.CertPEM, sent: parsed(t, root.Issue("a@example.org", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(99 * time.Hour) })), at: 60 * time.Hour, err: ErrTime},
		"another authority":             {ca: root.CertPEM, sent: parsed(t, other.Issue("alice@example.org")), err: ErrAuthority},
		"an authority of the same name": {ca: root.CertPEM, sent: parsed(t, named.Issue("alice@example.org"), named), err: ErrAuthority},
		"one of two authorities":        {ca: slices.Concat(root.CertPEM, other.CertPEM), sent: parsed(t, other.Issue("bob@example.org")), user: "bob@example.org"},
		"the authority's own":           {ca: root.CertPEM, sent: []*x509.Certificate{root.Cert}, err: ErrNoName},
		"a server's":                    {ca: root.CertPEM, sent: parsed(t, root.Issue("alice@example.org", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), err: ErrUse},
		"issued by a user":              {ca: root.CertPEM, sent: []*x509.Certificate{imaptest.IssuedBy(t, good, "mallory@example.org").Leaf, good.Leaf}, err: ErrAuthority},
		"one in between":                {ca: root.CertPEM, sent: parsed(t, between.Issue("bob@example.org"), between), user: "bob@example.org"},
		"one in between isn't sent":     {ca: root.CertPEM, sent: parsed(t, between.Issue("bob@example.org")), err: ErrAuthority},
		"one in between, of the file":   {ca: both, sent: parsed(t, between.Issue("bob@example.org")), user: "bob@example.org"},
		"only the one in between":       {ca: between.CertPEM, sent: parsed(t, between.Issue("bob@example.org")), user: "bob@example.org"},
		"only it, and its root's":       {ca: between.CertPEM, sent: parsed(t, good), err: ErrAuthority},

		"not revoked":                      {ca: both, crl: lists, sent: parsed(t, good), user: "alice@example.org"},
		"revoked":                          {ca: both, crl: lists, sent: parsed(t, revoked), err: ErrRevoked},
		"revoked, no list wanted":          {ca: both, sent: parsed(t, revoked), user: "alice@example.org"},
		"by one in between":                {ca: both, crl: lists, sent: parsed(t, between.Issue("bob@example.org")), user: "bob@example.org"},
		"the one in between is revoked":    {ca: both, crl: slices.Concat(root.Revocations([]*x509.Certificate{between.Cert}), between.Revocations(nil)), sent: parsed(t, between.Issue("bob@example.org")), err: ErrRevoked},
		"no list of the one in between":    {ca: both, crl: root.Revocations(nil), sent: parsed(t, between.Issue("bob@example.org")), err: ErrNoList},
		"one in between that no one knows": {ca: both, crl: lists, sent: parsed(t, deep.Issue("bob@example.org"), deep), err: ErrNoList},
		"the list is over":                 {ca: root.CertPEM, crl: root.Revocations(nil, old), sent: parsed(t, good), err: ErrOldList},
		"the list isn't valid yet":         {ca: root.CertPEM, crl: root.Revocations(nil, early), sent: parsed(t, good), err: ErrOldList},
		"an old list and a new one":        {ca: root.CertPEM, crl: slices.Concat(root.Revocations([]*x509.Certificate{revoked.Leaf}), root.Revocations(nil, old)), sent: parsed(t, revoked), err: ErrRevoked},
		"a new list and an old one":        {ca: root.CertPEM, crl: slices.Concat(root.Revocations(nil, old), root.Revocations([]*x509.Certificate{revoked.Leaf})), sent: parsed(t, revoked), err: ErrRevoked},

		"no name":              {ca: root.CertPEM, sent: parsed(t, root.Issue("")), err: ErrNoName},
		"two names":            {ca: root.CertPEM, sent: parsed(t, root.Issue("", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org", "b@example.org"} })), err: ErrNoName},
		"the CN isn't asked":   {ca: root.CertPEM, sent: parsed(t, with()), err: ErrNoName},
		"CN":                   {ca: root.CertPEM, kind: CommonName, sent: parsed(t, with()), user: "carol"},
		"two CNs":              {ca: root.CertPEM, kind: CommonName, sent: parsed(t, with(cn, cn)), err: ErrNoName},
		"email of the subject": {ca: root.CertPEM, kind: SubjectEmail, sent: parsed(t, with(email)), user: "carol@example.org"},
		"two of the subject":   {ca: root.CertPEM, kind: SubjectEmail, sent: parsed(t, with(email, email)), err: ErrNoName},
		"none of the subject":  {ca: root.CertPEM, kind: SubjectEmail, sent: parsed(t, good), err: ErrNoName},
	} {
		t.Run(name, func(t *testing.T) {
			kind := c.kind
			if kind == "" {
				kind = SANEmail
			}
			a, err := New(c.ca, c.crl, kind)
			if err != nil {
				t.Fatal(err)
			}
			user, err := a.User(c.sent, time.Now().Add(c.at))
			if user != c.user || !errors.Is(err, c.err) {
				t.Errorf("%q, %v; want %q, %v", user, err, c.user, c.err)
			}
		})
	}
}

// Files by which it couldn't be said who is revoked aren't used.
func TestFilesThatDontSayWhoIsGoodAreRefused(t *testing.T) {
	root, other := imaptest.NewCA(t, "root"), imaptest.NewCA(t, "other")
	user, _ := imaptest.PEM(t, root.Issue("alice@example.org"))
	part := func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	}
	for name, c := range map[string]struct {
		ca, crl []byte
		kind    string
		err     string
	}{
		"no authority":            {ca: []byte("hello"), err: "no PEM block"},
		"a user's certificate":    {ca: user, err: "isn't an authority's"},
		"no certificate":          {ca: []byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), err: "ca_file"},
		"an empty list":           {ca: root.CertPEM, crl: []byte{}, err: "no PEM block"},
		"another's list":          {ca: root.CertPEM, crl: other.Revocations(nil), err: "isn't by a certificate of ca_file"},
		"a list of the name":      {ca: root.CertPEM, crl: imaptest.NewCA(t, "root").Revocations(nil), err: "isn't by a certificate of ca_file"},
		"a part of a list":        {ca: root.CertPEM, crl: root.Revocations(nil, part), err: "only a part"},
		"a broken list":           {ca: root.CertPEM, crl: []byte("-----BEGIN X509 CRL-----\naGVsbG8=\n-----END X509 CRL-----\n"), err: "crl_file"},
		"a name that isn't there": {ca: root.CertPEM, kind: "serial", err: "no name"},
	} {
		kind := c.kind
		if kind == "" {
			kind = SANEmail
		}
		if _, err := New(c.ca, c.crl, kind); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
