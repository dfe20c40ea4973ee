package auth

import (
	"context"
	"slices"
)

// backend is the source that leaves the decision to the user's backend. It has the mechanisms of tokens that backends are sent.
type backend struct{ tokens []string }

// NewBackend returns the source that accepts every user name and answers AskBackend: about passwords, and about what clients send by
// those of the mechanisms OfToken that it is given. It makes sense only as the last source.
func NewBackend(tokens ...string) Source { return &backend{slices.Clone(tokens)} }

func (*backend) Name() string { return "backend" }

func (*backend) Authenticate(context.Context, Credentials) Verdict { return AskBackend{} }

func (*backend) Close() error { return nil }

// passes implements passer.
func (b *backend) passes(mechanism string) bool { return slices.Contains(b.tokens, mechanism) }
