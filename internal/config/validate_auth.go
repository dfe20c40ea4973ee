package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// auth checks the credential sources, and fills in the one that holds without a block.
func (d *decoder) auth(c *Config) {
	if len(c.Auth) == 0 && !d.written("auth") {
		c.Auth = []Auth{{Backend: &AuthBackend{Mechanisms: []string{}}}}
	}
	var last Auth // a source after which no other is asked about passwords
	for _, a := range c.Auth {
		if last.Backend != nil {
			d.warn(d.at("auth"), "auth \"backend\" decides about every user: the sources after it are never asked", "write it last")
			break
		} else if last.Dovecot != nil && a.OAuth == nil {
			d.warn(d.at(a.Path()), fmt.Sprintf("%s decides about every user, since Dovecot doesn't tell an unknown user from a wrong password: %s after it is never asked", last, a), fmt.Sprintf("write %s last", last))
			break
		}
		if a.Backend != nil || a.Dovecot != nil {
			last = a
		}
	}
	d.scram(c)
	for _, a := range c.Auth {
		if a.Backend != nil {
			d.authBackend(a.Path(), a.Backend)
		}
		if a.HTTP != nil {
			d.authHTTP(a.Path(), a.HTTP)
		}
		if a.LDAP != nil {
			d.authLDAP(a.Path(), a.LDAP)
		}
		if a.SQL != nil {
			d.authSQL(a.Path(), a.SQL)
		}
		if a.Dovecot != nil {
			d.authDovecot(a.Path(), a.Dovecot)
		}
		if a.OAuth != nil {
			d.authOAuth(a.Path(), a.OAuth)
		}
	}
}

// authHTTP checks where the service is, and what is sent along.
func (d *decoder) authHTTP(path string, h *AuthHTTP) {
	if u, err := url.Parse(h.URL); !d.failed[path+".url"] {
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			d.failed[path+".url"] = true // not shown: there may be a secret in it
			d.fail(d.at(path+".url"), path+".url isn't the URL of an HTTP service", "write http://127.0.0.1:9000/auth, in quotes")
		case u.Scheme == "http" && !onThisMachine(net.JoinHostPort(u.Hostname(), "80")):
			d.warn(d.at(path+".url"), fmt.Sprintf("%s.url: passwords go to %s without TLS", path, u.Hostname()), "write https://…, unless no one else can read that network's traffic")
		case u.Scheme == "http" && h.CAFile != "":
			d.warn(d.at(path+".ca_file"), path+".ca_file has no meaning with an http:// URL", "remove it, or write https://…")
		}
	}
	if h.CAFile != "" {
		d.authorities(path+".ca_file", h.CAFile)
	}
	for name, value := range h.Headers {
		reserved := slices.ContainsFunc([]string{"auth-", "client-", "host", "content-", "transfer-", "connection"}, func(p string) bool {
			return strings.HasPrefix(strings.ToLower(name), p)
		})
		switch {
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !headerRune(r) }) || strings.ContainsAny(value, "\r\n\x00"):
			d.fail(d.at(path+".headers"), path+".headers: a name isn't that of a header, or a value has a line break in it", "write each header as one line")
		case reserved:
			d.fail(d.at(path+".headers"), fmt.Sprintf("%s.headers: %s is a header of the protocol", path, name), "write another name, such as X-Auth-Key")
		default:
			continue
		}
		d.failed[path+".headers"] = true
		return
	}
}

