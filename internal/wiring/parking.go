package wiring

import (
	"os"
	"strings"
	"syscall"
	"time"

	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// Hub returns the hub's options, except the queue of hints and the clock.
func Hub(c *config.Config, tel *telemetry.Telemetry) park.HubOptions {
	return park.HubOptions{
		Watch: c.Park.Watch, Push: c.Park.Push(), SweepEvery: c.Park.SweepEvery,
		MaxDiffMessages: uint32(c.Park.MaxDiffMessages), Telemetry: tel,
	}
}

// Pool returns the pool's options, except the room and the clock.
func Pool(c *config.Config, tel *telemetry.Telemetry) upstream.PoolOptions {
	return upstream.PoolOptions{
		WarmFor: c.Park.WarmFor, AuthCacheFor: c.Park.AuthCacheFor, PerUser: c.Park.WarmPerUser, Total: warmConnections(c), Telemetry: tel,
		// A short warm_for needs a shorter period than the pool's default.
		SweepEvery: min(upstream.DefaultPoolSweep, max(c.Park.WarmFor/4, 500*time.Millisecond)),
	}
}

// warmConnections returns how many warm connections there may be: by default an eighth of the number of files
// that the process may open.
func warmConnections(c *config.Config) int {
	if c.Park.WarmConnections > 0 {
		return c.Park.WarmConnections
	}
	return min(max(descriptors()/8, upstream.DefaultPoolTotal), 1<<20) // the number may mean “no limit”
}

// descriptors returns how many files the process may open; 0: unknown.
func descriptors() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return int(min(files.Cur, 1<<30))
}

// Park returns the server's options of parking, except the hub and the pool.
func Park(c *config.Config) proxy.ParkOptions {
	return proxy.ParkOptions{
		Linger: c.Park.Linger, QuietAfter: c.Park.QuietAfter, Keepalive: None(c.Park.Keepalive),
		ResumeConcurrency: c.Park.ResumeConcurrency, ResumeRate: c.Park.ResumeRate,
	}
}

// EventSecrets reads the tokens of events, one a line; none where there are no
// events.
func EventSecrets(c *config.Config) ([]telemetry.Secret, error) {
	if !c.Park.Push() {
		return nil, nil
	}
	text, err := os.ReadFile(c.Park.Events.TokenFile)
	if err != nil {
		return nil, err
	}
	var all []telemetry.Secret
	for _, token := range strings.Fields(string(text)) {
		all = append(all, telemetry.Secret(token))
	}
	return all, nil
}
