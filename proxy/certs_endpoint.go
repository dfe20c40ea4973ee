package proxy

import (
	"crypto"
	"crypto/x509"
)

// endPoints returns tls-server-end-point of each certificate: a client that has seen one of them is connected to the
// proxy. (Which one a connection has isn't known where TLS was resumed.)
func (c *certificates) endPoints() (all [][]byte) {
	for _, cert := range c.now.Load().certs {
		if h := endPointHash(cert.Leaf.SignatureAlgorithm); h != 0 {
			sum := h.New()
			sum.Write(cert.Leaf.Raw)
			all = append(all, sum.Sum(nil))
		}
	}
	return all
}

// endPointHash is the hash of a certificate by RFC 5929 §4.1: the one of its signature, and instead of MD5 and SHA-1
// SHA-256. 0: there is none by the RFC (Ed25519).
func endPointHash(a x509.SignatureAlgorithm) crypto.Hash {
	switch a {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		return crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}
