package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// auth checks the credential sources, and fills in the one that holds without a block.
func (d *decoder) auth(c *Config) {
	if len(c.Auth) == 0 && !d.written("auth") {
		c.Auth = []Auth{{Backend: &AuthBackend{}}}
	}
	backend := false
	for _, a := range c.Auth {
		if backend {
			d.warn(d.at("auth"), "auth \"backend\" decides about every user: the sources after it are never asked", "write it last")
			break
		}
		backend = a.Backend != nil
	}
	for _, a := range c.Auth {
		if a.HTTP != nil {
			d.authHTTP(a.HTTP)
		}
	}
}

// authHTTP checks where the service is, and what is sent along.
func (d *decoder) authHTTP(h *AuthHTTP) {
	const path = "auth.http"
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

// headerRune says whether a header's name may have r (RFC 9110 §5.6.2, less what no one writes).
func headerRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// placements refuses separate storage where nothing can say whose mail is where: nobody
// could log in.
func (d *decoder) placements(c *Config) {
	if c.Routing.Storage != "separate" || c.Discovery.Static == nil {
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
		"write auth \"passwd_file\" { … } with backend=ID in each user's line, another source that names backends (docs/authentication.md), or discovery \"consul\" { … }, or storage = \"shared\" if every backend serves every mailbox")
}

// places says whether the source can name a user's backend.
func (a Auth) places() bool { return a.PasswdFile != nil || a.HTTP != nil }
