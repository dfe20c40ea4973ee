package guessing

import (
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/simplelru"
)

// Bounds of what is remembered, in entries; the one that was used longest ago is forgotten. All of them together
// take about 60 MB.
const (
	maxBuckets   = 1 << 15 // of each kind
	maxPasswords = 1 << 15
	maxUsers     = 1 << 17 // who have logged in
	maxOfUser    = 8       // addresses of one of them
	loginCounts  = 30 * 24 * time.Hour
)

// memory is what a Guard remembers.
//
//   - addresses, networks, users: a bucket for each with a failure lately.
//   - passwords: those that were wrong lately.
//   - known: the addresses from which a user has logged in within loginCounts, the latest last.
type memory struct {
	addresses, networks, users buckets
	passwords                  *simplelru.LRU // of fingerprints, without values
	known                      *simplelru.LRU // of []seen, by the user's fingerprint
}

// seen is a login of a user.
type seen struct {
	login fingerprint
	unix  int64 // seconds
}

func newMemory() memory {
	return memory{
		addresses: buckets{newLRU(maxBuckets), 5, 30 * time.Second},
		networks:  buckets{newLRU(maxBuckets), 15, 10 * time.Second},
		users:     buckets{newLRU(maxBuckets), 10, 30 * time.Second},
		passwords: newLRU(maxPasswords),
		known:     newLRU(maxUsers),
	}
}

func newLRU(size int) *simplelru.LRU {
	l, err := simplelru.NewLRU(size, nil)
	if err != nil {
		panic("guessing: a size that isn't positive: " + err.Error())
	}
	return l
}

// hasLoggedIn says whether a user has logged in from an address within loginCounts.
func (m *memory) hasLoggedIn(now time.Time, user, login fingerprint) bool {
	v, ok := m.known.Get(user)
	if !ok {
		return false
	}
	all := v.([]seen)
	i := slices.IndexFunc(all, func(s seen) bool { return s.login == login })
	return i >= 0 && now.Sub(time.Unix(all[i].unix, 0)) < loginCounts
}

// loggedIn records a login.
func (m *memory) loggedIn(now time.Time, user, login fingerprint) {
	var all []seen
	if v, ok := m.known.Get(user); ok {
		all = slices.DeleteFunc(v.([]seen), func(s seen) bool { return s.login == login })
	}
	if len(all) >= maxOfUser {
		all = slices.Delete(all, 0, len(all)-maxOfUser+1)
	}
	m.known.Add(user, append(all, seen{login, now.Unix()}))
}

// repeated says whether a password was wrong before, and records it.
func (m *memory) repeated(password fingerprint) bool {
	_, before := m.passwords.Get(password)
	m.passwords.Add(password, nil)
	return before
}

// buckets are the buckets of one kind.
type buckets struct {
	of    *simplelru.LRU // of *bucket
	holds float64        // failures that delay nothing
	leaks time.Duration  // for one failure to be forgotten
}

// bucket has the failures of one key.
type bucket struct {
	level float64
	at    time.Time // when the level was that
}

// beyond is how many failures are counted beyond what a bucket holds. Some leak away until the next login, so at least four
// delay it: by sixteen times the first delay, or the longest.
const beyond = 5

// over is by how many failures a bucket is too full; below 0 it has room.
func (b *buckets) over(now time.Time, key any) int {
	v, ok := b.of.Get(key)
	if !ok {
		return -1
	}
	one := v.(*bucket)
	one.leak(now, b.leaks)
	if one.level < b.holds {
		return -1
	}
	return int(one.level - b.holds)
}

// fill counts a failure.
func (b *buckets) fill(now time.Time, key any) {
	v, ok := b.of.Get(key)
	if !ok {
		v = &bucket{at: now}
		b.of.Add(key, v)
	}
	one := v.(*bucket)
	one.leak(now, b.leaks)
	one.level = min(one.level+1, b.holds+beyond)
}

// leak lowers the level to that of now.
func (b *bucket) leak(now time.Time, leaks time.Duration) {
	if past := now.Sub(b.at); past > 0 {
		b.level = max(0, b.level-past.Seconds()/leaks.Seconds())
		b.at = now
	}
}
