package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What `make bench` has of `make memory`, `make resume` and `make peers`: less of each, in seconds. The figures in docs/performance.md are from those.

// benched has a proxy of this source, unless IMAPPROXY_BIN names one.
func benched(b *testing.B) options {
	b.Helper()
	proxy := os.Getenv("IMAPPROXY_BIN")
	if proxy == "" {
		proxy = filepath.Join(b.TempDir(), "imapproxy")
		if out, err := exec.Command("go", "build", "-o", proxy, "imapproxy/cmd/imapproxy").CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	return options{Proxy: proxy, N: 1000, PerUser: 5, Watch: "push", TLS: true, Pace: 300, Settle: time.Second, Ramp: 64, Rounds: 5, Each: 200 * time.Millisecond,
		Clients: "1,16", Backends: 1, Keep: b.TempDir()}
}

// crowdOf has its clients logged in when it returns.
func crowdOf(b *testing.B, o options) *crowded {
	b.Helper()
	c, err := crowd(o, o.settings())
	if c != nil {
		b.Cleanup(c.close)
	}
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// KB-live/session is what a session's objects and stacks take, with a part of what the proxy notes at first (lists of events and commands, 1.5 MB). The
// process also has free space between them, and garbage, which needs many
// sessions to be measured.
func BenchmarkMemory(b *testing.B) {
	b.Setenv("GOGC", "2") // of the proxy, so that there is hardly any garbage; the other processes set their own
	for name, attached := range map[string]bool{"parked": false, "attached": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				o := benched(b)
				o.N, o.Attached, o.live = 2000, attached, true
				o.Settle = 8 * time.Second // attached sessions give up their goroutines after 5
				c := crowdOf(b, o)
				if _, err := c.settled(); err != nil {
					b.Fatal(err)
				}
				with, err := c.proxy.live()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(o.kb(with-c.live), "KB-live/session")
			}
		})
	}
}

// Each client's session logs in to the backend again: no connection is kept warm.
func BenchmarkResume(b *testing.B) {
	o := benched(b)
	c := crowdOf(b, o)
	var each, p50 []float64
	for b.Loop() {
		if _, err := c.settled(); err != nil {
			b.Fatal(err)
		}
		back, cpu, err := c.comeBack(false)
		if err == nil {
			err = c.goIdle()
		}
		if err != nil {
			b.Fatal(err)
		}
		each, p50 = append(each, cpu), append(p50, float64(back.P50.Microseconds()))
	}
	b.ReportMetric(median(each), "proxy-µs/resume")
	b.ReportMetric(median(p50), "µs-p50")
}

// Ratios to the processor time that nginx and HAProxy take for the same command; below 1 the proxy takes less. It needs both (`./test` installs them).
func BenchmarkPeers(b *testing.B) {
	for _, name := range []string{"nginx", "haproxy"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Skip(err)
		}
	}
	for b.Loop() {
		targets, cells, got, err := compare(benched(b))
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range cells {
			what := strings.NewReplacer(", ", "-", " ", "-", "(", "", ")", "").Replace(c.String())
			for _, t := range targets[1:] {
				b.ReportMetric(median(against(got[c], targets[0], t, func(f figures) float64 { return f.cpu })), what+"-CPU/"+t.name)
			}
		}
	}
}
