package config

import (
	"fmt"
	"strings"
	"time"
)

// Auth is one credential source; exactly one field is set. Several blocks of one kind have names, which
// are their second labels.
type Auth struct {
	Backend    *AuthBackend    `hcl:"backend,variant"`
	PasswdFile *AuthPasswdFile `hcl:"passwd_file,variant"`
	HTTP       *AuthHTTP       `hcl:"http,variant"`
	LDAP       *AuthLDAP       `hcl:"ldap,variant"`
	SQL        *AuthSQL        `hcl:"sql,variant"`
	Dovecot    *AuthDovecot    `hcl:"dovecot,variant"`
	OAuth      *AuthOAuth      `hcl:"oauth,variant"`
}

// AuthBackend leaves the decision to the user's backend.
type AuthBackend struct {
	// Mechanisms are those of tokens that are passed on to the backend.
	Mechanisms []string `hcl:"mechanisms" default:"[]"`
}

// AuthPasswdFile is a passwd-file in Dovecot's form.
type AuthPasswdFile struct {
	Name string `hcl:"name,label"` // empty: the block has none
	Path string `hcl:"path" path:"users" required:"path = \"users.passwd\"" read:"changed"`
	// Scram are the mechanisms of SCRAM that are offered for its users.
	Scram []string `hcl:"scram" default:"[]"`
}

