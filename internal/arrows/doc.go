// Package arrows holds tests and nothing else: which package may import which, which
// library stays in which package, that what the documentation names exists, that the files of
// some packages need each other in one direction, and that
// docs/locking.md has all locks in an order that the code keeps. The
// generated parts (the list of imports in docs/architecture.md, the last paragraph of each
// package comment) are written by
//
//	go generate ./internal/arrows
//
// Imports none of our packages. Imported by none.
package arrows

//go:generate go test -count=1 -run Documented . -update
