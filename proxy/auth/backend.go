package auth

import "context"

// backend is the source that leaves everything to the user's backend.
type backend struct{}

// NewBackend returns the source that knows every user and answers AskBackend. It
// makes sense only as the last one.
func NewBackend() Source { return backend{} }

func (backend) Name() string { return "backend" }

func (backend) Authenticate(context.Context, Credentials) Verdict { return AskBackend{} }

func (backend) Close() error { return nil }
