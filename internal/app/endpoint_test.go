package app

import (
	"net"
	"strings"
	"sync"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// An endpoint for traces, metrics and logs that accepts connections and answers nothing, or one that isn't there, changes nothing for sessions: each command has its
// answer, although far more spans end, and lines are logged, than can wait, and the proxy stops as usual.
func TestAStuckTelemetryEndpointChangesNothingForSessions(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		for _, state := range []string{"stuck", "down"} {
			t.Run(protocol+", "+state, func(t *testing.T) {
				imaptest.VerifyNoLeaks(t)
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				var accepted sync.WaitGroup
				if state == "down" {
					l.Close()
				} else {
					accepted.Go(func() {
						var held []net.Conn
						for c, err := l.Accept(); err == nil; c, err = l.Accept() {
							held = append(held, c)
						}
						for _, c := range held {
							c.Close()
						}
					})
					defer accepted.Wait()
					defer l.Close()
				}
				text := settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr) + `
telemetry {
  log {
    level    = "debug"
    endpoint = "http://` + l.Addr().String() + `"
    protocol = "` + protocol + `"
  }
  traces {
    endpoint = "http://` + l.Addr().String() + `"
    protocol = "` + protocol + `"
    sample   = "100%"
  }
  metrics {
    endpoint = "http://` + l.Addr().String() + `"
    protocol = "` + protocol + `"
    interval = "100ms"
  }
}
`
				a := open(t, Options{File: file(t, text)})
				running := task.Start(a.Run)
				<-a.Ready()
				c := imaptest.Dial(t, a.Addrs()["plain"])
				c.Login("user1", "secret")
				const commands = 4000 // 2,048 spans may wait
				for range commands {
					c.MustOK("NOOP")
				}
				c.MustOK("LOGOUT")
				lost := ""
				for line := range strings.Lines(scraped(t, a.AdminAddr())) {
					if strings.HasPrefix(line, "imapproxy_telemetry_spans_total{") && !strings.HasSuffix(line, " 0\n") {
						lost += line
					}
				}
				if strings.Contains(lost, "exported") || lost == "" {
					t.Errorf("spans: %s", lost)
				}
				if err := running.Stop(); err != nil {
					t.Error(err)
				}
				_ = a.Close() // it says that spans weren't delivered
			})
		}
	}
}
