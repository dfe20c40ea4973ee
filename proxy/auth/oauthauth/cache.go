package oauthauth

import (
	"crypto/rand"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru"

	"imapproxy/proxy/auth"
)

// maxCached is how many answers of a provider are remembered.
const maxCached = 1 << 14

// answer is a provider's about a token.
type answer struct {
	active bool
	said   claims
	until  time.Time
}

func (a answer) claims() (claims, auth.Verdict) {
	if !a.active {
		return nil, auth.Unknown{} // a token of another provider, perhaps: RFC 7662 §2.2 doesn't tell
	}
	return a.said, nil
}

// cache remembers a provider's answers, by a keyed digest of the token.
type cache struct {
	key  [32]byte
	long time.Duration
	lru  *lru.Cache
}

func newCache(long time.Duration) *cache {
	entries, err := lru.New(maxCached)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	c := &cache{long: long, lru: entries}
	_, _ = rand.Read(c.key[:]) // it never fails
	return c
}

func (c *cache) digest(token string) [sha256.Size]byte {
	return sha256.Sum256(append(c.key[:], token...))
}

// get returns an answer that still counts.
func (c *cache) get(token string, now time.Time) (answer, bool) {
	v, ok := c.lru.Get(c.digest(token))
	if !ok {
		return answer{}, false
	}
	a := v.(answer)
	return a, now.Before(a.until)
}

// put remembers an answer, as of when it was asked for. A token's exp is looked at with each login, so it needn't
// end the answer's time.
func (c *cache) put(token string, a answer, asked time.Time) {
	if c.long <= 0 {
		return
	}
	a.until = asked.Add(c.long)
	c.lru.Add(c.digest(token), a)
}
