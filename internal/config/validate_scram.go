package config

import "fmt"

// scram is what the source offers of SCRAM.
func (a Auth) scram() []string {
	switch {
	case a.PasswdFile != nil:
		return a.PasswdFile.Scram
	case a.LDAP != nil:
		return a.LDAP.Scram
	case a.SQL != nil:
		return a.SQL.Scram
	}
	return nil
}

// scram checks that the users of a source that offers SCRAM can log in by it, and that no earlier source, which
// isn't asked about SCRAM, could have locked them.
func (d *decoder) scram(c *Config) {
	before := "" // a source that is asked about passwords, and not by SCRAM
	any := false
	for _, a := range c.Auth {
		path := a.Path()
		for _, m := range a.scram() {
			if m != "SCRAM-SHA-256" && m != "SCRAM-SHA-1" {
				d.fail(d.at(path+".scram"), fmt.Sprintf("%s.scram: there is no %q", path, m), "write \"SCRAM-SHA-256\", \"SCRAM-SHA-1\" or both; their -PLUS are offered as well, under TLS")
				d.failed[path+".scram"] = true
				break
			}
		}
		if len(a.scram()) == 0 {
			if a.OAuth == nil && before == "" {
				before = a.String()
			}
			if a.LDAP != nil && a.LDAP.ScramAttribute != "" {
				d.fail(d.at(path+".scram_attribute"), path+".scram_attribute without scram", "write scram = [\"SCRAM-SHA-256\"] as well, or remove it")
			}
			continue
		}
		any = true
		if before != "" {
			d.fail(d.at(path+".scram"), fmt.Sprintf("%s.scram: %s before it isn't asked about SCRAM, so a user that it has locked would be let in", path, before),
				"write the blocks with scram first")
		}
		if a.LDAP != nil {
			switch {
			case a.LDAP.UserDN != "":
				d.fail(d.at(path+".scram"), path+".scram with user_dn: the keys are read by a search, before it is known whether the user knows the password", "write base and filter instead of user_dn")
			case a.LDAP.ScramAttribute == "":
				d.fail(d.at(path+".scram"), path+".scram without scram_attribute, which has the users' keys", "write scram_attribute = \"…\"")
			case a.LDAP.Allow == "" && a.LDAP.GroupFilter == "":
				d.warn(d.at(path+".scram"), path+".scram: the directory isn't asked for a bind, so an account that it has locked is let in by SCRAM", "write allow, with a filter that no locked account matches")
			}
		}
		if c.BackendLogin.Mode != "master" && !d.failed["backend_login.mode"] {
			d.fail(d.at(path+".scram"), path+".scram: a client that logs in by SCRAM doesn't send the password, so the proxy has none for the backend", "write backend_login { … } with mode = \"master\"")
		}
	}
	switch written := c.Users.ScramSecretFile != ""; {
	case any && !written && !d.failed["users.scram_secret_file"]:
		d.fail(d.at("users"), "users.scram_secret_file is missing: with scram, it is what keys are made from for users who have none", "openssl rand -base64 32 > scram.secret, on each proxy the same, and write scram_secret_file = \"scram.secret\"")
	case written && !any:
		d.warn(d.at("users.scram_secret_file"), "users.scram_secret_file has no effect: no source has scram", "remove it")
	}
}
