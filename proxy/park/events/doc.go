// Package events is the HTTP endpoint to which backends post what happened in mailboxes
// (docs/push-events.md). Handler receives events, parse.go and cyrus.go read their formats; each
// becomes hints in a park.HintQueue, and nothing else of an event is used.
//
// Imports proxy/park, proxy/park/view and telemetry. Imported by internal/app and
// the end-to-end tests.
package events
