package oauthauth

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"imapproxy/proxy/auth"
)

// claims are what a token says, or what the provider says about it.
type claims map[string]any

// text is a claim that is a string, "" where it isn't there or is something else.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// texts is a claim that is a string, or several.
func (c claims) texts(name string) []string {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// time is a claim that is a time. there says that the claim is there; ok that it is a time, if it is there.
func (c claims) time(name string) (t time.Time, there, ok bool) {
	v, there := c[name]
	if !there || v == nil {
		return time.Time{}, false, true
	}
	var seconds float64
	switch n := v.(type) {
	case float64:
		seconds = n
	case json.Number:
		f, err := n.Float64()
		if err != nil {
			return time.Time{}, true, false
		}
		seconds = f
	default:
		return time.Time{}, true, false
	}
	if seconds < 0 || seconds > 1<<40 {
		return time.Time{}, true, false
	}
	return time.Unix(int64(seconds), 0), true, true
}

// demands are what a token must say.
type demands struct {
	issuer                    string
	audience, clients, scopes []string
	userClaim                 string
	grace                     time.Duration
	names                     auth.Names
	introspected              bool // the provider says which tokens are good; it needn't say by whom and until when
}

// verdict says whether a token with these claims, which are proved, lets the user in. The cases:
//
//	another issuer                                       unknown: the next source is asked
//	no exp (of a JWT), or one that isn't a time          refused
//	nbf or iat in the future                             refused
//	aud has none of ours, azp isn't one of ours,
//	  a scope is missing                                 refused
//	the name isn't there, or the address isn't verified  refused
//	the name isn't the one that the client has sent      refused
//	exp is over                                          expired: otherwise the token was good
func (d demands) verdict(c claims, user string, now time.Time) auth.Verdict {
	if iss := c.text("iss"); d.issuer != "" && iss != d.issuer && (iss != "" || !d.introspected) {
		return auth.Unknown{}
	}
	exp, there, ok := c.time("exp")
	if !ok || !there && !d.introspected {
		return refused
	}
	for _, name := range []string{"nbf", "iat"} {
		if t, _, ok := c.time(name); !ok || t.After(now.Add(d.grace)) {
			return refused
		}
	}
	client := c.text("azp")
	for _, name := range []string{"client_id", "appid"} {
		if client == "" {
			client = c.text(name)
		}
	}
	switch {
	case len(d.audience) > 0 && !slices.ContainsFunc(c.texts("aud"), func(a string) bool { return slices.Contains(d.audience, a) }):
		return refused
	case len(d.clients) > 0 && !slices.Contains(d.clients, client):
		return refused
	}
	var scopes []string
	for _, name := range []string{"scope", "scp"} {
		for _, s := range c.texts(name) {
			scopes = append(scopes, strings.Fields(s)...)
		}
	}
	for _, s := range d.scopes {
		if !slices.Contains(scopes, s) {
			return refused
		}
	}
	if verified, there := c["email_verified"]; d.userClaim == "email" && there && verified != true && verified != "true" {
		return refused
	}
	// The token's name is normalised like the client's own. One that the proxy would refuse is no one's.
	if name, err := d.names.Normalize(c.text(d.userClaim)); err != nil || name != user {
		return refused
	}
	if there && !now.Before(exp.Add(d.grace)) {
		return auth.Rejected{Reason: auth.ReasonExpiredToken}
	}
	return auth.Accepted{}
}

// refused is the verdict of a token that isn't accepted, and won't be.
var refused = auth.Rejected{Reason: auth.ReasonBadToken}
