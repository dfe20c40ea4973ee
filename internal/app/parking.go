package app

import (
	"cmp"
	"context"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/peers"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/events"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// newParking makes the parts that run between begin and end.
func newParking(c *config.Config, tel *telemetry.Telemetry, room *upstream.Room, outbox *peers.Outbox, b *beside, o Options) (*parking, error) {
	p := &parking{room: room, outbox: outbox, clock: o.Now, queue: park.NewHintQueue(park.HintQueueOptions{})}
	p.set(c)
	hub := wiring.Hub(c, tel)
	hub.Queue, hub.Now, hub.Plant = p.queue, o.Now, o.Park.Plant
	hub.SweepEvery = cmp.Or(o.Park.SweepEvery, hub.SweepEvery)
	hub.PollEvery, hub.NotifyRenewEvery = o.Park.PollEvery, o.Park.NotifyRenewEvery
	p.hub, p.pool = park.NewHub(hub), upstream.NewPool(p.poolOptions(c, tel))
	secrets, err := wiring.EventSecrets(c)
	if err == nil && len(secrets) > 0 {
		forward := func(user, mailbox string) { outbox.Add(user, mailbox); b.hint(user, mailbox) }
		p.events, err = events.New(events.Options{Secrets: secrets, User: p.user, Wanted: p.hub.Wanted, Forward: forward, Log: tel.Log, Now: o.Now}, p.queue)
	}
	if err != nil {
		return nil, wiring.About("park.events.token_file", err)
	}
	tel.SetParkingGauges(p.gauges)
	return p, nil
}

// poolOptions returns the pool's options; a reload of the pool doesn't change its room.
func (p *parking) poolOptions(c *config.Config, tel *telemetry.Telemetry) upstream.PoolOptions {
	o := wiring.Pool(c, tel)
	o.Room, o.Now = p.room, p.clock
	return o
}

// server returns the server's options of parking. Without a hub no session is parked, and parked sessions
// resume.
func (p *parking) server(c *config.Config, times ParkOptions) proxy.ParkOptions {
	o := wiring.Park(c)
	o.ResumeWithin, o.ResumeTry = times.ResumeWithin, times.ResumeTry
	if c.Park.Enabled {
		o.Hub, o.Pool = p.hub, p.pool
	}
	return o
}

func (p *parking) begin() {
	p.watching = task.Start(func(ctx context.Context) error { p.hub.Run(ctx); return nil })
	p.sweeping = task.Start(func(ctx context.Context) error { p.pool.Run(ctx); return nil })
}

// reload applies the settings that a reload can change, and reads the tokens again; the server's options are
// applied with its others.
func (p *parking) reload(c *config.Config, secrets []telemetry.Secret, tel *telemetry.Telemetry) {
	p.set(c)
	p.room.Reload(wiring.Room(c).Connections)
	p.pool.Reload(p.poolOptions(c, tel))
	if p.events == nil {
		return
	}
	if err := p.events.SetSecrets(secrets); err != nil {
		tel.Log.Error("push events keep their old tokens", "error", err) // config has checked them
	}
}

// end closes the connections that belong to no session. The sessions have ended.
func (p *parking) end() { _, _ = p.watching.Stop(), p.sweeping.Stop() }

// forget closes the warm connections to backends that aren't used any more.
func (p *parking) forget(all []routing.BackendStatus) {
	for _, b := range all {
		if b.State != routing.Up || b.Gone {
			p.pool.ForgetBackend(b.ID)
		}
	}
}

func (p *parking) set(c *config.Config) {
	n := wiring.Names(c)
	p.names.Store(&n)
	p.enabled.Store(c.Park.Enabled)
}

// user returns the canonical form of a backend's name for a user.
func (p *parking) user(name string) (string, error) { return p.names.Load().Normalize(name) }

// hints takes what another proxy has sent on. It goes to the sessions here and no further.
func (p *parking) hints(all []peers.Hint) {
	p.told.Add(uint64(len(all)))
	if p.clock != nil {
		p.toldAt.Store(p.clock().UnixNano())
	} else {
		p.toldAt.Store(time.Now().UnixNano())
	}
	for _, h := range all {
		if p.hub.Wanted(h.User) {
			p.queue.Add(park.Hint{User: h.User, Mailbox: h.Mailbox, Source: park.HintPush})
		}
	}
}

// gauges returns the values for metrics.
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
	sent := p.outbox.Stats()
	s.Forwarded = map[string]int64{"sent": int64(sent.Sent), "lost": int64(sent.Lost), "received": int64(p.told.Load())}
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

// status returns the values for the admin API; nil if parking is off and all its connections are closed.
func (p *parking) status() *admin.Parking {
	s, hub, warm := p.gauges(), p.hub.Stats(), p.pool.Len()
	if !p.enabled.Load() && hub.Mailboxes == 0 && warm == 0 {
		return nil
	}
	forwarded := s.Forwarded
	if forwarded["sent"]+forwarded["lost"]+forwarded["received"] == 0 {
		forwarded = nil
	}
	return &admin.Parking{
		Enabled:          p.enabled.Load(),
		WatchConnections: int64(hub.Connections), WarmConnections: int64(warm),
		Mailboxes: s.Mailboxes, Waiting: s.Waiting, Hints: s.Hints, Events: s.Events, Forwarded: forwarded,
		Resyncs: map[string]int64{"ok": int64(hub.Resyncs), "failed": int64(hub.Failed)},
	}
}

// hints takes push events that another proxy has sent on.
func (a *App) hints(all []peers.Hint) {
	a.parking.hints(all)
	for _, h := range all {
		a.beside.hint(h.User, h.Mailbox)
	}
}
