package agree

import "time"

const (
	drainSpread = 30 * time.Second // the time after a deadline in which all sessions that are left are ended
	maxDrains   = 256              // that operators may ask for; a fleet may have more
	maxBy       = 100              // bytes of Drain.By
	maxWithin   = 30 * 24 * time.Hour

	drainedReason = "drained by an operator"
)

// Bounds of values that are read and written. Consul takes values of 512 KiB, and a Txn of 512 KiB after
// base64.
const (
	maxKept       = 16      // fleets that are kept for proxies that haven't acked a later one
	maxBackends   = 4096    // in a fleet
	maxValue      = 320_000 // bytes of a value
	maxName       = 512     // bytes of a user's name or a backend's id
	maxShards     = 64      // keys overrides/NN
	maxOverrides  = 20_000  // users that overrides name
	maxNamedStays = 8192    // users' own stays in the record of a proxy
)
