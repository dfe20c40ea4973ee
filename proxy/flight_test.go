package proxy

import (
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// begun is a command that a flight is told of.
func begun(line string) wire.CommandHead { return wire.ParseCommandHead([]byte(line)) }

func TestTheEndOfACommandThatIsAnsweredAlreadyIsNobodyElses(t *testing.T) {
	var f flight
	f.init()
	now := time.Unix(1000, 0)
	f.begin(begun("a SEARCH ALL"), true, now)
	f.sent(14, now, 0)
	f.begin(begun("b APPEND nowhere {100000+}"), true, now)
	f.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte("b"), Status: wire.NO}) // before the literal has gone by
	f.sent(100020, now.Add(time.Hour), time.Minute)
	c, ok := f.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte("a"), Status: wire.OK})
	if !ok || c.in != 14 || !c.sent.Equal(now) || c.blocked != 0 {
		t.Fatalf("%+v", c)
	}
}
