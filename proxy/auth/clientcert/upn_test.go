package clientcert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"imapproxy/internal/imaptest"
)

// der is a value with this content, which may be made of other values.
func der(class, tag int, compound bool, content ...[]byte) []byte {
	b, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: compound, Bytes: slices.Concat(content...)})
	if err != nil {
		panic(err)
	}
	return b
}

// other is a name of the kind otherName.
func other(id asn1.ObjectIdentifier, value ...[]byte) []byte {
	oid, err := asn1.Marshal(id)
	if err != nil {
		panic(err)
	}
	return der(asn1.ClassContextSpecific, 0, true, oid, der(asn1.ClassContextSpecific, 0, true, value...))
}

// upn is a user principal name, email a name of another kind, san the extension's value with some names.
func upn(name string) []byte {
	return other(oidUPN, der(asn1.ClassUniversal, asn1.TagUTF8String, false, []byte(name)))
}
func email(name string) []byte      { return der(asn1.ClassContextSpecific, 1, false, []byte(name)) }
func san(names ...[]byte) []byte    { return der(asn1.ClassUniversal, asn1.TagSequence, true, names...) }
func text(tag int, s string) []byte { return der(asn1.ClassUniversal, tag, false, []byte(s)) }

// Each subject alternative name that may be in a certificate, and whom it names.
func TestAUserPrincipalNameIsReadOrTheCertificateNamesNoUser(t *testing.T) {
	kerberos := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 2}
	root := imaptest.NewCA(t, "root")
	for name, c := range map[string]struct {
		value    []byte
		critical bool
		emptyDN  bool
		user     string
		err      error
	}{
		"one":                              {value: san(upn("alice@example.org")), user: "alice@example.org"},
		"critical, nothing else is in it":  {value: san(upn("alice@example.org")), critical: true, emptyDN: true, user: "alice@example.org"},
		"beside an email address":          {value: san(email("a@example.com"), upn("alice@example.org")), critical: true, user: "alice@example.org"},
		"beside another otherName":         {value: san(other(kerberos, text(asn1.TagUTF8String, "x")), upn("zoë@example.org")), user: "zoë@example.org"},
		"two":                              {value: san(upn("alice@example.org"), upn("bob@example.org")), err: ErrNoName},
		"twice the same":                   {value: san(upn("alice@example.org"), upn("alice@example.org")), err: ErrNoName},
		"an empty one":                     {value: san(upn("")), err: ErrNoName},
		"an email address alone":           {value: san(email("alice@example.org")), err: ErrNoName},
		"another otherName alone":          {value: san(other(kerberos, text(asn1.TagUTF8String, "alice@example.org"))), err: ErrNoName},
		"not UTF-8":                        {value: san(upn("alice\xff")), err: ErrNoName},
		"an IA5String":                     {value: san(other(oidUPN, text(asn1.TagIA5String, "alice@example.org"))), err: ErrNoName},
		"two texts in one":                 {value: san(other(oidUPN, text(asn1.TagUTF8String, "alice@example.org"), text(asn1.TagUTF8String, "x"))), err: ErrNoName},
		"no text":                          {value: san(other(oidUPN)), err: ErrNoName},
		"no value":                         {value: san(der(asn1.ClassContextSpecific, 0, true, func() []byte { b, _ := asn1.Marshal(oidUPN); return b }())), err: ErrNoName},
		"one that can't be read, and one":  {value: san(other(oidUPN, text(asn1.TagIA5String, "bob")), upn("alice@example.org")), err: ErrNoName},
		"one, and one that can't be read":  {value: san(upn("alice@example.org"), other(oidUPN, text(asn1.TagIA5String, "bob"))), err: ErrNoName},
		"an otherName that isn't compound": {value: san(der(asn1.ClassContextSpecific, 0, false, []byte("x")), upn("alice@example.org")), err: ErrNoName},
	} {
		t.Run(name, func(t *testing.T) {
			cert := root.Issue("", func(tpl *x509.Certificate) {
				if c.emptyDN {
					tpl.Subject = pkix.Name{}
				}
				tpl.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Critical: c.critical, Value: c.value}}
			})
			a, err := New(root.CertPEM, nil, SANUPN)
			if err != nil {
				t.Fatal(err)
			}
			if user, err := a.User([]*x509.Certificate{cert.Leaf}, time.Now()); user != c.user || !errors.Is(err, c.err) {
				t.Errorf("%q, %v; want %q, %v", user, err, c.user, c.err)
			}
		})
	}
	// A critical extension that isn't known stays a reason to refuse, and so does a critical name of which the settings want nothing.
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	named := pkix.Extension{Id: oidSAN, Critical: true, Value: san(upn("alice@example.org"))}
	for kind, extensions := range map[string][]pkix.Extension{SANUPN: {named, unknown}, CommonName: {named}} {
		cert := root.Issue("", func(tpl *x509.Certificate) { tpl.ExtraExtensions = extensions })
		a, err := New(root.CertPEM, nil, kind)
		if err != nil {
			t.Fatal(err)
		}
		if user, err := a.User([]*x509.Certificate{cert.Leaf}, time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q, %v", kind, user, err)
		}
	}
}

// Whatever the extension has in it, names are texts of it, or there is an error.
func FuzzPrincipalNames(f *testing.F) {
	f.Add(san(upn("alice@example.org"), email("a@example.org")))
	f.Add(san(other(oidUPN, text(asn1.TagIA5String, "x"))))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		names, err := principalNames(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN, Value: value}}})
		if err != nil && len(names) > 0 {
			t.Errorf("%q and %v", names, err)
		}
		for _, n := range names {
			if !utf8.ValidString(n) || len(n) > len(value) {
				t.Errorf("%q of %x", n, value)
			}
		}
	})
}
