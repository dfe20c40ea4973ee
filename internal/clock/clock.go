// Package clock writes instants as numbers, for atomics and for fields that each session has. The numbers count on the monotonic
// clock, so that what is computed from them isn't changed by a step of the machine's time: by the number that
// time.Time.UnixNano gives, a step of an hour would make each client one that has been silent for an hour.
//
// Imports none of our packages. Imported by proxy/session and proxy/upstream.
package clock

import (
	"math"
	"time"
)

// start is an instant with a monotonic reading, and origin its number: all others are counted from it. origin is so high that no instant
// that is met has a number below 1.
var start = time.Now()

const origin = 100 * 365 * 24 * int64(time.Hour)

// Of returns the number of an instant, in nanoseconds; it isn't 0, which fields use for "never". It has a meaning in this process only. Instants
// that are too far in the future to be written have the highest number.
func Of(t time.Time) int64 {
	d := int64(t.Sub(start))
	if d > math.MaxInt64-origin {
		return math.MaxInt64
	}
	return d + origin
}

// At returns the instant with a number. That of 0 is long ago.
func At(n int64) time.Time { return start.Add(time.Duration(n - origin)) }
