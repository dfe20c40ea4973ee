package oauthauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// provider is an issuer whose keys, answers and clock belong to the test.
type provider struct {
	*httptest.Server
	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey // published, by kid
	named   string                       // what the configuration says that the issuer is; "": the URL
	down    bool
	about   map[string]string // introspection's answers, by token
	fetches atomic.Int64      // of keys
	asked   atomic.Int64      // about tokens
	ahead   atomic.Int64      // of real time
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{keys: map[string]*ecdsa.PrivateKey{}, about: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		issuer := p.URL
		if p.named != "" {
			issuer = p.named
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": p.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		set := []any{map[string]string{"kty": "of another world", "kid": "odd"}}
		for kid, key := range p.keys {
			set = append(set, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig", Algorithm: "ES256"})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
	})
	mux.HandleFunc("/introspect", func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		id, secret, _ := r.BasicAuth()
		p.mu.Lock()
		defer p.mu.Unlock()
		switch answer := p.about[r.PostFormValue("token")]; {
		case id != "proxy" || secret != "s%2Bcret":
			w.WriteHeader(http.StatusUnauthorized)
		case p.down:
			w.WriteHeader(http.StatusBadGateway)
		case answer == "":
			_, _ = w.Write([]byte(`{"active":false}`))
		default:
			_, _ = w.Write([]byte(answer))
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	p.keys["k1"] = newKey(t)
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p *provider) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// with changes the provider.
func (p *provider) with(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) source(t *testing.T, change func(*Options)) *Source {
	t.Helper()
	o := Options{Issuer: p.URL, Audience: []string{"imap"}, Now: p.now, Names: auth.Names{DefaultDomain: "example.org", Lowercase: true}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// good are the claims of alice's token.
func (p *provider) good() map[string]any {
	return map[string]any{
		"iss": p.URL, "aud": []string{"other", "imap"}, "email": "Alice@Example.ORG", "azp": "thunderbird", "scope": "openid mail",
		"exp": p.now().Add(time.Hour).Unix(), "iat": p.now().Unix(),
	}
}

func sign(t *testing.T, key any, algorithm jose.SignatureAlgorithm, kid, typ string, said map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, o)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(said).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ask gives the verdict about a token of alice's, in a word.
func ask(t *testing.T, s *Source, token string) string {
	t.Helper()
	c, err := auth.NewCredentials(s.o.Names, auth.MechanismOAuthBearer, "", "alice", telemetry.Secret(token))
	if err != nil {
		t.Fatal(err)
	}
	switch v := s.Authenticate(t.Context(), c).(type) {
	case auth.Accepted:
		return "accepted"
	case auth.Rejected:
		return string(v.Reason)
	case auth.Unknown:
		return "unknown"
	case auth.Unavailable:
		if strings.Contains(v.Err.Error(), token) {
			t.Errorf("the error has the token: %v", v.Err)
		}
		return "unavailable"
	default:
		t.Fatalf("%T", v)
		return ""
	}
}

func TestASignedTokenMustSayAllThatIsDemanded(t *testing.T) {
	p := newProvider(t)
	other := newKey(t)
	for name, c := range map[string]struct {
		said   map[string]any // in place of good's; nil: not there
		change func(*Options)
		want   string
	}{
		"good":                           {want: "accepted"},
		"one audience":                   {said: map[string]any{"aud": "imap"}, want: "accepted"},
		"another audience":               {said: map[string]any{"aud": "calendar"}, want: "bad_token"},
		"no audience":                    {said: map[string]any{"aud": nil}, want: "bad_token"},
		"another issuer":                 {said: map[string]any{"iss": "https://evil.example"}, want: "unknown"},
		"the issuer with a slash":        {said: map[string]any{"iss": p.URL + "/"}, want: "unknown"},
		"expired, within grace":          {said: map[string]any{"exp": p.now().Add(-30 * time.Second).Unix()}, want: "accepted"},
		"expired":                        {said: map[string]any{"exp": p.now().Add(-2 * time.Minute).Unix()}, want: "expired_token"},
		"another's, expired":             {said: map[string]any{"email": "bob@example.org", "exp": 1}, want: "bad_token"},
		"no exp":                         {said: map[string]any{"exp": nil}, want: "bad_token"},
		"exp as text":                    {said: map[string]any{"exp": "4102444800"}, want: "bad_token"},
		"not yet":                        {said: map[string]any{"nbf": p.now().Add(time.Hour).Unix()}, want: "bad_token"},
		"made tomorrow":                  {said: map[string]any{"iat": p.now().Add(24 * time.Hour).Unix()}, want: "bad_token"},
		"another's":                      {said: map[string]any{"email": "bob@example.org"}, want: "bad_token"},
		"no name":                        {said: map[string]any{"email": nil}, want: "bad_token"},
		"several names":                  {said: map[string]any{"email": []string{"alice@example.org"}}, want: "bad_token"},
		"an address that isn't verified": {said: map[string]any{"email_verified": false}, want: "bad_token"},
		"a verified address":             {said: map[string]any{"email_verified": true}, want: "accepted"},
		"a name without domain":          {said: map[string]any{"sub": "alice"}, change: func(o *Options) { o.UserClaim = "sub" }, want: "accepted"},
		"a client of ours":               {change: func(o *Options) { o.Clients = []string{"k9", "thunderbird"} }, want: "accepted"},
		"client_id":                      {said: map[string]any{"azp": nil, "client_id": "k9"}, change: func(o *Options) { o.Clients = []string{"k9"} }, want: "accepted"},
		"another client":                 {change: func(o *Options) { o.Clients = []string{"k9"} }, want: "bad_token"},
		"azp counts before client_id":    {said: map[string]any{"client_id": "k9"}, change: func(o *Options) { o.Clients = []string{"k9"} }, want: "bad_token"},
		"the scopes":                     {change: func(o *Options) { o.Scopes = []string{"mail", "openid"} }, want: "accepted"},
		"a part of a scope":              {change: func(o *Options) { o.Scopes = []string{"mai"} }, want: "bad_token"},
		"scp":                            {said: map[string]any{"scope": nil, "scp": []string{"mail"}}, change: func(o *Options) { o.Scopes = []string{"mail"} }, want: "accepted"},
		"another algorithm":              {change: func(o *Options) { o.Algorithms = []string{"RS256"} }, want: "bad_token"},
		"an access token":                {change: func(o *Options) { o.Type = "JWT" }, want: "accepted"},
		"an ID token":                    {change: func(o *Options) { o.Type = "at+jwt" }, want: "bad_token"},
	} {
		t.Run(name, func(t *testing.T) {
			said := p.good()
			maps.Copy(said, c.said)
			maps.DeleteFunc(said, func(_ string, v any) bool { return v == nil })
			s := p.source(t, c.change)
			if got := ask(t, s, sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", said)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if got := ask(t, s, sign(t, other, jose.ES256, "k1", "JWT", said)); got == "accepted" {
				t.Error("another's signature is accepted")
			}
		})
	}
}

func TestATokenThatIsNoneIsRefused(t *testing.T) {
	p := newProvider(t)
	s := p.source(t, nil)
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	good := sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())
	parts := strings.Split(good, ".")
	public, err := json.Marshal(jose.JSONWebKey{Key: p.keys["k1"].Public()})
	if err != nil {
		t.Fatal(err)
	}
	forged := p.good()
	forged["scope"] = "everything"
	for name, token := range map[string]string{
		"opaque":                    "2YotnFZFEjr1zCsicMWpAA",
		"none":                      part(map[string]string{"alg": "none", "kid": "k1"}) + "." + parts[1] + ".",
		"signed by the public key":  sign(t, public, jose.HS256, "k1", "JWT", p.good()),
		"no signature":              parts[0] + "." + parts[1] + ".",
		"other claims":              parts[0] + "." + part(forged) + "." + parts[2],
		"five parts":                good + ".e.f",
		"an extension that must be": part(map[string]any{"alg": "ES256", "kid": "k1", "crit": []string{"x"}, "x": 1}) + "." + parts[1] + "." + parts[2],
		"16 KB":                     strings.Repeat("a.b.", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, s, token); got != "bad_token" {
				t.Error(got)
			}
		})
	}
	if got := ask(t, s, good); got != "accepted" {
		t.Error(got)
	}
}

// A client names keys that don't exist as often as it likes: the provider isn't asked each time.
func TestTheKeysAreFetchedSeldom(t *testing.T) {
	p := newProvider(t)
	s := p.source(t, nil)
	good := sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())
	other := newKey(t)
	for range 20 {
		ask(t, s, good)
		if got := ask(t, s, sign(t, other, jose.ES256, rand.Text(), "JWT", p.good())); got != "bad_token" {
			t.Fatal(got)
		}
		ask(t, s, sign(t, other, jose.ES256, "k1", "JWT", p.good()))
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	p.with(func() { p.keys["k2"] = other })
	second := sign(t, other, jose.ES256, "k2", "JWT", p.good())
	p.ahead.Add(int64(fetchEvery))
	if got := ask(t, s, second); got != "accepted" {
		t.Errorf("by a new key: %s", got)
	}
	if n := p.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
	// A key that is withdrawn isn't a key any more, once the set has its age.
	p.with(func() { delete(p.keys, "k1") })
	p.ahead.Add(int64(keysAge))
	if got := ask(t, s, good); got != "bad_token" {
		t.Errorf("by a key that was withdrawn: %s", got)
	}
}

func TestWithoutItsProviderASourceGoesOnByTheKeysThatItHas(t *testing.T) {
	p := newProvider(t)
	var logged strings.Builder
	s := p.source(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	good := sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())
	p.with(func() { p.down = true })
	for range 5 {
		if got := ask(t, s, good); got != "unavailable" {
			t.Fatalf("without keys: %s", got)
		}
	}
	if n := p.fetches.Load(); n != 1 || !strings.Contains(logged.String(), "502") {
		t.Errorf("%d fetches; logged: %s", n, logged.String())
	}
	p.with(func() { p.down = false })
	p.ahead.Add(int64(fetchEvery))
	if got := ask(t, s, good); got != "accepted" {
		t.Fatalf("with the provider back: %s", got)
	}
	p.with(func() { p.down = true })
	p.ahead.Add(int64(keysAge))
	if got := ask(t, s, good); got != "accepted" {
		t.Errorf("without the provider, by a key that is known: %s", got)
	}
	if got := ask(t, s, sign(t, newKey(t), jose.ES256, "new", "JWT", p.good())); got != "unavailable" {
		t.Errorf("without the provider, by a key that isn't known: %s", got)
	}
}

// Logins that come at the same time wait for one fetch.
func TestLoginsAtTheSameTimeWaitForOneFetch(t *testing.T) {
	p := newProvider(t)
	s := p.source(t, nil)
	good := sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := ask(t, s, good); got != "accepted" {
				t.Error(got)
			}
		})
	}
	all.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestAConfigurationOfAnotherIssuerIsRefused(t *testing.T) {
	p := newProvider(t)
	p.named = "https://other.example"
	s := p.source(t, nil)
	if got := ask(t, s, sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())); got != "unavailable" {
		t.Error(got)
	}
	if _, err := s.Try(t.Context()); err == nil || !strings.Contains(mend(err.(*auth.Fault).Err), "exactly") {
		t.Errorf("check says %v", err)
	}
	s = p.source(t, func(o *Options) { o.KeysURL = p.URL + "/keys" })
	if got := ask(t, s, sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())); got != "accepted" {
		t.Errorf("by jwks_url: %s", got)
	}
}

