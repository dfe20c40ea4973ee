// Package problems decides what of a proxy's state an operator should know of. Find is a pure function
// of a Snapshot; kinds.go has the kinds and thresholds, rules.go the cases above each rule. The command line, the admin API, the page and the metric
// imapproxy_problems show the same list.
//
// Imports none of our packages. Imported by internal/app.
package problems
