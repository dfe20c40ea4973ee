package telemetry

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// DefaultSlowCommand is the default of Options.SlowCommand.
const DefaultSlowCommand = 2 * time.Second

// Options configure logs, metrics and traces. The zero value logs text at level
// info to standard error and keeps no metrics and no traces.
type Options struct {
	Service  string // resource service.name; "" is "imapproxy"
	Instance string // resource service.instance.id; "" leaves it out
	Version  string // resource service.version, and the build_info metric

	// LogWriter receives the log's lines; nil is standard error. If it is a file of the operating system that
	// can block (a pipe, a terminal), lines go through a bounded queue, which Shutdown empties: call Shutdown
	// before the process ends.
	LogWriter io.Writer
	// LogFile is a file to which the log's lines are appended instead; "": none. SwitchLog opens it again, or
	// opens another.
	LogFile   string
	LogFormat string       // "text" (also "") or "json"
	LogLevel  slog.Leveler // nil is info; a *slog.LevelVar can be set later

	// Personal says what logs and traces hold of users' and mailboxes' names and of clients' addresses: PersonalFull (also
	// ""), PersonalHashed or PersonalNone. Events, Ended, FailedLogins and SlowCommands have them all the same.
	Personal    string
	PersonalKey Secret // of PersonalHashed, which needs one: proxies with the same key write the same hashes

	// LogsEndpoint is an OTLP address to which the log's lines are sent as well; "" is off. An address without a path means
	// /v1/logs.
	LogsEndpoint string
	LogsHeaders  map[string]string
	LogsProtocol string // as TracesProtocol
	LogsCAFile   string

	// TracesEndpoint is an OTLP address such as http://collector:4318; "" is off. An address without a
	// path means /v1/traces; other paths are used as they are.
	TracesEndpoint string
	TracesHeaders  map[string]string
	TracesProtocol string // "grpc" is OTLP/gRPC, where paths have no meaning; "http" (also ""): OTLP/HTTP
	TracesCAFile   string // the authorities for https://; "": the system's
	// SampleRatio is the share, 0 to 1, of the logins and commands whose trace is
	// kept although they went well.
	SampleRatio float64
	// SlowCommand is the duration from which on the trace of a command or login is always kept. 0 is
	// DefaultSlowCommand; negative: never.
	SlowCommand time.Duration

	// MetricsEndpoint is an OTLP address to push metrics to; "" is off. An address without a path means
	// /v1/metrics.
	MetricsEndpoint string
	MetricsHeaders  map[string]string
	MetricsProtocol string
	MetricsCAFile   string
	MetricsInterval time.Duration // between pushes; 0 is a minute
	Prometheus      bool          // make MetricsHandler serve

	// SpanExporter receives the spans at once instead of TracesEndpoint. For tests.
	SpanExporter sdktrace.SpanExporter
	// Now is the clock of the phases of a login; nil is time.Now.
	Now func() time.Time
}

// Telemetry records the logs, metrics and traces of all packages. All methods, also those of a Discard, are
// safe for concurrent use, and none blocks on anything outside the process.
type Telemetry struct {
	// Log is the process's logger. SessionLogger returns those of sessions.
	Log *slog.Logger

	metrics *metrics     // nil if metrics aren't read
	tracer  trace.Tracer // nil if traces aren't read
	steps   sync.Pool    // of *Steps; used if there is a tracer
	handler http.Handler // of the Prometheus endpoint, nil if that is off
	now     func() time.Time
	own     *ownCounts
	names   personal // what may be written of names and addresses
	scarce  scarcity // the process's own shortages
	recent  recent   // what happened at each backend
	kept    kept     // what the admin page shows of the past
	tally   tally
	late    lateLogins
	retried retried // the traces of resyncs and of watches' conversations
	tape    *tape   // the last commands; nil in a Discard

	ratio atomic.Uint64 // math.Float64bits of the share of traces kept
	slow  atomic.Int64  // time.Duration; negative is never

	spans    *spanPipe // nil without tracer
	traces   *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	clients  []*http.Client // of the OTLP/HTTP exporters
	records  *recordPipe    // nil if lines aren't exported
	logLines *lineQueue     // nil if lines are written directly
	sink     *sink          // writes the lines; nil in a Discard

	stop     context.CancelFunc // ends exports that are in progress
	stopOnce sync.Once
	stopErr  error
}

// SetSampling changes the share of traces that are kept and what is slow (as in
// Options) from the next login and command on, for a reload.
func (t *Telemetry) SetSampling(ratio float64, slow time.Duration) {
	if slow == 0 {
		slow = DefaultSlowCommand
	}
	t.ratio.Store(math.Float64bits(min(max(ratio, 0), 1)))
	t.slow.Store(int64(slow))
}

// isSlow says whether something took so long that its trace is kept.
func (t *Telemetry) isSlow(took time.Duration) bool {
	slow := time.Duration(t.slow.Load())
	return slow >= 0 && took >= slow
}

// Shortage is a resource that the proxy itself ran out of, at one place.
type Shortage struct {
	Of    string // descriptors, ports, memory
	At    string // accept, dial, probe, handover
	Count int64  // how often it happened since the start
	Last  time.Time
	Error string // the last error
}

// scarcity counts shortages. Their kinds and places are constants of the callers, so the map is bounded.
type scarcity struct {
	mu  sync.Mutex // guards the fields below; it isn't held while a line is logged
	all map[[2]string]*shortage
}

type shortage struct {
	Shortage
	logged time.Time
	quiet  int64 // how many weren't logged
}
