package routing

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// Weighted rendezvous (highest random weight): each backend gets a score from (bucket, backend), and the
// highest wins. When a backend is added, removed or gets another weight, only users that it wins or loses
// move. All proxies that know the same set make the same choice, independent of its order.
//
// Users are placed by their bucket, so that several proxies can describe in few bytes where users are
// (routing/agree). With 4,096 buckets the share of one of n backends differs from its weight's by about the
// square root of n/4,096: 3 % for 4, 11 % for 50.
//
// The scores are part of the product: a change of this file moves users at an upgrade, and splits them while
// two versions run. A golden test checks them.

// Buckets is the number of buckets into which users are divided.
const Buckets = 1 << 12

// Bucket returns the user's bucket, below Buckets. user is the canonical name.
func Bucket(user string) int { return int(keyHash(user) % Buckets) }

// Target is a backend as the rendezvous sees it.
type Target struct {
	hash   uint64
	weight int
}

// NewTarget returns a backend's target. A target with weight 0 is never chosen.
func NewTarget(id string, weight int) Target { return Target{keyHash(id), weight} }

// Rendezvous returns the index of the target to which a bucket's users go. If two scores are equal, the first
// wins, so targets have to be sorted by id. It returns -1 if none has a weight.
func Rendezvous(bucket int, targets []Target) int {
	best, top, hash := -1, 0.0, bucketHash(bucket)
	for i, t := range targets {
		if s := score(hash, t.hash, t.weight); s > top {
			best, top = i, s
		}
	}
	return best
}

// keyHash returns the hash of a user name or a backend id.
func keyHash(s string) uint64 { return xxhash.Sum64String(s) }

// bucketHash spreads the buckets' numbers over 64 bits.
func bucketHash(bucket int) uint64 { return mix(uint64(bucket) + 0x9e3779b97f4a7c15) }

// mix is the finaliser of splitmix64. Without it the scores of two backends
// would be related, since both start from the same bucket's hash.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return x
}

// score is -w/ln(h), with h uniform in (0,1) for the pair, so that the chance to win is exactly proportional
// to the weight.
func score(bucket, backend uint64, weight int) float64 {
	h := (float64(mix(bucket^backend)>>11) + 0.5) * 0x1p-53 // never 0, never 1
	return -float64(weight) / math.Log(h)
}
