package config

import "fmt"

// certifies says whether the source can tell without a password whether a user may log in.
func (a Auth) certifies() bool {
	return a.PasswdFile != nil || a.Dovecot != nil || a.HTTP != nil || a.SQL != nil || a.LDAP != nil && a.LDAP.UserDN == ""
}

// clientCertificates checks that users can log in by a certificate, and that no earlier source, which isn't
// asked about certificates, could have locked them.
func (d *decoder) clientCertificates(c *Config, l Listener) {
	path := "listener." + l.Name + ".client_certificates"
	if l.TLS == "none" {
		d.fail(d.at(path), path+" has no meaning with tls = \"none\"", "remove it, or write tls = \"implicit\" or tls = \"starttls\"")
		return
	}
	if l.ClientCertificates.CAFile != "" {
		d.authorities(path+".ca_file", l.ClientCertificates.CAFile)
	}
	if c.BackendLogin.Mode != "master" && !d.failed["backend_login.mode"] {
		d.fail(d.at(path), path+": a client that logs in by its certificate sends no password, so the proxy has none for the backend", "write backend_login { … } with mode = \"master\"")
	}
	before, any := "", false
	for _, a := range c.Auth {
		switch {
		case a.OAuth != nil:
		case !a.certifies():
			if before == "" {
				before = a.String()
			}
		case before != "":
			d.fail(d.at(a.Path()), fmt.Sprintf("%s: %s before %s can't tell without a password whether a user may log in, so a user that it has locked would be let in by a certificate", path, before, a),
				"write %s first", a)
			return
		default:
			any = true
			if a.LDAP != nil && a.LDAP.Allow == "" && a.LDAP.GroupFilter == "" {
				d.warn(d.at(a.Path()), path+": the directory isn't asked for a bind, so an account that it has locked is let in by a certificate", "write allow, with a filter that no locked account matches")
			}
		}
	}
	if !any {
		d.fail(d.at(path), path+": no source can tell without a password whether a user may log in", "write auth \"passwd_file\", \"sql\", \"http\", \"dovecot\", or \"ldap\" with base and filter")
	}
}
