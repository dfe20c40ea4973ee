// Package ldapauth is the credential source that asks an LDAP directory.
//
// Imports proxy/auth, proxy/conn and telemetry. Imported by internal/wiring.
package ldapauth