func (p *provider) introspector(t *testing.T, change func(*Options)) *Source {
	return p.source(t, func(o *Options) {
		o.Issuer, o.Audience, o.IntrospectionURL, o.ClientID, o.ClientSecret = "", nil, p.URL+"/introspect", "proxy", "s+cret"
		if change != nil {
			change(o)
		}
	})
}

func TestWhatTheProviderSaysAboutATokenCounts(t *testing.T) {
	p := newProvider(t)
	for name, c := range map[string]struct {
		answer string
		change func(*Options)
		want   string
	}{
		"active":             {`{"active":true,"email":"alice@example.org"}`, nil, "accepted"},
		"inactive":           {`{"active":false,"email":"alice@example.org"}`, nil, "unknown"},
		"active as text":     {`{"active":"true","email":"alice@example.org"}`, nil, "unavailable"},
		"no JSON":            {`<html>`, nil, "unavailable"},
		"too long":           {`{"active":true,"email":"alice@example.org","x":"` + strings.Repeat("x", maxAnswer) + `"}`, nil, "unavailable"},
		"another's":          {`{"active":true,"email":"bob@example.org"}`, nil, "bad_token"},
		"expired":            {`{"active":true,"email":"alice@example.org","exp":1}`, nil, "expired_token"},
		"another issuer":     {`{"active":true,"email":"alice@example.org","iss":"https://evil.example"}`, func(o *Options) { o.Issuer = p.URL }, "unknown"},
		"for another":        {`{"active":true,"email":"alice@example.org","aud":"calendar"}`, func(o *Options) { o.Audience = []string{"imap"} }, "bad_token"},
		"without the scope":  {`{"active":true,"email":"alice@example.org","scope":"openid"}`, func(o *Options) { o.Scopes = []string{"mail"} }, "bad_token"},
		"by another client":  {`{"active":true,"email":"alice@example.org","client_id":"x"}`, func(o *Options) { o.Clients = []string{"y"} }, "bad_token"},
		"username":           {`{"active":true,"username":"alice"}`, func(o *Options) { o.UserClaim = "username" }, "accepted"},
		"another secret":     {`{"active":true,"email":"alice@example.org"}`, func(o *Options) { o.ClientSecret = "x" }, "unavailable"},
		"nothing listens":    {`{"active":true,"email":"alice@example.org"}`, func(o *Options) { o.IntrospectionURL = "http://127.0.0.1:1/" }, "unavailable"},
		"another's, expired": {`{"active":true,"email":"bob@example.org","exp":1}`, nil, "bad_token"},
	} {
		t.Run(name, func(t *testing.T) {
			p.with(func() { p.about["tok-1"] = c.answer })
			if got := ask(t, p.introspector(t, c.change), "tok-1"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// An answer counts for its time, and not for longer: a token that was revoked is refused then.
func TestAnAnswerCountsForItsTime(t *testing.T) {
	p := newProvider(t)
	s := p.introspector(t, nil)
	p.about["tok-1"] = `{"active":true,"email":"alice@example.org"}`
	for range 3 {
		if got := ask(t, s, "tok-1"); got != "accepted" {
			t.Fatal(got)
		}
	}
	p.with(func() { delete(p.about, "tok-1") })
	if got := ask(t, s, "tok-1"); got != "accepted" || p.asked.Load() != 1 {
		t.Errorf("%s, asked %d times", got, p.asked.Load())
	}
	p.ahead.Add(int64(DefaultCacheFor))
	if got := ask(t, s, "tok-1"); got != "unknown" || p.asked.Load() != 2 {
		t.Errorf("%s, asked %d times", got, p.asked.Load())
	}
	// A provider that is down says nothing, and that isn't remembered.
	p.with(func() { p.down = true; p.about["tok-2"] = `{"active":true,"email":"alice@example.org"}` })
	if got := ask(t, s, "tok-2"); got != "unavailable" {
		t.Error(got)
	}
	p.with(func() { p.down = false })
	if got := ask(t, s, "tok-2"); got != "accepted" {
		t.Error(got)
	}
	always := p.introspector(t, func(o *Options) { o.CacheFor = -1 })
	n := p.asked.Load()
	ask(t, always, "tok-2")
	ask(t, always, "tok-2")
	if p.asked.Load()-n != 2 {
		t.Errorf("asked %d times", p.asked.Load()-n)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	c := newCache(time.Hour)
	for range maxCached + 10 {
		c.put(rand.Text(), answer{active: true}, time.Now())
	}
	if n := c.lru.Len(); n != maxCached {
		t.Errorf("%d answers", n)
	}
}

// A provider that hangs costs a login its time, no more.
func TestAProviderThatHangsIsUnavailable(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	defer close(release)
	p := newProvider(t)
	quick := func(o *Options) { o.Asking.Timeout = 50 * time.Millisecond }
	s := p.introspector(t, func(o *Options) { quick(o); o.IntrospectionURL = hangs.URL })
	if got := ask(t, s, "tok-1"); got != "unavailable" {
		t.Error(got)
	}
	s = p.source(t, func(o *Options) { quick(o); o.KeysURL = hangs.URL })
	if got := ask(t, s, sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())); got != "unavailable" {
		t.Error(got)
	}
}

func TestAPasswordIsNeverTakenForAToken(t *testing.T) {
	p := newProvider(t)
	s := p.source(t, nil)
	token := sign(t, p.keys["k1"], jose.ES256, "k1", "JWT", p.good())
	for _, m := range []string{auth.MechanismPlain, auth.MechanismLogin, auth.MechanismCommand} {
		c, err := auth.NewCredentials(s.o.Names, m, "", "alice", telemetry.Secret(token))
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := auth.First(t.Context(), []auth.Source{s}, c); isAccepted(v) {
			t.Errorf("%s: %v", m, v)
		}
		if _, unknown := s.Authenticate(t.Context(), c).(auth.Unknown); !unknown {
			t.Errorf("%s: it is taken", m)
		}
	}
}

func isAccepted(v auth.Verdict) bool {
	_, ok := v.(auth.Accepted)
	return ok
}

func TestCheckTriesTheProvider(t *testing.T) {
	p := newProvider(t)
	if what, err := p.source(t, nil).Try(t.Context()); err != nil || !strings.Contains(what, "1 keys") {
		t.Error(what, err)
	}
	if what, err := p.introspector(t, nil).Try(t.Context()); err != nil {
		t.Error(what, err)
	}
	_, err := p.introspector(t, func(o *Options) { o.ClientID = "x" }).Try(t.Context())
	if f, ok := err.(*auth.Fault); !ok || !strings.Contains(f.Mend, "client_secret_file") {
		t.Error(err)
	}
}
