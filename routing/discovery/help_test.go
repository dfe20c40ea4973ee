package discovery

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

func TestMain(m *testing.M) {
	if agent := os.Getenv(registerAt); agent != "" {
		registerForever(agent)
	}
	imaptest.LeakMain(m)
}

// registerAt is a variable with the address of an agent, for a process of the tests that only
// registers itself there, and is killed.
const registerAt = "IMAPPROXY_TEST_REGISTER_AT"

func registerForever(agent string) {
	_ = Register(context.Background(), RegisterOptions{Consul: ConsulOptions{Address: agent}, ID: "p1",
		Address: "192.0.2.9", Port: 993, Meta: map[string]string{MetaAdmin: "192.0.2.9:8143"}, Version: "1"})
	os.Exit(1) // it was to be killed
}

// patience is how long a test waits for an event before it fails. Nothing
// waits that long when all is well.
const patience = 30 * time.Second

// recorder keeps the snapshots and wakes tests that wait for one.
type recorder struct {
	mu      sync.Mutex
	all     []routing.Snapshot
	changed chan struct{} // closed and replaced at each
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) apply(s routing.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) last() (s routing.Snapshot, count int, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.all); n > 0 {
		s = r.all[n-1]
	}
	return s, len(r.all), r.changed
}

// wait returns the first snapshot from now on, the present one included, that
// is as wanted.
func (r *recorder) wait(t *testing.T, what string, wanted func(routing.Snapshot) bool) routing.Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		s, count, changed := r.last()
		if count > 0 && wanted(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited for %s; there were %d snapshots, the last is %+v", what, count, s)
		}
	}
}

// fleetIs is a condition for wait: the names and states in one text, such as
// "b1 b2=draining b3=down".
func fleetIs(want string) func(routing.Snapshot) bool {
	return func(s routing.Snapshot) bool { return describe(s.Backends) == want }
}

func describe(backends []routing.Backend) string {
	var words []string
	for _, b := range backends {
		w := b.Shown()
		switch {
		case b.Pending:
			w += "=pending"
		case b.State != routing.Up:
			w += "=" + b.State.String()
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// waitFleet is wait for fleetIs.
func (r *recorder) waitFleet(t *testing.T, want string) routing.Snapshot {
	t.Helper()
	return r.wait(t, "fleet "+want, fleetIs(want))
}

// logBuffer is a log that a test waits on.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBuffer) wait(t *testing.T, want string) {
	t.Helper()
	l.waitTimes(t, want, 1)
}

// waitTimes waits until the log has said something so often.
func (l *logBuffer) waitTimes(t *testing.T, want string, times int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		found, changed := strings.Count(l.text.String(), want) >= times, l.changed
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the log doesn't say %q %d times:\n%s", want, times, l)
		}
	}
}

// logged is a telemetry whose log can be read.
func logged(t *testing.T) (*telemetry.Telemetry, *logBuffer) {
	t.Helper()
	log := &logBuffer{changed: make(chan struct{})}
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: log, LogLevel: slog.LevelDebug})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel, log
}

// background runs f until the test ends, and then waits for its end.
func background(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("it doesn't end with its context")
		}
	})
	t.Cleanup(stop)
	return stop
}
