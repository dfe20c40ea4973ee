package oauthauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The issuer's keys are fetched when the first token comes, again when they are older than keysAge, and when a
// token names a key that isn't among them. Every client can name such a key, so there is at most one
// fetch in fetchEvery.
const (
	keysAge    = 10 * time.Minute
	fetchEvery = 15 * time.Second
	maxKeys    = 100
)

// keys are an issuer's public keys.
type keys struct {
	issuer, url string
	web         *web
	timeout     time.Duration
	now         func() time.Time
	log         *slog.Logger

	mu      sync.Mutex // guards the fields below; no I/O under it
	set     []jose.JSONWebKey
	fetched time.Time     // when set was fetched; zero: never
	tried   time.Time     // when the last fetch began
	failed  error         // of the last fetch
	under   chan struct{} // closed at the end of the fetch that is under way; nil: none is
}

func newKeys(o Options, w *web, timeout time.Duration) *keys {
	return &keys{issuer: o.Issuer, url: o.KeysURL, web: w, timeout: timeout, now: o.Now, log: o.Log}
}

// find returns the keys that may have signed a token which names kid, "" none: more than one only where the token
// or the keys have no names. An error says that it isn't known.
func (k *keys) find(ctx context.Context, kid string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	found, never := named(k.set, kid), k.fetched.IsZero()
	due := len(found) == 0 || k.now().Sub(k.fetched) >= keysAge
	begun, wait := k.fetch(due)
	k.mu.Unlock()
	if begun != nil {
		// Not by this login's context: others wait for the same answer, and a client that leaves doesn't end it.
		k.get(context.WithoutCancel(ctx), begun)
	} else if wait != nil && (never || len(found) == 0) {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	found = named(k.set, kid)
	if len(found) == 0 && k.failed != nil {
		return nil, k.failed
	}
	return found, nil
}

// fetch begins a fetch if one is due and may be made: the caller makes it, and closes begun. wait is the one
// that is under way. The caller holds mu.
func (k *keys) fetch(due bool) (begun, wait chan struct{}) {
	if due && k.under == nil && (k.tried.IsZero() || k.now().Sub(k.tried) >= fetchEvery) {
		k.tried, k.under = k.now(), make(chan struct{})
		return k.under, nil
	}
	return nil, k.under
}

// get fetches the keys. Where that fails, those from before go on counting.
func (k *keys) get(ctx context.Context, begun chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	set, err := k.read(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.set, k.fetched = set, k.now()
	} else {
		k.log.Warn("the keys of the tokens' issuer can't be fetched", "issuer", k.issuer, "error", err, "known", len(k.set))
	}
	k.under = nil
	close(begun)
}

// configurationOf is where an issuer's OpenID configuration is (OpenID Connect Discovery 1.0 §4).
func configurationOf(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// read asks the issuer.
func (k *keys) read(ctx context.Context) ([]jose.JSONWebKey, error) {
	from := k.url
	if from == "" {
		var told struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := k.web.get(ctx, configurationOf(k.issuer), &told); err != nil {
			return nil, fmt.Errorf("its OpenID configuration: %w", err)
		}
		u, err := url.Parse(told.Keys)
		switch {
		case told.Issuer != k.issuer:
			return nil, errIssuer
		case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && strings.HasPrefix(k.issuer, "http:")):
			return nil, fmt.Errorf("%w: jwks_uri isn't the URL of keys", errJSON)
		}
		from = told.Keys
	}
	var told struct {
		Keys []jsonKey `json:"keys"`
	}
	if err := k.web.get(ctx, from, &told); err != nil {
		return nil, fmt.Errorf("its keys: %w", err)
	}
	var set []jose.JSONWebKey
	for _, key := range told.Keys[:min(len(told.Keys), maxKeys)] {
		if key.ok {
			set = append(set, key.JSONWebKey)
		}
	}
	if len(set) == 0 {
		return nil, errNoKeys
	}
	return set, nil
}

var (
	errIssuer = errors.New("the OpenID configuration is another issuer's: issuer must be exactly what it says")
	errNoKeys = errors.New("none of its keys can check a signature")
)

// jsonKey is a key of a set. One of a kind that isn't known is left out, and the others count (RFC 7517 §5).
type jsonKey struct {
	jose.JSONWebKey
	ok bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *jsonKey) UnmarshalJSON(text []byte) error {
	if k.JSONWebKey.UnmarshalJSON(text) == nil {
		k.ok = k.Valid() && k.IsPublic() && (k.Use == "" || k.Use == "sig")
	}
	return nil
}

// named returns the keys that may have the name.
func named(set []jose.JSONWebKey, kid string) (found []jose.JSONWebKey) {
	for _, k := range set {
		if k.KeyID == kid || k.KeyID == "" || kid == "" {
			found = append(found, k)
		}
	}
	return found
}
