package task_test

import (
	"context"
	"fmt"

	"imapproxy/internal/task"
)

// Stop ends the task's context and returns what its function has returned.
func ExampleTask() {
	t := task.Start(func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	fmt.Println(t.Stop())
	// Output:
	// context canceled
}
