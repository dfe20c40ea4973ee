package track

import (
	"fmt"
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// FuzzFlight drives the follower of a session with events in any order: it never
// waits for ever, never panics, and holds no more than its bounds.
func FuzzFlight(f *testing.F) {
	for _, s := range []string{"c+dt", "i+dti", "ccclv+t", "ild+v", "lllvv", "itcitd", "ccccttttxx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, events []byte) {
		var fl InFlight
		fl.Init(false, false)
		now := time.Unix(0, 0)
		for i, e := range events {
			tag := fmt.Appendf(nil, "t%d", e%5)
			switch e % 9 {
			case 0, 1:
				if len(fl.open) < maxInFlight {
					fl.Begin(wire.CommandHead{Tag: tag, Verb: wire.Noop, OK: true}, true, now)
				}
			case 2:
				if len(fl.open) < maxInFlight {
					fl.Begin(wire.CommandHead{Tag: tag, Verb: wire.Idle, OK: true}, true, now)
				}
			case 3:
				fl.Ask()
			case 4:
				fl.Prompt()
			case 5:
				fl.Answered(wire.ResponseHead{Kind: wire.Tagged, Tag: tag, Status: wire.OK})
			case 6:
				fl.Line([]byte("DONE\r\n"))
			case 7:
				fl.Line([]byte("x NOOP\r\n"))
			case 8:
				fl.Sent(int64(i), now, 0)
			}
			if len(fl.open) > maxInFlight || len(fl.expected) > 2*maxInFlight {
				t.Fatalf("%d commands, %d prompts due", len(fl.open), len(fl.expected))
			}
			for _, d := range fl.expected {
				if d.n <= 0 {
					t.Fatalf("a prompt that isn't due: %+v", fl.expected)
				}
			}
			if _, idle := fl.State(); idle && len(fl.open) == 0 {
				t.Fatal("it idles without a command")
			}
		}
		fl.Stop()
		if fl.Begin(wire.CommandHead{Tag: []byte("x"), OK: true}, true, now) {
			t.Fatal("a command begins after the end")
		}
	})
}
