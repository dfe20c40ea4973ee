package imaptest

import (
	"testing"

	"go.uber.org/goleak"
)

// VerifyNoLeaks fails the test when goroutines that it started still run
// after its other clean-ups. Call it first, since clean-ups run last to first.
func VerifyNoLeaks(t testing.TB) {
	t.Helper()
	// goroutines that run already may be a parallel test's
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if t.Failed() {
			return // a failed test leaves things open; its own message matters
		}
		goleak.VerifyNone(t, append(leakIgnores(), current)...)
	})
}

// LeakMain runs a package's tests and fails when goroutines are left over;
// for TestMain. Packages whose tests run in parallel want this one.
func LeakMain(m *testing.M) {
	goleak.VerifyTestMain(m, leakIgnores()...)
}

// leakIgnores are goroutines of libraries that live as long as the process.
func leakIgnores() []goleak.Option {
	return []goleak.Option{
		// a file watcher's poller may be inside its last system call
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWaitCanceled"),
		// net/http's default transport keeps idle connections on purpose
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
}
