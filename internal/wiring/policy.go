package wiring

import (
	"crypto/sha256"

	"imapproxy/internal/config"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/telemetry"
)

// Policy makes the client of the policy server, which the caller closes; nil: there is none.
func Policy(c *config.Config, tel *telemetry.Telemetry) (*authpolicy.Client, error) {
	p := c.AuthPolicy
	if p == nil {
		return nil, nil
	}
	o := PolicyOptions(p)
	o.Telemetry = tel
	var err error
	if o.HashNonce, err = Secret(p.HashNonceFile); err != nil {
		return nil, About("auth_policy.hash_nonce_file", err)
	}
	if p.ServerAPIHeaderFile != "" {
		if o.Header, err = Secret(p.ServerAPIHeaderFile); err != nil {
			return nil, About("auth_policy.server_api_header_file", err)
		}
	}
	if o.RootCAs, err = roots(p.CAFile); err != nil {
		return nil, About("auth_policy.ca_file", err)
	}
	client, err := authpolicy.New(o)
	return client, About("auth_policy", err)
}

// PolicyOptions returns the options of the policy server's client, except the secrets, the authorities and telemetry.
func PolicyOptions(p *config.AuthPolicy) authpolicy.Options {
	return authpolicy.Options{
		URL: p.ServerURL, HashMech: p.HashMech, HashTruncate: p.HashTruncate,
		CheckBefore: p.CheckBeforeAuth, CheckAfter: p.CheckAfterAuth, Report: p.ReportAfterAuth,
		RejectOnFail: p.RejectOnFail, LogOnly: p.LogOnly, Asking: asking(p.Concurrency, p.ServerTimeout),
	}
}

// PolicyFiles returns a digest of the files that Policy reads.
func PolicyFiles(c *config.Config) [sha256.Size]byte {
	if p := c.AuthPolicy; p != nil {
		return digestOf([]string{p.HashNonceFile, p.ServerAPIHeaderFile, p.CAFile})
	}
	return digestOf(nil)
}
