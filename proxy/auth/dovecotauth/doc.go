// Package dovecotauth is the credential source that asks Dovecot's auth process.
//
// Imports proxy/auth, proxy/conn and telemetry. Imported by internal/wiring.
package dovecotauth
