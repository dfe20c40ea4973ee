package routing

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// Weighted rendezvous (highest random weight): each backend gets a score from
// (user, backend), the highest wins. When a backend comes, goes or changes its
// weight, only users it wins or loses move; every proxy that knows the same
// set makes the same choice, whatever order it learnt it in.
//
// The scores are part of the product: changing this file moves users at an
// upgrade, and splits them while two versions run. A golden test holds it.

// keyHash is the hash of a user name or a backend id.
func keyHash(s string) uint64 { return xxhash.Sum64String(s) }

// mix is the finaliser of splitmix64. Without it the scores of two backends
// would be related, since both start from the same user's hash.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return x
}

// score is -w/ln(h), with h uniform in (0,1) for the pair. With it the chance
// to win is exactly proportional to the weight.
func score(user, backend uint64, weight int) float64 {
	h := (float64(mix(user^backend)>>11) + 0.5) * 0x1p-53 // never 0, never 1
	return -float64(weight) / math.Log(h)
}
