package clientcert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"imapproxy/proxy/auth/clientcert"
)

func Example() {
	now := time.Now()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	issue := func(c, by *x509.Certificate) *x509.Certificate {
		c.SerialNumber, c.NotBefore, c.NotAfter, c.BasicConstraintsValid = big.NewInt(1), now, now.Add(time.Hour), true
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), key)
		if err != nil {
			panic(err)
		}
		issued, _ := x509.ParseCertificate(der)
		return issued
	}
	template := &x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	template.Subject.CommonName = "our users"
	authority := issue(template, template)
	alice := issue(&x509.Certificate{EmailAddresses: []string{"alice@example.org"}}, authority)

	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	authorities, err := clientcert.New(file, nil, clientcert.SANEmail)
	if err != nil {
		panic(err)
	}
	fmt.Println(authorities.User([]*x509.Certificate{alice}, now))
	fmt.Println(authorities.User([]*x509.Certificate{alice}, now.Add(2*time.Hour)))
	// Output:
	// alice@example.org <nil>
	//  the certificate, or one that it depends on, has expired or isn't valid yet
}