// AuthHTTP is a service that is asked by the protocol of nginx's mail proxy.
type AuthHTTP struct {
	Name        string            `hcl:"name,label"` // empty: the block has none
	URL         string            `hcl:"url" required:"url = \"http://127.0.0.1:9000/auth\"" secret:"url"`
	Headers     map[string]string `hcl:"headers" default:"{}" secret:"all"`
	CAFile      string            `hcl:"ca_file" path:"cert" default:""`
	Timeout     time.Duration     `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency int               `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// AuthLDAP is a directory: UserDN, or Base and Filter, say which entry is a user's.
type AuthLDAP struct {
	Name               string        `hcl:"name,label"` // empty: the block has none
	URL                string        `hcl:"url" required:"url = \"ldaps://ldap.example.org\"" secret:"url"`
	StartTLS           bool          `hcl:"start_tls" default:"false"`
	CAFile             string        `hcl:"ca_file" path:"cert" default:""`
	UserDN             string        `hcl:"user_dn" default:""`
	BindDN             string        `hcl:"bind_dn" default:""`
	PasswordFile       string        `hcl:"password_file" path:"secret" default:""`
	Base               string        `hcl:"base" default:""`
	Filter             string        `hcl:"filter" default:""`
	Allow              string        `hcl:"allow" default:""`
	GroupBase          string        `hcl:"group_base" default:""`
	GroupFilter        string        `hcl:"group_filter" default:""`
	UserAttribute      string        `hcl:"user_attribute" default:""`
	PlacementAttribute string        `hcl:"placement_attribute" default:""`
	ScramAttribute     string        `hcl:"scram_attribute" default:""`
	Scram              []string      `hcl:"scram" default:"[]"`
	Timeout            time.Duration `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency        int           `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// AuthSQL is a database that has a row for each user.
type AuthSQL struct {
	Name         string        `hcl:"name,label"` // empty: the block has none
	Driver       string        `hcl:"driver" enum:"postgres|mysql|sqlite" required:"driver = \"postgres\", \"mysql\" (also for MariaDB) or \"sqlite\""`
	DSN          string        `hcl:"dsn" required:"dsn = \"postgres://imapproxy@db.example.org/mail?sslmode=verify-full\"" secret:"all"`
	PasswordFile string        `hcl:"password_file" path:"secret" default:""`
	CAFile       string        `hcl:"ca_file" path:"cert" default:""`
	Query        string        `hcl:"query" required:"query = \"SELECT password FROM users WHERE name = %u\""`
	Scram        []string      `hcl:"scram" default:"[]"`
	Timeout      time.Duration `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency  int           `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// AuthOAuth is a provider of tokens: the proxy checks their signatures, or asks the provider about each.
type AuthOAuth struct {
	Name             string        `hcl:"name,label"` // empty: the block has none
	Issuer           string        `hcl:"issuer" default:"" secret:"url"`
	JWKSURL          string        `hcl:"jwks_url" default:"" secret:"url"`
	Algorithms       []string      `hcl:"algorithms" default:"[]"`
	JWTType          string        `hcl:"jwt_type" default:""`
	IntrospectionURL string        `hcl:"introspection_url" default:"" secret:"url"`
	ClientID         string        `hcl:"client_id" default:""`
	ClientSecretFile string        `hcl:"client_secret_file" path:"secret" default:""`
	CacheFor         time.Duration `hcl:"cache_for" default:"1m" min:"0s" max:"1h"`
	Audience         []string      `hcl:"audience" default:"[]"`
	Clients          []string      `hcl:"clients" default:"[]"`
	Scopes           []string      `hcl:"scopes" default:"[]"`
	UserClaim        string        `hcl:"user_claim" default:"email"`
	Grace            time.Duration `hcl:"grace" default:"1m" min:"1s" max:"10m"`
	CAFile           string        `hcl:"ca_file" path:"cert" default:""`
	Timeout          time.Duration `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency      int           `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// AuthDovecot is a listener of Dovecot's service auth.
type AuthDovecot struct {
	Name        string        `hcl:"name,label"` // empty: the block has none
	Address     string        `hcl:"address" required:"address = \"/run/dovecot/auth-imapproxy\" or \"127.0.0.1:12345\""`
	Timeout     time.Duration `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency int           `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// AuthPolicy is a server that is asked whether logins may go on, and told how they ended. The names are those of Dovecot's settings.
type AuthPolicy struct {
	ServerURL           string        `hcl:"server_url" required:"server_url = \"https://wforce.example.org:8084/\"" secret:"url"`
	ServerAPIHeaderFile string        `hcl:"server_api_header_file" path:"secret" default:""`
	ServerTimeout       time.Duration `hcl:"server_timeout" default:"2s" min:"100ms" max:"10s"`
	CAFile              string        `hcl:"ca_file" path:"cert" default:""`
	HashMech            string        `hcl:"hash_mech" default:"sha256" enum:"md5|sha1|sha256|sha512"`
	HashNonceFile       string        `hcl:"hash_nonce_file" path:"secret" required:"hash_nonce_file = \"auth-policy.nonce\""`
	HashTruncate        int           `hcl:"hash_truncate" default:"12" min:"0" max:"512"`
	CheckBeforeAuth     bool          `hcl:"check_before_auth" default:"true"`
	CheckAfterAuth      bool          `hcl:"check_after_auth" default:"true"`
	ReportAfterAuth     bool          `hcl:"report_after_auth" default:"true"`
	RejectOnFail        bool          `hcl:"reject_on_fail" default:"false"`
	LogOnly             bool          `hcl:"log_only" default:"false"`
	Concurrency         int           `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

// Path is the path of the block's settings: auth.ldap, or auth.ldap.staff for auth "ldap" "staff".
func (a Auth) Path() string {
	path := join("auth", a.kind())
	if name := a.name(); name != "" {
		path = join(path, name)
	}
	return path
}

// Source is the name of the source in metrics, logs and reports: ldap, or ldap.staff.
func (a Auth) Source() string { return strings.TrimPrefix(a.Path(), "auth.") }

// String is the block's head, as the file has it: auth "ldap" "staff".
func (a Auth) String() string {
	if name := a.name(); name != "" {
		return fmt.Sprintf("auth %q %q", a.kind(), name)
	}
	return fmt.Sprintf("auth %q", a.kind())
}

// name is the block's second label.
func (a Auth) name() string {
	switch {
	case a.PasswdFile != nil:
		return a.PasswdFile.Name
	case a.HTTP != nil:
		return a.HTTP.Name
	case a.LDAP != nil:
		return a.LDAP.Name
	case a.SQL != nil:
		return a.SQL.Name
	case a.Dovecot != nil:
		return a.Dovecot.Name
	case a.OAuth != nil:
		return a.OAuth.Name
	}
	return ""
}

// kind is the label of the source's block.
func (a Auth) kind() string {
	switch {
	case a.PasswdFile != nil:
		return "passwd_file"
	case a.HTTP != nil:
		return "http"
	case a.LDAP != nil:
		return "ldap"
	case a.SQL != nil:
		return "sql"
	case a.Dovecot != nil:
		return "dovecot"
	case a.OAuth != nil:
		return "oauth"
	}
	return "backend"
}
