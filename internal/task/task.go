// Package task has goroutines with an owner: the owner starts and stops a task, and stopping waits
// for its end.
//
// Imports none of our packages. Imported by cmd/imapproxy, internal/app,
// internal/apptest, internal/postfix and the end-to-end tests.
package task

import "context"

// A Task is one goroutine. Start makes it, and its owner calls Stop.
type Task struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when f has returned
	err    error         // f's, written before done is closed
}

// Start runs f until it returns by itself or Stop is called, which ends f's context.
func Start(f func(context.Context) error) *Task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Task{cancel: cancel, done: make(chan struct{})}
	go func() { // ends with f; Stop waits for it
		defer close(t.done)
		t.err = f(ctx)
	}()
	return t
}

// Done is closed when f has returned, also where Stop wasn't called.
func (t *Task) Done() <-chan struct{} { return t.done }

// Stop ends f, waits for it and returns what it returned. It may be called again, and on
// nil, which is a task that was never started.
func (t *Task) Stop() error {
	if t == nil {
		return nil
	}
	t.cancel()
	<-t.done
	return t.err
}
