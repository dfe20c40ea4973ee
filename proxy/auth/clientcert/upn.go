package clientcert

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"unicode/utf8"
)

var (
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// errSAN says that a subject alternative name isn't one.
var errSAN = errors.New("the certificate's subject alternative name can't be read")

// principalNames returns the user principal names of a certificate's subject alternative name, which crypto/x509 doesn't read:
//
//	GeneralNames ::= SEQUENCE OF GeneralName              RFC 5280 §4.2.1.6
//	otherName    [0] IMPLICIT SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }
//	value of a user principal name: UTF8String
//
// Names of other kinds are skipped. crypto/x509 refuses a certificate in which the extension is there twice.
func principalNames(c *x509.Certificate) (names []string, err error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		all, ok := inside(e.Value, asn1.ClassUniversal, asn1.TagSequence)
		for len(all) > 0 && ok {
			var one asn1.RawValue
			if all, err = asn1.Unmarshal(all, &one); err != nil {
				return nil, errSAN
			}
			if one.Class != asn1.ClassContextSpecific || one.Tag != 0 {
				continue
			}
			var name string
			var of bool
			if name, of, ok = principalName(one); of && ok {
				names = append(names, name)
			}
		}
		if !ok {
			return nil, errSAN
		}
	}
	return names, nil
}

// principalName reads an otherName. of says that it is a user principal name; not ok: it can't be read.
func principalName(other asn1.RawValue) (name string, of, ok bool) {
	var id asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(other.Bytes, &id)
	if err != nil || !other.IsCompound {
		return "", false, false
	}
	if !id.Equal(oidUPN) {
		return "", false, true
	}
	value, ok := inside(rest, asn1.ClassContextSpecific, 0)
	if !ok {
		return "", true, false
	}
	var text asn1.RawValue
	rest, err = asn1.Unmarshal(value, &text)
	ok = err == nil && len(rest) == 0 && text.Class == asn1.ClassUniversal && text.Tag == asn1.TagUTF8String && !text.IsCompound && utf8.Valid(text.Bytes)
	return string(text.Bytes), true, ok
}

// inside returns what is in the one value, made of others, that der has.
func inside(der []byte, class, tag int) (content []byte, ok bool) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	return v.Bytes, err == nil && len(rest) == 0 && v.Class == class && v.Tag == tag && v.IsCompound
}

// withReadSAN returns the certificate as one whose subject alternative name has been read: crypto/x509 refuses a critical one with
// nothing in it that it knows (RFC 5280 §4.2.1.6 wants it critical where the subject is empty).
func withReadSAN(c *x509.Certificate) *x509.Certificate {
	read := *c
	read.UnhandledCriticalExtensions = nil
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSAN) {
			read.UnhandledCriticalExtensions = append(read.UnhandledCriticalExtensions, id)
		}
	}
	return &read
}
