package guessing

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/simplelru"

	"imapproxy/internal/fair"
)

// Handshakes bound how many TLS handshakes a network (/24, /48) may have in a time: each costs the proxy about as much as a whole login
// costs otherwise. A handshake that a login follows doesn't count, so users don't use up what their network has, however many they are. A
// bucket of each network has the others. The zero value is usable. It is safe for concurrent use.
type Handshakes struct {
	mu sync.Mutex     // guards of and what is in it; a few lines, no I/O
	of *simplelru.LRU // of *handshakes, by network; nil: none yet
}

// HandshakeRules are the settings. The zero value bounds nothing.
type HandshakeRules struct {
	PerMinute int            // of one network, without a login; 0: any number
	Trusted   []netip.Prefix // the networks whose handshakes don't count
}

// knownFactor is how many times as many a network has from which users have logged in lately: all of its users come at the same
// time after a restart of the proxy, and their logins follow later.
const knownFactor = 10

// handshakes has those of one network that no login has followed.
type handshakes struct {
	bucket
	told time.Time // when it was last said that there were too many
}

// Handshake is one that was begun. A nil Handshake doesn't count.
type Handshake struct {
	of      *Handshakes
	network netip.Prefix
}

// Begin counts a handshake of a client, unless its network has had too many: then it isn't ok, and the handshake must not be
// made. known says that users have logged in from the network lately. told is true for the first one in a minute that isn't ok.
func (h *Handshakes) Begin(now time.Time, rules HandshakeRules, client netip.Addr, known bool) (one *Handshake, ok, told bool) {
	if rules.PerMinute <= 0 || !client.IsValid() || fair.In(rules.Trusted, client) {
		return nil, true, false
	}
	_, network := places(client)
	holds := float64(rules.PerMinute)
	leaks := time.Minute / time.Duration(rules.PerMinute)
	if known {
		holds, leaks = holds*knownFactor, leaks/knownFactor
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.ofNetwork(network, now)
	b.leak(now, leaks)
	if b.level+1 > holds {
		told = now.Sub(b.told) >= time.Minute
		if told {
			b.told = now
		}
		return nil, false, told
	}
	b.level++
	return &Handshake{of: h, network: network}, true, false
}

// ofNetwork returns a network's bucket, under mu. That of the network whose last handshake is the longest ago is forgotten.
func (h *Handshakes) ofNetwork(network netip.Prefix, now time.Time) *handshakes {
	if h.of == nil {
		h.of = newLRU(maxBuckets)
	}
	if v, ok := h.of.Get(network); ok {
		return v.(*handshakes)
	}
	b := &handshakes{bucket: bucket{at: now}}
	h.of.Add(network, b)
	return b
}

// LoggedIn takes back that the handshake counts: a login has followed it.
func (one *Handshake) LoggedIn() {
	if one == nil {
		return
	}
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	if v, ok := one.of.of.Peek(one.network); ok {
		b := v.(*handshakes)
		b.level = max(0, b.level-1)
	}
}
