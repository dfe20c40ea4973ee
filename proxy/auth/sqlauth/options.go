package sqlauth

import (
	"crypto/x509"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Drivers.
const (
	Postgres = "postgres"
	MySQL    = "mysql" // MariaDB as well
	SQLite   = "sqlite"
)

// Options are the options of New. Driver, DSN and Query are required.
type Options struct {
	Name string // of the source, in metrics and logs; empty: sql

	Driver   string
	DSN      string           // the driver's; a file's path for SQLite
	Password telemetry.Secret // for the database, in place of the DSN's
	// RootCAs verify the database's certificate, nil: the system's. With them there is no connection without TLS to MySQL; for
	// PostgreSQL the DSN decides.
	RootCAs *x509.CertPool
	// Query finds a user's row. %u is the user's name, %n what stands before its @, %d what stands behind it.
	Query   string
	Names   auth.Names
	Hashing *auth.Hashing
	Asking  auth.AskingOptions
	Scram   auth.ScramOptions
}
