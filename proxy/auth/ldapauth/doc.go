// Package ldapauth is the credential source that asks an LDAP directory.
//
// Imports proxy/auth and telemetry. Imported by internal/wiring.
package ldapauth
