package app

import (
	"context"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/telemetry"
)

// keepHistory takes a sample every ten seconds, until ctx ends.
func (a *App) keepHistory(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		a.history.add(a.now(), a.counts(), a.tel.Tally())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *App) counts() counts {
	status := a.server.Status()
	loggedIn, _ := a.server.LoggedIn()
	hub := a.parking.hub.Stats()
	return counts{
		sessions: status.Sessions, loggedIn: int64(loggedIn), parked: status.Attachments["parked"],
		connections: status.BackendConns + int64(hub.Connections) + int64(a.parking.pool.Len()),
		descriptors: descriptorUse().Used, memory: memoryUse().Used,
	}
}

// past is the admin API's Past.
type past struct{ *App }

// History implements admin.Past.
func (p past) History(after time.Time) admin.History {
	return admin.History{DescriptorLimit: descriptorUse().Limit, MemoryLimit: memoryUse().Limit, EverySeconds: int(sampleEvery / time.Second), Samples: p.history.after(after), Bill: p.history.bill(p.processMemory())}
}

func (p past) Events() []telemetry.Line              { return p.tel.Events() }
func (p past) Ended() []telemetry.Line               { return p.tel.Ended() }
func (p past) FailedLogins() []telemetry.FailedLogin { return p.tel.FailedLogins() }
func (p past) Commands(session string) []telemetry.SessionCommand {
	return p.tel.SessionCommands(session)
}
func (p past) Attachments(session string) []telemetry.AttachmentChange {
	return p.tel.SessionAttachments(session)
}
func (p past) SlowCommands() []telemetry.SlowCommand { return p.tel.SlowCommands() }

// processMemory returns the memory of a backend's process that the operator has given; 0: none.
func (a *App) processMemory() int64 { return int64(a.current.Load().cfg.Park.BackendProcessMemory) }

// savedNow returns what the metrics show of the bill.
func (a *App) savedNow() telemetry.Saved {
	c, t := a.counts(), a.tel.Tally()
	saved := telemetry.Saved{Connections: c.loggedIn - c.connections, Logins: t.Logins - t.BackendLogins}
	if memory := a.processMemory(); memory > 0 {
		saved.Memory = new(saved.Connections * memory)
	}
	return saved
}
