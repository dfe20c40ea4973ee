package park

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// overheard relays connections to a server, and counts what is said to it.
type overheard struct {
	t    *testing.T
	addr string
	said chan struct{} // has one for each time
	n    int
}

// overhear listens for a word in what clients of addr write: it has to come in one piece.
func overhear(t *testing.T, addr, word string) *overheard {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &overheard{t: t, addr: ln.Addr().String(), said: make(chan struct{}, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				wg.Go(func() {
					_, _ = io.Copy(client, server) // whatever ends it has closed the other side, too
					_ = client.Close()
				})
				b := make([]byte, 64<<10)
				for {
					n, err := client.Read(b)
					if err != nil {
						return
					}
					if _, err := server.Write(b[:n]); err != nil {
						return
					}
					if bytes.Contains(b[:n], []byte(word)) {
						o.said <- struct{}{}
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait() // the hub, and who else was connected, have ended
	})
	return o
}

// until waits until it was said n times.
func (o *overheard) until(n int) {
	o.t.Helper()
	for late := time.After(patience); o.n < n; o.n++ {
		select {
		case <-o.said:
		case <-late:
			o.t.Fatalf("said %d times, not %d", o.n, n)
		}
	}
}
