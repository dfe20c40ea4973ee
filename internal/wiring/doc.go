// Package wiring maps a configuration to the options of each package, and does nothing else:
// no package knows the configuration's form, and the configuration knows no package. Each
// function is named for the options that it makes; a setting that none of them hands on would
// be accepted and have no effect, which a test rules out.
//
// What goes wrong with a setting when it is used becomes a mistake with a file, a line and a
// remedy here (About, Located).
//
// Imports internal/config, internal/peers, proxy, proxy/auth,
// proxy/auth/authpolicy, proxy/auth/dovecotauth, proxy/auth/ldapauth,
// proxy/auth/oauthauth, proxy/auth/sqlauth, proxy/guessing, proxy/park,
// proxy/session, proxy/shared, proxy/upstream, routing, routing/agree,
// routing/cluster, routing/discovery and telemetry. Imported by cmd/imapproxy and
// internal/app.
package wiring
