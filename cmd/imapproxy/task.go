package main

import "context"

// task is a goroutine of cmd's own: whoever starts it stops it, and stopping waits.
type task struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when f has returned
	err    error         // f's, to be read after done
}

// start runs f until it returns by itself or stop is called.
func start(f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() { // ends with f; stop waits for it
		defer close(t.done)
		t.err = f(ctx)
	}()
	return t
}

// stop ends f and returns what it returned. A nil task has ended long ago.
func (t *task) stop() error {
	if t == nil {
		return nil
	}
	t.cancel()
	<-t.done
	return t.err
}
