package main

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// parking is what sessions need to be parked. It's there while parking is off, too,
// and costs next to nothing then, so that a reload can switch it on and off.
type parking struct {
	hub    *park.Hub
	pool   *upstream.Pool
	room   *upstream.Room  // counts the connections to backends
	queue  *park.HintQueue // of the events' hints
	events *park.Events    // nil: backends post none

	names   atomic.Pointer[auth.Names] // for the users of events; a reload sets them
	enabled atomic.Bool

	watching, sweeping *task // hub.Run, pool.Run
}

// newParking makes what runs between begin and end.
func newParking(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room) (*parking, error) {
	p := &parking{room: room, queue: park.NewHintQueue(park.HintQueueOptions{})}
	p.set(c)
	hub := hubOptions(c, tel)
	hub.Queue = p.queue
	p.hub, p.pool = park.NewHub(hub), upstream.NewPool(pooled(c, tel, room))
	secrets, err := eventSecrets(c)
	if err == nil && len(secrets) > 0 {
		p.events, err = park.NewEvents(park.EventsOptions{Secrets: secrets, User: p.user, Wanted: p.hub.Wanted, Log: tel.Log}, p.queue)
	}
	if err != nil {
		return nil, about("park.events.token_file", err)
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
	return upstream.PoolOptions{
		WarmFor: c.Park.WarmFor, AuthCacheFor: c.Park.AuthCacheFor, PerUser: c.Park.WarmPerUser, Total: warmConnections(c), Telemetry: tel,
		// A short warm_for means what it says; the pool's own period suits the others.
		SweepEvery: min(upstream.DefaultPoolSweep, max(c.Park.WarmFor/4, 500*time.Millisecond)),
	}
}

// pooled are the pool's options with what only NewPool takes.
func pooled(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room) upstream.PoolOptions {
	o := poolOptions(c, tel)
	o.Room = room
	return o
}

// warmConnections is how many connections may wait in all: unless it is said, an
// eighth of the files that the process may have open.
func warmConnections(c *config.Config) int {
	if c.Park.WarmConnections > 0 {
		return c.Park.WarmConnections
	}
	return min(max(descriptors()/8, upstream.DefaultPoolTotal), 1<<20) // the most may be “no limit”
}

// descriptors is how many files the process may have open; 0: it isn't known.
func descriptors() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return int(min(files.Cur, 1<<30))
}

// parkOptions are the server's part; without a hub nobody is parked, and who is
// comes back.
func parkOptions(c *config.Config, p *parking) proxy.ParkOptions {
	o := proxy.ParkOptions{
		Linger: c.Park.Linger, QuietAfter: c.Park.QuietAfter, Keepalive: none(c.Park.Keepalive),
		ResumeConcurrency: c.Park.ResumeConcurrency, ResumeRate: c.Park.ResumeRate,
	}
	if c.Park.Enabled && p != nil {
		o.Hub, o.Pool = p.hub, p.pool
	}
	return o
}

// eventSecrets reads the tokens of events, one a line; none where there are no
// events.
func eventSecrets(c *config.Config) ([]telemetry.Secret, error) {
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

func (p *parking) begin() {
	p.watching = start(func(ctx context.Context) error { p.hub.Run(ctx); return nil })
	p.sweeping = start(func(ctx context.Context) error { p.pool.Run(ctx); return nil })
}

// reload takes what of the settings a reload can change, and the tokens as they
// are in their file now; the server's part goes with its own.
func (p *parking) reload(c *config.Config, secrets []telemetry.Secret, tel *telemetry.Telemetry) {
	p.set(c)
	p.room.Reload(roomOptions(c).Connections)
	p.pool.Reload(poolOptions(c, tel))
	if p.events == nil {
		return
	}
	if err := p.events.SetSecrets(secrets); err != nil {
		tel.Log.Error("push events keep their old tokens", "error", err) // config has checked them
	}
}

// end closes the connections that no session holds. The sessions have ended.
func (p *parking) end() { _, _ = p.watching.stop(), p.sweeping.stop() }

// forget closes the warm connections to backends that aren't to be used any more.
func (p *parking) forget(all []routing.BackendStatus) {
	for _, b := range all {
		if b.State != routing.Up || b.Gone {
			p.pool.ForgetBackend(b.ID)
		}
	}
}

func (p *parking) set(c *config.Config) {
	n := names(c)
	p.names.Store(&n)
	p.enabled.Store(c.Park.Enabled)
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

// status is what the admin API shows; nil where parking is off and nothing is left
// of it.
func (p *parking) status() *admin.Parking {
	s, hub, warm := p.gauges(), p.hub.Stats(), p.pool.Len()
	if !p.enabled.Load() && hub.Mailboxes == 0 && warm == 0 {
		return nil
	}
	return &admin.Parking{
		Enabled:          p.enabled.Load(),
		WatchConnections: int64(hub.Connections), WarmConnections: int64(warm),
		Mailboxes: s.Mailboxes, Waiting: s.Waiting, Hints: s.Hints, Events: s.Events,
		Resyncs: map[string]int64{"ok": int64(hub.Resyncs), "failed": int64(hub.Failed)},
	}
}