// authLDAP checks where the directory is, and that the settings say in one way which entry is a user's.
func (d *decoder) authLDAP(path string, l *AuthLDAP) {
	if u, err := url.Parse(l.URL); !d.failed[path+".url"] {
		switch {
		case err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			d.failed[path+".url"] = true
			d.fail(d.at(path+".url"), path+".url isn't the URL of an LDAP directory", "write ldaps://ldap.example.org, or ldap://ldap.example.org:389 with start_tls = true, and nothing behind it")
		case u.Scheme == "ldaps" && l.StartTLS:
			d.fail(d.at(path+".start_tls"), path+": start_tls with an ldaps:// URL, which is under TLS already", "write an ldap:// URL, or remove start_tls")
		case u.Scheme == "ldap" && !l.StartTLS && !onThisMachine(net.JoinHostPort(u.Hostname(), "389")):
			d.warn(d.at(path+".url"), fmt.Sprintf("%s.url: passwords go to %s without TLS", path, u.Hostname()), "write start_tls = true, or an ldaps:// URL")
		}
	}
	if l.CAFile != "" {
		d.authorities(path+".ca_file", l.CAFile)
	}
	switch {
	case l.UserDN != "" && (l.Filter != "" || l.Base != "" || l.BindDN != ""):
		d.fail(d.at(path), path+": user_dn says which entry is a user's, and so do base and filter", "remove user_dn, or base, filter and bind_dn")
	case l.UserDN == "" && (l.Filter == "" || l.Base == ""):
		d.fail(d.at(path), path+": nothing says which entry is a user's", "%s", `write user_dn = "uid=%n,ou=people,dc=example,dc=org", or base = "ou=people,dc=example,dc=org" and filter = "(mail=%u)"`)
	case (l.BindDN == "") != (l.PasswordFile == "") && !d.failed[path+".password_file"]:
		d.fail(d.at(path), path+": bind_dn and password_file only work together", "write both, or none for an anonymous search")
	case (l.GroupBase == "") != (l.GroupFilter == ""):
		d.fail(d.at(path), path+": group_base and group_filter only work together", "write both or none")
	}
	for name, template := range map[string]string{"user_dn": l.UserDN, "filter": l.Filter} {
		if text := strings.ReplaceAll(template, "%%", ""); text != "" && !strings.Contains(text, "%u") && !strings.Contains(text, "%n") {
			d.fail(d.at(path+"."+name), fmt.Sprintf("%s.%s: without %%u or %%n it means the same entry for all users", path, name), "write %%u for the user's name, or %%n for its part before the @")
		}
	}
}

// authSQL checks what the driver would report only at the first login. internal/wiring checks that the query
// and the DSN can be parsed.
func (d *decoder) authSQL(path string, s *AuthSQL) {
	if s.CAFile != "" {
		d.authorities(path+".ca_file", s.CAFile)
	}
	if text := strings.ReplaceAll(s.Query, "%%", ""); !d.failed[path+".query"] && strings.Contains(text, "%d") && !strings.Contains(text, "%u") && !strings.Contains(text, "%n") {
		d.fail(d.at(path+".query"), path+".query: with %d alone it finds the same row for all users of a domain", "%s", "write %u for the user's name, or %n for its part before the @")
	}
	if d.failed[path+".driver"] || d.failed[path+".dsn"] {
		return
	}
	if s.Driver == "sqlite" {
		if !strings.HasPrefix(s.DSN, "/") {
			d.fail(d.at(path+".dsn"), path+".dsn isn't the whole path of a file", "write dsn = \"/var/lib/mail/users.db\"")
		}
		for setting, value := range map[string]string{"password_file": s.PasswordFile, "ca_file": s.CAFile} {
			if value != "" {
				d.fail(d.at(path+"."+setting), fmt.Sprintf("%s.%s has no meaning with driver \"sqlite\"", path, setting), "remove it")
			}
		}
		return
	}
	dsn := readDSN(s.Driver, s.DSN)
	switch {
	case dsn.password:
		d.failed[path+".dsn"] = true // not shown
		d.fail(d.at(path+".dsn"), path+".dsn has a password in it", "write the password into a file, and password_file = \"sql.password\"")
	case s.CAFile != "" && !dsn.verified:
		d.fail(d.at(path+".ca_file"), path+".ca_file has no meaning, since dsn doesn't have the database's certificate verified", "%s, or remove ca_file", dsn.verify)
	case dsn.host != "" && !dsn.verified && !onThisMachine(net.JoinHostPort(dsn.host, "1")):
		d.warn(d.at(path+".dsn"), fmt.Sprintf("%s.dsn: password hashes come from %s without TLS, or without a look at its certificate", path, dsn.host), dsn.verify)
	}
}

// dsn is what a data source name says.
type dsn struct {
	host     string // "": a unix socket, or one that can't be read
	password bool   // there is one in it
	verified bool   // the connection is under TLS, and the certificate is verified
	verify   string // what to do to have it verified
}

