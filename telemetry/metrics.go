package telemetry

import (
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"

	"imapproxy/proxy/wire"
)

// metrics holds the instruments. It exists only if metrics are read; with a nil *metrics every recording
// method returns at once.
type metrics struct {
	reloads            metric.Int64Counter
	sessionsOpened     metric.Int64Counter
	sessionsClosed     metric.Int64Counter
	compressed         metric.Int64Counter
	compressions       metric.Int64Counter
	sessionDuration    metric.Float64Histogram
	connectionsRefused metric.Int64Counter
	tlsHandshake       metric.Float64Histogram
	login              metric.Float64Histogram
	loginFailures      metric.Int64Counter
	loginDelays        metric.Int64Counter
	policy             metric.Float64Histogram
	policyUnasked      metric.Int64Counter
	backendDial        metric.Float64Histogram
	backendLogin       metric.Float64Histogram
	backendConns       metric.Int64UpDownCounter
	backendRetries     metric.Int64Counter
	shortages          metric.Int64Counter
	backendStalls      metric.Int64Counter
	viewsLost          metric.Int64Counter
	backendFlaps       metric.Int64Counter
	failovers          metric.Int64Counter
	discoveryUpdates   metric.Int64Counter
	parks              metric.Int64Counter
	parkRefusals       metric.Int64Counter
	resume             metric.Float64Histogram
	recovery           metric.Float64Histogram
	resyncs            metric.Int64Counter
	resyncDuration     metric.Float64Histogram
	poolGiven          metric.Int64Counter
	poolAsked          metric.Int64Counter
	poolClosed         metric.Int64Counter

	// The instruments of hot.go, which each command or read changes.
	hot               *hot
	commands          [wire.NumVerbs][statusCount]commandCell
	waits             [wire.NumVerbs]*hotSeries
	commandResumeWait metric.Float64Histogram
	verbOptions       [wire.NumVerbs][]metric.RecordOption // of commandResumeWait
	relayed           [2]paddedInt64                       // by Direction

	sessions atomic.Pointer[func() []AttachmentCount]
	routing  atomic.Pointer[func() RoutingStats]
	parking  atomic.Pointer[func() ParkingStats]
	cluster  atomic.Pointer[func() ClusterStats]
	leaving  atomic.Pointer[func() LeavingStats]
	problems atomic.Pointer[func() map[string]int64]
	process  atomic.Pointer[func() ProcessStats]
}

// Direction says which way bytes went.
type Direction int

// The directions of the relay.
const (
	In  Direction = iota // from the client to the backend
	Out                  // from the backend to the client
)

// commandCell has the figures of one verb with one status.
type commandCell struct {
	count    atomic.Int64
	duration *hotSeries
	observe  []metric.ObserveOption // for the counter
}

// paddedInt64 fills a cache line, since different cores count both directions at the same time.
type paddedInt64 struct {
	atomic.Int64
	_ [56]byte
}
