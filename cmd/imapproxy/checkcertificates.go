package main

import (
	"context"
	"slices"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
)

// clientCertificates reads the files by which clients' certificates are verified.
func (k *checker) clientCertificates(what string, l config.Listener) {
	cc := l.ClientCertificates
	if cc == nil {
		return
	}
	a, err := proxy.ClientCertificates{CAFile: cc.CAFile, CRLFile: cc.CRLFile, Name: cc.Name}.Read()
	if err != nil {
		k.report.fail(what, "correct client_certificates", "%v", err)
		return
	}
	for _, name := range a.WithoutList() {
		k.report.warn(what, "add its list to crl_file: openssl ca -gencrl", "no revocation list of %s: none of its certificates is good", name)
	}
	for _, c := range a.Ends() {
		const renew = "renew it; a running proxy takes the new file by itself"
		until := c.Until.Format(time.RFC3339)
		switch left := time.Until(c.Until); {
		case left < 0:
			k.report.fail(what, renew, "the %s has ended on %s: none of its certificates is good", c.What, until)
		case left < soon && !c.List:
			k.report.warn(what, renew, "the %s ends on %s", c.What, until)
		}
	}
	k.report.ok(what, "clients may log in by certificates of %s, with the name in %s", count(a.Count(), "authority"), cc.Name)
}

// byCertificate says whether clients can log in by certificates.
func (k *checker) byCertificate() bool {
	return slices.ContainsFunc(k.cfg.Listeners, func(l config.Listener) bool { return l.ClientCertificates != nil })
}

// sourceByCertificate tries a source as logins by certificates ask it.
func (k *checker) sourceByCertificate(ctx context.Context, s auth.Source) {
	if t, ok := s.(auth.CertifierTrier); ok && k.byCertificate() {
		said, err := t.TryCertified(ctx)
		k.tried("auth "+s.Name(), said, err)
	}
}

// userByCertificate says whether the user would be let in by a certificate that names them.
func (k *checker) userByCertificate(ctx context.Context, sources []auth.Source) {
	if !k.byCertificate() {
		return
	}
	credentials, err := auth.NewNamed(wiring.Names(k.cfg), auth.MechanismExternal, "", k.user)
	if err != nil {
		return // it is said of the name already
	}
	credentials.TLS, credentials.Attempt = true, 1
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	verdict, source := auth.First(ctx, sources, credentials)
	switch v := verdict.(type) {
	case auth.Accepted:
		k.report.ok("user", "%s lets %s in by a certificate", source, k.canonical)
	case auth.Rejected:
		k.report.skip("user", "if they have a certificate, correct their entry", "%s lets %s in by no certificate: %s", source, k.canonical, v.Reason)
	case auth.Unavailable:
		k.report.fail("user", "", "%s can't say whether %s may log in by a certificate: %v", source, k.canonical, v.Err)
	}
}
