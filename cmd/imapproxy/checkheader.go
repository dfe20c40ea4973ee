package main

import (
	"context"
	"errors"

	"imapproxy/proxy/upstream"
)

// headerFix says what to mend where a probe of a backend failed because of the PROXY header: the backend expects it and gets none, or the
// other way round. It is "" if that isn't the reason.
func (k *checker) headerFix(ctx context.Context, t upstream.Target, err error) string {
	down, ok := errors.AsType[*upstream.Unavailable](err)
	if !ok || down.Stage != upstream.StageGreeting && down.Stage != upstream.StageTLS {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	sends := t.SendProxy == upstream.ProxyV2
	t.SendProxy = upstream.ProxyV2
	if sends {
		t.SendProxy = upstream.ProxyNone
	}
	_, other := k.dialer.Probe(ctx, t)
	switch {
	case sends && other == nil:
		return "it answers without the PROXY header only: send_proxy = \"none\", or a listener that expects the header (Dovecot: an inet_listener of its own with haproxy = yes; docs/backends.md)"
	case other == nil:
		return "it answers with the PROXY header only: send_proxy = \"v2\", or another port"
	case sends && down.Stage == upstream.StageGreeting:
		return "no answer with the PROXY header, and none without it: does Dovecot's haproxy_trusted_networks name this proxy's address? Its log says so if not"
	}
	return ""
}
