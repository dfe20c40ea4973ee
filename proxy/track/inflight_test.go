package track

import (
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// begun is a command that a flight is told of.
func begun(line string) wire.CommandHead { return wire.ParseCommandHead([]byte(line)) }

func TestTheEndOfACommandThatIsAnsweredAlreadyIsNobodyElses(t *testing.T) {
	var f InFlight
	f.Init(false, false)
	now := time.Unix(1000, 0)
	f.Begin(begun("a SEARCH ALL"), true, now)
	f.Sent(14, now, 0)
	f.Begin(begun("b APPEND nowhere {100000+}"), true, now)
	f.Answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte("b"), Status: wire.NO}) // before the literal has gone by
	f.Sent(100020, now.Add(time.Hour), time.Minute)
	c, ok := f.Answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte("a"), Status: wire.OK})
	if !ok || c.In != 14 || !c.Sent.Equal(now) || c.Blocked != 0 {
		t.Fatalf("%+v", c)
	}
}
