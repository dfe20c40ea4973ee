package telemetry

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept of the log in memory.
const (
	KeptEvents   = 1000
	KeptEnded    = 1000
	KeptFailures = 10000
	KeptSlow     = 500
	maxKeptText  = 500 // bytes of a value
	maxKeptName  = 64  // bytes of the user's name of a failed login
)

// Line is a line of the log that is kept in memory.
type Line struct {
	Time    time.Time
	Level   string // info, warn, error
	Message string
	Fields  []Field // in the log's order
}

// Field is an attribute of a line.
type Field struct{ Key, Value string }

// Get returns an attribute's value, "" if the line doesn't have it.
func (l *Line) Get(key string) string {
	for _, f := range l.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// FailedLogin is a failed login that is kept in memory.
type FailedLogin struct {
	Time         time.Time
	Client       netip.Addr
	User, Reason string
}

// SlowCommand is a command that took as long as Options.SlowCommand says.
type SlowCommand struct {
	Session, User, Backend string
	SessionCommand
}

// kept is what the admin page shows of the past: lines of the log, failed logins, slow commands and changes of attachments, the latest of each.
type kept struct {
	mu     sync.Mutex // guards the fields below
	events ring[Line]
	ended  ring[Line]
	failed ring[FailedLogin]
	slow   ring[SlowCommand]

	attachments ring[AttachmentChange]
}

// ring holds the latest elements, as many as it may.
type ring[T any] struct {
	all  []T
	next int // where the oldest one is, once all is full
}

func (r *ring[T]) add(one T, most int) {
	if len(r.all) < most {
		r.all = append(r.all, one)
		return
	}
	r.all[r.next] = one
	r.next = (r.next + 1) % most
}

// latest returns the elements, the latest first.
func (r *ring[T]) latest() []T {
	all := make([]T, 0, len(r.all))
	all = append(append(all, r.all[r.next:]...), r.all[:r.next]...)
	slices.Reverse(all)
	return all
}

// What a line of the log is kept as.
type keptAs int

const (
	keptNot keptAs = iota
	keptEvent
	keptEnded
	keptFailure
)

// eventLines returns the beginnings of messages about the service as a whole: changes, and the operators who made them. A line with
// a session isn't an event.
func eventLines() []string {
	return []string{
		"a new process", "a value in consul", "admin: ", "all backend connections", "another process", "another proxy", "backend ", "certificate", "Consul ", "consul ",
		"discovery ", "draining", "listening", "mistake", "reload", "serving", "sessions couldn't be moved", "stopping",
		"taking over", "the keys of the proxies", "the old process", "the process that", "the proxies ", "these changes need a restart", "this process", "this proxy",
	}
}

// noEvents returns the beginnings of messages that callers without a token can cause at any rate.
func noEvents() []string { return []string{"admin: wrong token", "admin: requests cut off"} }

// keeps says as what a line is kept.
func keeps(message string, session bool) keptAs {
	begins := func(with string) bool { return strings.HasPrefix(message, with) }
	switch {
	case message == "session ended":
		return keptEnded
	case message == "login failed":
		return keptFailure
	case session || !slices.ContainsFunc(eventLines(), begins) || slices.ContainsFunc(noEvents(), begins):
		return keptNot
	}
	return keptEvent
}

// keeper is a slog.Handler that keeps some lines, whatever the log's level is, and passes all on.
type keeper struct {
	slog.Handler
	to      *kept
	attrs   []slog.Attr
	session bool // the attributes have a session
}

// Enabled implements slog.Handler.
func (k *keeper) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || k.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (k *keeper) Handle(ctx context.Context, r slog.Record) error {
	if as := keeps(r.Message, k.session); as != keptNot && r.Level >= slog.LevelInfo {
		k.to.keep(as, k.line(r))
	}
	if !k.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (k *keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &keeper{k.Handler.WithAttrs(attrs), k.to, append(slices.Clip(k.attrs), attrs...), k.session}
	for _, a := range attrs {
		next.session = next.session || a.Key == "session"
	}
	return next
}

// WithGroup implements slog.Handler. The names of what follows are kept without the group's.
func (k *keeper) WithGroup(name string) slog.Handler {
	return &keeper{k.Handler.WithGroup(name), k.to, k.attrs, k.session}
}

// line returns a record with the logger's attributes. Secrets are redacted, as in the log.
func (k *keeper) line(r slog.Record) Line {
	l := Line{Time: r.Time, Level: strings.ToLower(r.Level.String()), Message: r.Message, Fields: make([]Field, 0, len(k.attrs)+r.NumAttrs())}
	add := func(a slog.Attr) bool {
		a.Value = a.Value.Resolve()
		l.Fields = append(l.Fields, Field{a.Key, shorten(redactAttr(nil, a).Value.String(), maxKeptText)})
		return true
	}
	for _, a := range k.attrs {
		add(a)
	}
	r.Attrs(add)
	return l
}

// keep adds a line.
func (k *kept) keep(as keptAs, l Line) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch as {
	case keptEvent:
		k.events.add(l, KeptEvents)
	case keptEnded:
		k.ended.add(l, KeptEnded)
	case keptFailure:
		client, _ := netip.ParseAddr(l.Get("client")) // it may be unknown
		k.failed.add(FailedLogin{Time: l.Time, Client: client, User: shorten(l.Get("user"), maxKeptName), Reason: l.Get("reason")}, KeptFailures)
	}
}
