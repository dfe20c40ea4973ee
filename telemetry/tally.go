package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Part is a share of a command's time.
type Part int

// The shares of a command's time.
const (
	PartAll     Part = iota
	PartClient       // the client didn't read
	PartProxy        // the command was on its way from the client to the backend
	PartBackend      // the proxy waited for the backend
	PartResume       // the session had no backend connection
	partCount
)

// Times are measured to a quarter of a power of two, from tallyUnit to half a minute; longer ones count as the longest.
const (
	tallyUnit  = 100 * time.Microsecond
	tallyCells = 8 + 4*16
)

// tally counts logins and the times of commands since the start, without a lock and without an allocation.
type tally struct {
	logins, failed, backend atomic.Int64
	times                   [partCount][tallyCells]atomic.Int64
}

// Tally is what a tally has counted since the start.
type Tally struct {
	Logins        int64 // of clients that succeeded
	FailedLogins  int64 // of clients
	BackendLogins int64 // at backends that succeeded: of sessions, of resumes, of watches and looks
	times         [partCount][tallyCells]int64
}

// tallyCell returns where a time is counted.
func tallyCell(d time.Duration) int {
	n := uint64(max(d, 0) / tallyUnit)
	if n < 8 {
		return int(n)
	}
	shift := bits.Len64(n) - 3
	return min(8+(shift-1)*4+int(n>>shift)&3, tallyCells-1)
}

// tallyBound returns the time below which all times of a cell are.
func tallyBound(cell int) time.Duration {
	if cell < 8 {
		return time.Duration(cell+1) * tallyUnit
	}
	shift := (cell-8)/4 + 1
	return time.Duration((4+(cell-8)%4+1)<<shift) * tallyUnit
}

// Commands returns how many commands were measured since an earlier tally.
func (t *Tally) Commands(earlier *Tally) (n int64) {
	for i := range t.times[PartAll] {
		n += t.times[PartAll][i] - earlier.times[PartAll][i]
	}
	return n
}

// Quantile returns the time within which a share q of the commands since an earlier tally had that part of their time; 0: there were none.
func (t *Tally) Quantile(earlier *Tally, of Part, q float64) time.Duration {
	n := t.Commands(earlier)
	if n == 0 {
		return 0
	}
	cell := tallyQuantile(n, q, func(i int) int64 { return t.times[of][i] - earlier.times[of][i] })
	if cell == 0 && of != PartAll {
		return 0 // less than the unit: mostly nothing at all
	}
	return tallyBound(cell)
}

// tallyQuantile returns the cell in which the quantile q of n times is; at returns how many are in a cell.
func tallyQuantile(n int64, q float64, at func(cell int) int64) int {
	left := int64(float64(n)*q) + 1
	for i := range tallyCells {
		if left -= at(i); left <= 0 {
			return i
		}
	}
	return tallyCells - 1
}
