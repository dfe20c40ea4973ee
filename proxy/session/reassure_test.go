package session

import (
	"io"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
)

// A line of the proxy's own to a client that waits is sent between two responses only, and only where it needn't wait.
func TestALineThatMustNotWait(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	for name, c := range map[string]struct {
		is   func(*clientOut)
		want bool
	}{
		"between two responses":     {func(*clientOut) {}, true},
		"within a response":         {func(o *clientOut) { o.boundary = false }, false},
		"another line waits":        {func(o *clientOut) { o.pending = []byte("a BAD no\r\n") }, false},
		"the session ends":          {func(o *clientOut) { o.last = true }, false},
		"the last line was sent":    {func(o *clientOut) { o.closed = true }, false},
		"a write has failed":        {func(o *clientOut) { o.failed = io.ErrClosedPipe }, false},
		"something is written":      {func(o *clientOut) { o.writeMu.Lock() }, false},
		"the client doesn't read":   {func(o *clientOut) { fill(t, o) }, false},
		"the connection was closed": {func(o *clientOut) { _ = o.conn.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := oneConn(t)
			o := &clientOut{conn: ours, hangUp: func() {}, boundary: true}
			c.is(o)
			sent := make(chan bool, 1)
			go func() { sent <- o.remind([]byte(stillHere)) }()
			select {
			case got := <-sent:
				if got != c.want {
					t.Fatalf("it is sent: %v", got)
				}
			case <-time.After(imaptest.DefaultTimeout):
				_ = ours.Close()
				<-sent
				t.Fatal("it waits for the client")
			}
			if c.want {
				b := make([]byte, len(stillHere))
				if _, err := io.ReadFull(theirs, b); err != nil || string(b) != stillHere {
					t.Errorf("%q %v", b, err)
				}
			}
		})
	}
}

// fill writes until the client's host takes no more.
func fill(t *testing.T, o *clientOut) {
	t.Helper()
	for {
		if _, err := o.conn.WriteUntil(make([]byte, 1<<20), time.Now().Add(50*time.Millisecond)); err != nil {
			o.conn.Rearm(conn.Writes) // the next write would wait
			return
		}
	}
}
