// Package sqlauth is the credential source that asks a PostgreSQL, MariaDB, MySQL or SQLite database.
//
// Imports proxy/auth and telemetry. Imported by internal/wiring.
package sqlauth
