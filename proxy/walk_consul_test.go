package proxy

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing/discovery"
)

// relayed relays connections to an address, and calls see with what clients send before it goes on. It returns its own address.
func relayed(t *testing.T, to string, see func(sent []byte)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			all.Go(func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			})
			all.Go(func() {
				defer server.Close()
				for b := make([]byte, 4096); ; {
					n, err := client.Read(b)
					if n > 0 {
						see(b[:n])
						if _, err := server.Write(b[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// A login that waits for its user's placement in Consul's KV has a trace that says so: the agent is a real one, behind a relay that is slow with this request.
func TestATraceNamesASlowConsul(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	agent := consultest.Start(t)
	agent.PutKV(discovery.PlacementPrefix+"alice", "b1")
	var l *lab
	slow := relayed(t, agent.Address(), func(sent []byte) {
		if bytes.HasPrefix(sent, []byte("GET /v1/kv/"+discovery.PlacementPrefix+"alice")) {
			l.clock.forward(slowly)
		}
	})
	consul, err := discovery.NewConsul(discovery.ConsulOptions{Address: slow, Service: "imap"}, nil)
	must(t, err)
	l = newLab(t, labOptions{change: func(o *Options) { o.Placement = consul.Placement }})
	l.login("alice")
	l.named("placement", nil, "login")
}
