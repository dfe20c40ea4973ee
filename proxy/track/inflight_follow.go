package track

import (
	"bytes"
	"slices"
	"time"

	"imapproxy/proxy/wire"
)

// Begin records a command whose first byte was read at now. It waits while maxInFlight commands are open, and
// returns false if the session has ended.
func (f *InFlight) Begin(h wire.CommandHead, whole bool, now time.Time) bool {
	return f.BeginWith(h, nil, whole, 0, now)
}

// BeginWith is Begin for a command that is sent again where its connection is lost: text is what has come of it, told
// what the client has been told so far.
func (f *InFlight) BeginWith(h wire.CommandHead, text []byte, whole bool, told Told, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.open) >= maxInFlight && !f.ended && !f.lost {
		f.waitLocked()
	}
	if f.ended {
		return false
	}
	n := len(f.open)
	selecting := f.Parks && f.selecting()
	if n < cap(f.open) {
		f.open = f.open[:n+1]
	} else {
		f.open = append(f.open, Command{})
	}
	c := &f.open[n]
	f.seq++
	*c = Command{seq: f.seq, tag: append(c.tag[:0], h.Tag...), text: c.text[:0], Verb: h.Verb, Start: now}
	if f.Parks {
		if c.told = told; h.Verb.Rule().Loss != wire.LossRefused || !whole {
			c.keep(f.Texts, text)
		}
		c.effects = f.Client.command(c.seq, h, whole, f.selected, selecting)
		c.Changes = changes(h, whole, f.Client.Mailbox.ReadOnly)
		if isFetch(h.Verb) {
			f.fetchesLocked(n)
		}
		if h.Verb == wire.Store || h.Verb == wire.UIDStore {
			f.Client.stores(c.seq, h, whole)
		}
	}
	switch h.Verb {
	case wire.Idle:
		f.idle = idleAsked
		f.expectLocked(true)
	case wire.Logout:
		f.logout = true
	}
	return true
}

func isFetch(v wire.Verb) bool { return v == wire.Fetch || v == wire.UIDFetch }

// fetchesLocked records whether the newest command, the FETCH open[n], is alone.
func (f *InFlight) fetchesLocked(n int) {
	alone := true
	for i := range f.open[:n] {
		if isFetch(f.open[i].Verb) {
			f.open[i].alone, alone = false, false
		}
	}
	f.open[n].alone = alone
}

// Sent records that the whole newest command was sent to the backend. blocked is the time that writes to the
// client have taken so far.
func (f *InFlight) Sent(bytes int64, now time.Time, blocked time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq { // else it is answered already
		c := &f.open[n-1]
		c.Sent, c.Blocked, c.In = now, blocked, bytes
	}
}

// Answered removes the command with this tag and returns it without its tag.
func (f *InFlight) Answered(h wire.ResponseHead) (c Command, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := 0
	for ; i < len(f.open); i++ {
		if bytes.Equal(f.open[i].tag, h.Tag) {
			break
		}
	}
	if i == len(f.open) {
		f.disputeLocked() // the backend has read bytes as a command that the proxy hasn't
		return Command{}, false
	}
	c = f.open[i]
	room := c.room(f.Texts)
	if c.seq == f.seq && f.literal == literalAsked {
		f.agreeLocked(literalRefused)
	}
	f.expected = slices.DeleteFunc(f.expected, func(d continuation) bool { return d.seq == c.seq })
	copy(f.open[i:], f.open[i+1:])
	last := len(f.open) - 1
	f.open[last] = room
	f.open = f.open[:last]
	if last == maxInFlight-1 || last == 0 {
		f.wakeLocked()
	}
	c.tag, c.text = nil, nil
	f.follow(c.Verb, h.Status)
	if f.Parks {
		if k := f.Client.Mailbox.known; k != nil && (c.Verb == wire.Store || c.Verb == wire.UIDStore) {
			k.stored(c.seq, h, len(f.open) == 0)
		}
		f.Client.answered(&c, h, f.selected, f.selecting())
	}
	return c, true
}

// follow updates the IMAP state (RFC 9051 §3, §6.3.2, §6.4.1). After a SELECT that is answered BAD the
// mailbox before it is still selected, unless the backend has sent the code CLOSED: Dovecot does either,
// depending on the error.
func (f *InFlight) follow(v wire.Verb, status wire.Status) {
	switch v {
	case wire.Idle:
		if !slices.ContainsFunc(f.open, func(c Command) bool { return c.Verb == wire.Idle }) {
			f.idle = notIdling
			f.wakeLocked()
		}
	case wire.Logout:
		f.logout = status == wire.OK
	}
	switch r := v.Rule(); {
	case r.Selects && (status != wire.BAD || f.Client.closed):
		f.selected = status == wire.OK
	case r.Selects:
	case r.Leaves && status == wire.OK:
		f.selected = false
	}
}

// Untagged follows an untagged response.
func (f *InFlight) Untagged(h wire.ResponseHead, whole bool) {
	if !f.Parks {
		return
	}
	if h.Number > 0 && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")) {
		return // Fetched follows them
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Client.untagged(h, whole)
}

// Fetched follows a FETCH response that tells something of flags, or content and a UID, or wasn't seen whole.
func (f *InFlight) Fetched(r *FetchResponse) {
	if !f.Parks {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.selecting() { // the response may be about either mailbox
		f.Client.Mailbox.heard = true
		return
	}
	f.Client.fetched(r)
}
