package config

import (
	"fmt"
	"net"
	"net/url"
)

// longHash is from how many bits on a hash tells so much of a password that wrong guesses can be told from it.
const longHash = 24

// authPolicy checks where the policy server is, and what it learns of passwords.
func (d *decoder) authPolicy(c *Config) {
	p := c.AuthPolicy
	if p == nil {
		return
	}
	const path = "auth_policy"
	if u, err := url.Parse(p.ServerURL); !d.failed[path+".server_url"] {
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "":
			d.failed[path+".server_url"] = true // not shown: there may be a secret in it
			d.fail(d.at(path+".server_url"), path+".server_url isn't the URL of an HTTP service", "write https://wforce.example.org:8084/, in quotes")
		case u.Scheme == "http" && !onThisMachine(net.JoinHostPort(u.Hostname(), "80")):
			d.warn(d.at(path+".server_url"), fmt.Sprintf("%s.server_url: names and addresses of users, and the header, go to %s without TLS", path, u.Hostname()), "write https://…, unless no one else can read that network's traffic")
		case u.Scheme == "http" && p.CAFile != "":
			d.warn(d.at(path+".ca_file"), path+".ca_file has no meaning with an http:// URL", "remove it, or write https://…")
		}
	}
	if p.CAFile != "" {
		d.authorities(path+".ca_file", p.CAFile)
	}
	switch {
	case d.failed[path+".hash_truncate"]:
	case p.HashTruncate == 0 || p.HashTruncate > longHash:
		d.warn(d.at(path+".hash_truncate"), path+".hash_truncate: with so many bits of the hash the server's owner could find users' passwords by trying", "write 12")
	}
	if !p.CheckBeforeAuth && !p.CheckAfterAuth && !p.ReportAfterAuth {
		d.warn(d.at(path), path+": nothing is asked and nothing reported", "write check_before_auth = true, or remove the block")
	}
}
