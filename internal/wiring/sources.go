package wiring

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"imapproxy/internal/config"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/dovecotauth"
	"imapproxy/proxy/auth/ldapauth"
	"imapproxy/proxy/auth/oauthauth"
	"imapproxy/proxy/auth/sqlauth"
)

// Sources opens the credential sources. The caller closes them with CloseSources.
func Sources(c *config.Config, log *slog.Logger) ([]auth.Source, error) {
	if err := Names(c).Validate(); err != nil {
		return nil, About("users.default_domain", err)
	}
	hashing := auth.NewHashing(0)
	var sources []auth.Source
	for _, a := range c.Auth {
		source, err := source(c, a, hashing, log)
		if err != nil {
			CloseSources(sources)
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// source opens one. None is connected to anything yet.
func source(c *config.Config, a config.Auth, hashing *auth.Hashing, log *slog.Logger) (auth.Source, error) {
	switch {
	case a.PasswdFile != nil:
		o := PasswdFile(c, a.PasswdFile)
		o.Name, o.Log, o.Hashing = a.Source(), log, hashing
		var err error
		if o.Scram, err = withSecret(c, o.Scram); err != nil {
			return nil, err
		}
		file, err := auth.NewPasswdFile(a.PasswdFile.Path, o)
		if err != nil {
			return nil, About(a.Path()+".path", err)
		}
		return file, nil
	case a.HTTP != nil:
		roots, err := roots(a.HTTP.CAFile)
		if err != nil {
			return nil, About(a.Path()+".ca_file", err)
		}
		o := HTTPAuth(c, a.HTTP)
		o.Name, o.RootCAs = a.Source(), roots
		service, err := auth.NewHTTP(o)
		if err != nil {
			return nil, About(a.Path()+".url", err)
		}
		return service, nil
	case a.LDAP != nil:
		return directory(c, a)
	case a.SQL != nil:
		return database(c, a, hashing)
	case a.Dovecot != nil:
		o := DovecotAuth(c, a.Dovecot)
		o.Name = a.Source()
		s, err := dovecotauth.New(o)
		if err != nil {
			return nil, About(a.Path()+".address", err)
		}
		return s, nil
	case a.OAuth != nil:
		return provider(c, a, log)
	}
	return auth.NewBackend(a.Backend.Mechanisms...), nil
}

// PasswdFile returns the options of auth "passwd_file", except the log, the bound of hashing, and the secret.
func PasswdFile(c *config.Config, a *config.AuthPasswdFile) auth.PasswdFileOptions {
	return auth.PasswdFileOptions{Names: Names(c), Scram: auth.ScramOptions{Mechanisms: a.Scram}}
}

// withSecret adds the secret for SCRAM, where a source offers that.
func withSecret(c *config.Config, o auth.ScramOptions) (auth.ScramOptions, error) {
	if len(o.Mechanisms) == 0 {
		return o, nil
	}
	var err error
	if o.Secret, err = Secret(c.Users.ScramSecretFile); err == nil && len(o.Secret) < minScramSecret {
		err = fmt.Errorf("%s has fewer than %d characters", c.Users.ScramSecretFile, minScramSecret)
	}
	if err != nil {
		return o, About("users.scram_secret_file", err)
	}
	return o, nil
}

// minScramSecret keeps clients from guessing the secret by what is made of it.
const minScramSecret = 32

// provider opens auth "oauth".
func provider(c *config.Config, block config.Auth, log *slog.Logger) (auth.Source, error) {
	a := block.OAuth
	o := OAuth(c, a)
	o.Name = block.Source()
	o.Log = log
	var err error
	if o.RootCAs, err = roots(a.CAFile); err != nil {
		return nil, About(block.Path()+".ca_file", err)
	}
	if a.ClientSecretFile != "" {
		if o.ClientSecret, err = Secret(a.ClientSecretFile); err != nil {
			return nil, About(block.Path()+".client_secret_file", err)
		}
	}
	s, err := oauthauth.New(o)
	if err != nil {
		return nil, About(block.Path(), err)
	}
	return s, nil
}

// OAuth returns the options of auth "oauth", except the authorities and the secret.
func OAuth(c *config.Config, a *config.AuthOAuth) oauthauth.Options {
	o := oauthauth.Options{
		Issuer: a.Issuer, KeysURL: a.JWKSURL, Algorithms: a.Algorithms, Type: a.JWTType,
		IntrospectionURL: a.IntrospectionURL, ClientID: a.ClientID, CacheFor: a.CacheFor,
		Audience: a.Audience, Clients: a.Clients, Scopes: a.Scopes, UserClaim: a.UserClaim, Grace: a.Grace,
		Names: Names(c), Asking: asking(a.Concurrency, a.Timeout),
	}
	if a.CacheFor == 0 {
		o.CacheFor = -1 // not the default
	}
	return o
}

// directory opens auth "ldap".
func directory(c *config.Config, block config.Auth) (auth.Source, error) {
	a := block.LDAP
	o := LDAPAuth(c, a)
	o.Name = block.Source()
	var err error
	if o.RootCAs, err = roots(a.CAFile); err != nil {
		return nil, About(block.Path()+".ca_file", err)
	}
	if a.PasswordFile != "" {
		if o.BindPassword, err = Secret(a.PasswordFile); err != nil {
			return nil, About(block.Path()+".password_file", err)
		}
	}
	if o.Scram, err = withSecret(c, o.Scram); err != nil {
		return nil, err
	}
	s, err := ldapauth.New(o)
	if err != nil {
		return nil, About(block.Path(), err)
	}
	return s, nil
}

// LDAPAuth returns the options of auth "ldap", except the authorities and the password.
func LDAPAuth(c *config.Config, a *config.AuthLDAP) ldapauth.Options {
	return ldapauth.Options{
		URL: a.URL, StartTLS: a.StartTLS, UserDN: a.UserDN, BindDN: a.BindDN, Base: a.Base, Filter: a.Filter,
		Allow: a.Allow, GroupBase: a.GroupBase, GroupFilter: a.GroupFilter,
		UserAttribute: a.UserAttribute, PlacementAttribute: a.PlacementAttribute,
		ScramAttribute: a.ScramAttribute, Scram: auth.ScramOptions{Mechanisms: a.Scram},
		Names: Names(c), Asking: asking(a.Concurrency, a.Timeout),
	}
}

// database opens auth "sql".
func database(c *config.Config, block config.Auth, hashing *auth.Hashing) (auth.Source, error) {
	a := block.SQL
	o := SQLAuth(c, a)
	o.Name = block.Source()
	o.Hashing = hashing
	if a.PasswordFile != "" {
		var err error
		if o.Password, err = Secret(a.PasswordFile); err != nil {
			return nil, About(block.Path()+".password_file", err)
		}
	}
	var err error
	if o.RootCAs, err = roots(a.CAFile); err != nil {
		return nil, About(block.Path()+".ca_file", err)
	}
	if o.Scram, err = withSecret(c, o.Scram); err != nil {
		return nil, err
	}
	s, err := sqlauth.New(o)
	if err != nil {
		return nil, About(block.Path(), err)
	}
	return s, nil
}

// SQLAuth returns the options of auth "sql", except the authorities, the password and the bound of hashing.
func SQLAuth(c *config.Config, a *config.AuthSQL) sqlauth.Options {
	return sqlauth.Options{Driver: a.Driver, DSN: a.DSN, Query: a.Query, Names: Names(c), Asking: asking(a.Concurrency, a.Timeout), Scram: auth.ScramOptions{Mechanisms: a.Scram}}
}

// DovecotAuth returns the options of auth "dovecot".
func DovecotAuth(c *config.Config, a *config.AuthDovecot) dovecotauth.Options {
	return dovecotauth.Options{Address: a.Address, PID: os.Getpid(), Names: Names(c), Asking: asking(a.Concurrency, a.Timeout)}
}

// CloseSources closes what Sources has opened.
func CloseSources(sources []auth.Source) {
	for _, s := range sources {
		_ = s.Close() // nothing is written that an error could lose
	}
}

// HTTPAuth returns the options of auth "http", except the authorities.
func HTTPAuth(c *config.Config, a *config.AuthHTTP) auth.HTTPOptions {
	return auth.HTTPOptions{URL: a.URL, Headers: a.Headers, Names: Names(c), Asking: asking(a.Concurrency, a.Timeout)}
}

func asking(atOnce int, timeout time.Duration) auth.AskingOptions {
	return auth.AskingOptions{AtOnce: atOnce, Timeout: timeout}
}

// AuthFiles returns a digest of the files that Sources reads once. If it has changed, the sources use
// outdated secrets or authorities.
func AuthFiles(c *config.Config) [sha256.Size]byte {
	paths := []string{c.Users.ScramSecretFile}
	for _, a := range c.Auth {
		if a.HTTP != nil {
			paths = append(paths, a.HTTP.CAFile)
		}
		if a.LDAP != nil {
			paths = append(paths, a.LDAP.CAFile, a.LDAP.PasswordFile)
		}
		if a.SQL != nil {
			paths = append(paths, a.SQL.CAFile, a.SQL.PasswordFile)
		}
		if a.OAuth != nil {
			paths = append(paths, a.OAuth.CAFile, a.OAuth.ClientSecretFile)
		}
	}
	return digestOf(paths)
}

// digestOf is a digest of files' contents, in their order.
func digestOf(paths []string) (digest [sha256.Size]byte) {
	all := sha256.New()
	for _, path := range paths {
		var text []byte
		if path != "" {
			text, _ = os.ReadFile(path) // the part that uses the content reports the error
		}
		one := sha256.Sum256(text)
		all.Write(one[:])
	}
	all.Sum(digest[:0])
	return digest
}

// roots reads a file of authorities; nil where there is none: the system's.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return authorities, nil
}
