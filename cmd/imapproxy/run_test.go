package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests; a busy machine with the race detector
// needs some.
const patience = 30 * time.Second

// output is what a verb writes, and can be waited for.
type output struct {
	mu      sync.Mutex // guards what follows
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at each write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) now() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.now()
	return text
}

// running is a verb that runs in this process.
type running struct {
	t              testing.TB
	stdout, stderr *output
	signals        chan os.Signal // its SIGHUPs
	interrupt      context.CancelFunc
	done           chan struct{}
	code           int // after done
}

// launch runs a command line; the test's end ends it.
func launch(t testing.TB, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, stdout: newOutput(), stderr: newOutput(), signals: make(chan os.Signal, 1), interrupt: cancel, done: make(chan struct{})}
	env := environment{ctx: ctx, stdout: r.stdout, stderr: r.stderr, stdin: strings.NewReader(""),
		hangups: func() (<-chan os.Signal, func()) { return r.signals, func() {} }}
	go func() { // ends at cancel; the clean-up waits for it
		defer close(r.done)
		r.code = run(env, args)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if t.Failed() {
			t.Logf("imapproxy %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
		}
	})
	return r
}

// command runs a command line to its end.
func command(t testing.TB, args ...string) *running {
	t.Helper()
	r := launch(t, args...)
	r.wait()
	return r
}

// await waits until o holds what the pattern matches, and returns the matches.
func (r *running) await(o *output, pattern string) []string {
	r.t.Helper()
	return r.awaitFrom(o, 0, pattern)
}

// awaitFrom is await in what was written after the first so many bytes.
func (r *running) awaitFrom(o *output, from int, pattern string) []string {
	r.t.Helper()
	re, deadline := regexp.MustCompile(pattern), time.After(patience)
	for {
		text, changed := o.now()
		if m := re.FindStringSubmatch(text[from:]); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-r.done:
			if re.MatchString(o.String()[from:]) {
				continue
			}
			r.t.Fatalf("ended with code %d before it said %s", r.code, pattern)
		case <-deadline:
			r.t.Fatalf("didn't say %s", pattern)
		}
	}
}

// wait waits for the verb's end and returns its exit code.
func (r *running) wait() int {
	r.t.Helper()
	select {
	case <-r.done:
		return r.code
	case <-time.After(patience):
		r.t.Fatal("doesn't end")
		return -1
	}
}

// reload sends a SIGHUP, waits for the reload's result in the log, and returns what was logged.
func (r *running) reload() string {
	r.t.Helper()
	before := len(r.stderr.String())
	r.signals <- syscall.SIGHUP
	r.awaitFrom(r.stderr, before, `msg=("reload failed|reloaded )[^\n]*\n`)
	return r.stderr.String()[before:]
}