// readDSN reads the DSN of a driver, as far as it can.
//
//	postgres  postgres://USER@HOST:PORT/DATABASE?sslmode=…, or host=HOST user=USER sslmode=…
//	mysql     USER@tcp(HOST:PORT)/DATABASE?tls=…
func readDSN(driver, text string) (r dsn) {
	if driver == "mysql" {
		r.verify = "write ?tls=true behind the database's name"
		before, rest, at := cutLast(text, "@")
		_, before = cutScheme(before)
		r.password = at && strings.Contains(before, ":")
		if address, ok := strings.CutPrefix(rest, "tcp("); ok {
			address, _, _ = strings.Cut(address, ")")
			if r.host = address; strings.Contains(address, ":") {
				r.host, _, _ = net.SplitHostPort(address)
			}
		}
		_, query, _ := strings.Cut(rest, "?")
		values, _ := url.ParseQuery(query)
		mode := strings.ToLower(values.Get("tls"))
		r.verified = mode == "true" || mode == "1"
		return r
	}
	r.verify = "write sslmode=verify-full into dsn"
	r.verified = strings.Contains(text, "sslmode=verify-full") || strings.Contains(text, "sslmode=verify-ca")
	r.password = strings.Contains(text, "password=")
	if scheme, rest := cutScheme(text); scheme {
		before, _, at := cutLast(strings.SplitN(rest, "/", 2)[0], "@")
		r.password = r.password || at && strings.Contains(before, ":")
		if u, err := url.Parse(text); err == nil {
			r.host = u.Hostname()
		}
		return r
	}
	for _, field := range strings.Fields(text) {
		if host, ok := strings.CutPrefix(field, "host="); ok && !strings.HasPrefix(host, "/") {
			r.host = host
		}
	}
	return r
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// cutScheme cuts the scheme of a URL.
func cutScheme(s string) (found bool, rest string) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return true, rest
	}
	return false, s
}

// authDovecot checks where Dovecot is.
func (d *decoder) authDovecot(path string, a *AuthDovecot) {
	path += ".address"
	if d.failed[path] {
		return
	}
	if strings.HasPrefix(a.Address, "/") {
		if len(a.Address) > maxSocketPath {
			d.fail(d.at(path), fmt.Sprintf("%s has %d bytes: the path of a unix socket has at most %d", path, len(a.Address), maxSocketPath), "write a shorter one")
		}
		return
	}
	host, port, err := net.SplitHostPort(a.Address)
	n, nerr := strconv.Atoi(port)
	switch {
	case err != nil || host == "" || nerr != nil || n < 1 || n > 65535:
		d.fail(d.at(path), fmt.Sprintf("%s: %q is neither the whole path of a unix socket nor host:port", path, a.Address),
			"write /run/dovecot/auth-imapproxy or 127.0.0.1:12345, in quotes")
	case !onThisMachine(a.Address):
		d.warn(d.at(path), fmt.Sprintf("%s: passwords go to %s without TLS, which Dovecot's service auth doesn't have", path, host),
			"use a unix socket, or a network or tunnel whose traffic no one else can read")
	}
}

// headerRune says whether a header's name may have r (RFC 9110 §5.6.2, less characters that headers don't
// have in practice).
func headerRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// placements refuses separate storage if no source tells which user's mail is on which backend: no user could
// log in.
func (d *decoder) placements(c *Config) {
	if c.Routing.Storage != "separate" || c.Discovery.Static == nil || len(c.Domains) > 0 || d.written("domain") {
		return // in Consul's KV store there may be placements
	}
	for _, a := range c.Auth {
		if a.places() {
			return
		}
	}
	for path := range d.ranges {
		if strings.HasPrefix(path, "auth.") && !strings.HasPrefix(path, "auth.backend") {
			return // it is reported already
		}
	}
	d.fail(d.at("routing.storage"), "routing.storage: with \"separate\" each user needs a placement, and nothing here can name one: there is no auth block besides \"backend\", and no Consul",
		"write auth \"passwd_file\" { … } with backend=ID in each user's line, another source that names backends (docs/authentication.md), domain \"example.org\" { placement = \"ID\" }, or discovery \"consul\" { … }, or storage = \"shared\" if every backend serves every mailbox")
}

// places says whether the source can name a user's backend.
func (a Auth) places() bool {
	return a.PasswdFile != nil || a.HTTP != nil || a.LDAP != nil && a.LDAP.PlacementAttribute != "" || a.SQL != nil || a.Dovecot != nil
}
