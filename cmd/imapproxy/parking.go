package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// parking is what sessions need to be parked. A nil *parking is parking that is
// off; all methods do nothing then.
type parking struct {
	hub    *park.Hub
	pool   *upstream.Pool
	queue  *park.HintQueue // of the events' hints
	events *park.Events    // nil: backends post none

	names atomic.Pointer[auth.Names] // for the users of events; a reload sets them

	watching, sweeping *task // hub.Run, pool.Run
}

// newParking makes what runs between begin and end; nil where parking is off.
func newParking(c *config.Config, tel *telemetry.Telemetry) (*parking, error) {
	if !c.Park.Enabled {
		return nil, nil
	}
	p := &parking{queue: park.NewHintQueue(park.HintQueueOptions{})}
	p.setNames(c)
	hub := hubOptions(c, tel)
	hub.Queue = p.queue
	p.hub, p.pool = park.NewHub(hub), upstream.NewPool(poolOptions(c, tel))
	if c.Park.Push() {
		secrets, err := readTokens(c.Park.Events.TokenFile)
		if err == nil {
			p.events, err = park.NewEvents(park.EventsOptions{Secrets: secrets, User: p.user, Wanted: p.hub.Wanted, Log: tel.Log}, hub.Queue)
		}
		if err != nil {
			return nil, fmt.Errorf("park.events.token_file: %w", err)
		}
	}
	tel.SetParkingGauges(p.gauges)
	return p, nil
}

func hubOptions(c *config.Config, tel *telemetry.Telemetry) park.HubOptions {
	return park.HubOptions{
		Watch: c.Park.Watch, Push: c.Park.Push(), SweepEvery: c.Park.SweepEvery,
		MaxDiffMessages: uint32(c.Park.MaxDiffMessages), Telemetry: tel,
	}
}

func poolOptions(c *config.Config, tel *telemetry.Telemetry) upstream.PoolOptions {
	return upstream.PoolOptions{WarmFor: c.Park.WarmFor, AuthCacheFor: c.Park.AuthCacheFor, Telemetry: tel}
}

// parkOptions are the server's part; without a hub nobody is parked.
func parkOptions(c *config.Config, p *parking) proxy.ParkOptions {
	o := proxy.ParkOptions{
		Linger: c.Park.Linger, QuietAfter: c.Park.QuietAfter, Keepalive: c.Park.Keepalive,
		ResumeConcurrency: c.Park.ResumeConcurrency, ResumeRate: c.Park.ResumeRate,
	}
	if p != nil {
		o.Hub, o.Pool = p.hub, p.pool
	}
	return o
}

// readTokens reads the tokens of events, one a line.
func readTokens(path string) ([]telemetry.Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []telemetry.Secret
	for _, token := range strings.Fields(string(text)) {
		all = append(all, telemetry.Secret(token))
	}
	return all, nil
}

func (p *parking) begin() {
	if p == nil {
		return
	}
	p.watching = start(func(ctx context.Context) error { p.hub.Run(ctx); return nil })
	p.sweeping = start(func(ctx context.Context) error { p.pool.Run(ctx); return nil })
}

// reload takes what of the settings a reload can change; the server's part goes
// with its own.
func (p *parking) reload(c *config.Config, tel *telemetry.Telemetry) {
	if p == nil {
		return
	}
	p.setNames(c)
	p.pool.Reload(poolOptions(c, tel))
}

// end closes the connections that no session holds. The sessions have ended.
func (p *parking) end() {
	if p == nil {
		return
	}
	_, _ = p.watching.stop(), p.sweeping.stop()
}

// forget closes the warm connections to backends that aren't to be used any more.
func (p *parking) forget(all []routing.BackendStatus) {
	if p == nil {
		return
	}
	for _, b := range all {
		if b.State != routing.Up || b.Gone {
			p.pool.ForgetBackend(b.ID)
		}
	}
}

func (p *parking) setNames(c *config.Config) {
	n := names(c)
	p.names.Store(&n)
}

// user makes a backend's name for a user canonical.
func (p *parking) user(name string) (string, error) { return p.names.Load().Normalize(name) }

// gauges is what metrics show.
func (p *parking) gauges() telemetry.ParkingStats {
	hub := p.hub.Stats()
	s := telemetry.ParkingStats{
		Mailboxes: map[string]int64{"push": int64(hub.Push), "notify": int64(hub.Notify), "idle": int64(hub.Idle), "poll": int64(hub.Polled)},
		Hints:     map[string]int64{},
		Watches:   map[string]int64{"renewed": int64(hub.Renewed), "lost": int64(hub.Lost), "gone": int64(hub.Gone), "denied": int64(hub.Denied)},
		Waiting:   int64(hub.Waiting),
	}
	for source, n := range hub.Hints {
		s.Hints[string(source)] = int64(n)
	}
	if p.events != nil {
		e := p.events.Stats()
		s.Events = map[string]int64{
			"own": int64(e.Own), "cyrus": int64(e.Cyrus), "ox": int64(e.OX),
			"unauthorized": int64(e.Unauthorized), "malformed": int64(e.Malformed), "busy": int64(e.Busy),
		}
		q := p.queue.Stats()
		s.Notices = map[string]int64{
			"hint": int64(q.Added - q.Merged - q.Lost), "merged": int64(q.Merged), "lost": int64(q.Lost),
			"unwanted": int64(e.Unwanted), "bad_user": int64(e.BadUser),
		}
	}
	return s
}

// status is what the admin API shows.
func (p *parking) status() admin.Parking {
	s, hub := p.gauges(), p.hub.Stats()
	return admin.Parking{
		WatchConnections: int64(hub.Connections), WarmConnections: int64(p.pool.Len()),
		Mailboxes: s.Mailboxes, Waiting: s.Waiting, Hints: s.Hints, Events: s.Events,
		Resyncs: map[string]int64{"ok": int64(hub.Resyncs), "failed": int64(hub.Failed)},
	}
}
