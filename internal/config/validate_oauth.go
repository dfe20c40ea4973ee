package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// publicKeyAlgorithms are the signatures' algorithms that a token may have.
var publicKeyAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// authOAuth checks the provider's URLs, and that the settings don't accept every token of the provider.
func (d *decoder) authOAuth(path string, o *AuthOAuth) {
	for name, value := range map[string]string{"issuer": o.Issuer, "jwks_url": o.JWKSURL, "introspection_url": o.IntrospectionURL} {
		d.providerURL(path+"."+name, value)
	}
	if o.CAFile != "" {
		d.authorities(path+".ca_file", o.CAFile)
	}
	switch {
	case o.Issuer == "" && o.IntrospectionURL == "" && !d.failed[path+".issuer"] && !d.failed[path+".introspection_url"]:
		d.fail(d.at(path), path+": no setting says whose tokens are accepted", "write issuer = \"https://id.example.org\", as the tokens' iss has it, or introspection_url = \"https://…\"")
	case o.ClientSecretFile != "" && o.ClientID == "":
		d.fail(d.at(path+".client_secret_file"), path+".client_secret_file without client_id, whose secret it is", "write client_id as well")
	case o.IntrospectionURL == "" && o.ClientID != "":
		d.fail(d.at(path+".client_id"), path+".client_id is for introspection_url, which isn't there", "remove it, or write introspection_url")
	case len(o.Audience)+len(o.Clients) == 0 && o.IntrospectionURL == "":
		d.fail(d.at(path), path+": a token that the issuer has made for any other service would be let in", "write audience = [\"…\"], what the tokens for your mail have as aud, or clients = [\"…\"], the mail programs' client ids")
	case len(o.Audience)+len(o.Clients)+len(o.Scopes) == 0:
		d.warn(d.at(path), path+": a token that the provider has made for any other service is let in, unless the provider says otherwise", "write audience, clients or scopes")
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(publicKeyAlgorithms, a) {
			d.fail(d.at(path+".algorithms"), fmt.Sprintf("%s.algorithms: %q isn't an algorithm with a public key", path, a), "write some of %s", strings.Join(publicKeyAlgorithms, ", "))
			break
		}
	}
	d.oneWord(path+".user_claim", o.UserClaim)
	if o.UserClaim == "" {
		d.fail(d.at(path+".user_claim"), path+".user_claim is empty: no token would be accepted", "remove it, or name the claim that has the user's name")
	}
}

// authBackend checks which tokens are passed on.
func (d *decoder) authBackend(path string, b *AuthBackend) {
	for _, m := range b.Mechanisms {
		if m != "OAUTHBEARER" && m != "XOAUTH2" {
			d.fail(d.at(path+".mechanisms"), fmt.Sprintf("%s.mechanisms: %q isn't a mechanism of tokens", path, m), "write \"OAUTHBEARER\", \"XOAUTH2\" or both; passwords are passed on in any case")
			return
		}
	}
}

// providerURL checks a URL, where there is one.
func (d *decoder) providerURL(path, text string) {
	if text == "" || d.failed[path] {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "":
		d.failed[path] = true // not shown: there may be a secret in it
		d.fail(d.at(path), path+" isn't the URL of a provider", "write https://id.example.org, in quotes")
	case u.Scheme == "http" && !onThisMachine(net.JoinHostPort(u.Hostname(), "80")):
		d.failed[path] = true
		d.fail(d.at(path), fmt.Sprintf("%s: without TLS a machine between the proxy and %s could make tokens", path, u.Hostname()), "write https://…")
	}
}

// tokens refuses auth "oauth" where the proxy couldn't log in to a backend: a token is no password.
func (d *decoder) tokens(c *Config) {
	if c.BackendLogin.Mode == "master" || d.failed["backend_login.mode"] {
		return
	}
	for _, a := range c.Auth {
		if a.OAuth != nil {
			d.fail(d.at(a.Path()), a.String()+": a client with a token has no password for the backend", "write backend_login { … } with mode = \"master\"")
			return
		}
	}
}
