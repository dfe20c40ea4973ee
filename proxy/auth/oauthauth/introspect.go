package oauthauth

import (
	"context"
	"net/url"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// introspection asks the provider about tokens (RFC 7662).
type introspection struct {
	url, id string
	secret  telemetry.Secret
	now     func() time.Time
	asking  *auth.Asking
	web     *web
	cache   *cache
}

func newIntrospection(o Options, asking *auth.Asking, w *web) *introspection {
	return &introspection{url: o.IntrospectionURL, id: o.ClientID, secret: o.ClientSecret, now: o.Now, asking: asking, web: w, cache: newCache(o.CacheFor)}
}

// claims returns what the provider says about a token. A verdict ends the login.
func (s *introspection) claims(ctx context.Context, c auth.Credentials) (claims, auth.Verdict) {
	token := c.Password.Reveal()
	if said, ok := s.cache.get(token, s.now()); ok {
		return said.claims()
	}
	var told answer
	v := s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		asked := s.now()
		var said claims
		form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
		if err := s.ask(ctx, form, &said); err != nil {
			return auth.Unavailable{Err: auth.Said(err)}
		}
		active, ok := said["active"].(bool)
		if !ok {
			return auth.Unavailable{Err: errJSON}
		}
		if told.active = active; active {
			told.said = said
		}
		s.cache.put(token, told, asked)
		return auth.Accepted{}
	})
	if _, ok := v.(auth.Accepted); !ok {
		return nil, v
	}
	return told.claims()
}

func (s *introspection) ask(ctx context.Context, form url.Values, into any) error {
	return s.web.post(ctx, s.url, s.id, s.secret.Reveal(), form, into)
}
