package track

import (
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

func TestOwed(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	open := func(f *InFlight, verb wire.Verb, tag string) {
		f.Begin(wire.CommandHead{Tag: []byte(tag), Verb: verb, OK: true}, true, at(1))
	}
	for name, c := range map[string]struct {
		say   func(f *InFlight)
		since time.Time
		owed  bool
	}{
		"nothing is under way":    {say: func(*InFlight) {}},
		"a command is being sent": {say: func(f *InFlight) { open(f, wire.Noop, "a") }},
		"a command was sent":      {say: func(f *InFlight) { open(f, wire.Noop, "a"); f.Sent(1, at(2), 0) }, since: at(2), owed: true},
		"two were sent": {say: func(f *InFlight) {
			open(f, wire.Noop, "a")
			f.Sent(1, at(2), 0)
			open(f, wire.Noop, "b")
			f.Sent(1, at(3), 0)
		}, since: at(2), owed: true},
		"the first of two is answered": {say: func(f *InFlight) {
			open(f, wire.Noop, "a")
			f.Sent(1, at(2), 0)
			open(f, wire.Noop, "b")
			f.Sent(1, at(3), 0)
			f.Answered(wire.ResponseHead{Tag: []byte("a"), Status: wire.OK})
		}, since: at(3), owed: true},
		"a literal was announced":   {say: func(f *InFlight) { open(f, wire.Append, "a"); f.Ask() }, owed: true},
		"the literal is being sent": {say: func(f *InFlight) { open(f, wire.Append, "a"); f.Ask(); f.Prompt() }},
		"IDLE was sent":             {say: func(f *InFlight) { open(f, wire.Idle, "a"); f.Sent(1, at(2), 0) }, since: at(2), owed: true},
		"IDLE goes on":              {say: func(f *InFlight) { open(f, wire.Idle, "a"); f.Sent(1, at(2), 0); f.Prompt() }},
		"DONE was sent": {say: func(f *InFlight) {
			open(f, wire.Idle, "a")
			f.Sent(1, at(2), 0)
			f.Prompt()
			f.Line([]byte("DONE\r\n"))
		}, owed: true},
		"a command was sent after DONE": {say: func(f *InFlight) {
			open(f, wire.Idle, "a")
			f.Sent(1, at(2), 0)
			f.Prompt()
			f.Line([]byte("DONE\r\n"))
			open(f, wire.Noop, "b")
			f.Sent(1, at(4), 0)
		}, since: at(4), owed: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &InFlight{Texts: &Texts{}}
			f.Init(true, false)
			c.say(f)
			if since, owed := f.Owed(); owed != c.owed || !since.Equal(c.since) {
				t.Errorf("%v since %v, want %v since %v", owed, since, c.owed, c.since)
			}
		})
	}
}
