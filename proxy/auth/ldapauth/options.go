package ldapauth

import (
	"crypto/x509"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Options are the options of New. URL is required, and either UserDN, or Base and Filter.
type Options struct {
	Name string // of the source, in metrics and logs; empty: ldap

	URL      string         // ldap://host[:port] or ldaps://host[:port]
	StartTLS bool           // with ldap://
	RootCAs  *x509.CertPool // verify the directory's certificate; nil: the system's

	// UserDN is the template of a user's DN, as whom the proxy binds. Then there is no search before.
	UserDN string
	// BindDN and BindPassword are those of the search; empty: it is anonymous.
	BindDN       string
	BindPassword telemetry.Secret
	// Base and Filter find a user's entry. Filter is a template.
	Base, Filter string

	// Allow is a filter that the entry of a user who may log in matches; empty: all may.
	Allow string
	// GroupBase and GroupFilter find an entry if the user may log in; empty: all may. GroupFilter is a
	// template, in which %D is the user's DN.
	GroupBase, GroupFilter string

	// UserAttribute and PlacementAttribute have the user's name and backend; empty: the entry says
	// nothing about them.
	UserAttribute, PlacementAttribute string

	// ScramAttribute has the user's keys of SCRAM, as a passwd-file has them; Scram says what is done of it. They
	// need a search.
	ScramAttribute string
	Scram          auth.ScramOptions

	Names  auth.Names
	Asking auth.AskingOptions
}
