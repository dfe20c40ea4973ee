package main

import (
	"context"
	"errors"

	"imapproxy/internal/wiring"
	"imapproxy/proxy/auth"
)

// policy asks the policy server about a made-up user.
func (k *checker) policy(ctx context.Context) {
	if k.cfg.AuthPolicy == nil {
		return
	}
	const what = "auth_policy"
	client, err := wiring.Policy(k.cfg, nil)
	if err != nil {
		k.report.fail(what, "", "%v", err)
		return
	}
	defer client.Close()
	if !k.fileOnly {
		said, err := client.Try(ctx)
		k.tried(what, said, err)
	}
}

// tried reports what a Try has found.
func (k *checker) tried(what, said string, err error) {
	if err == nil {
		k.report.ok(what, "%s", said)
		return
	}
	mend := ""
	if fault, ok := errors.AsType[*auth.Fault](err); ok {
		mend = fault.Mend
	}
	k.report.fail(what, mend, "%v", err)
}
