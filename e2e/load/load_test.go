package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// The processes that a measurement starts are this test's program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleBackend || os.Args[1] == roleCrowd || os.Args[1] == roleBare) {
		if err := run(os.Args[1], os.Args[2:]); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// measured has a few clients where a measurement has thousands.
func measured(t *testing.T) options {
	servers.Real(t)
	return options{Proxy: os.Getenv("IMAPPROXY_BIN"), N: 12, PerUser: 3, Watch: "idle", TLS: true, Pace: 1000, Settle: time.Millisecond, Ramp: 4,
		Rounds: 2, Each: 20 * time.Millisecond, Clients: "1,3", Backends: 2, Keep: t.TempDir()}
}

func TestMeasurements(t *testing.T) {
	for _, c := range []struct {
		name    string
		measure func(options, *bytes.Buffer) error
		with    func(*options)
		want    []string
	}{
		{"memory, parked", func(o options, out *bytes.Buffer) error { return memory(o, out) }, func(*options) {}, []string{"12 parked sessions", "all 12 clients got their answers"}},
		{"memory, attached", func(o options, out *bytes.Buffer) error { return memory(o, out) }, func(o *options) { o.Attached = true }, []string{"12 attached sessions"}},
		{"resume", func(o options, out *bytes.Buffer) error { return resume(o, out) }, func(o *options) { o.Watch, o.Profile = "push", "" }, []string{"12 parked clients come back, 4 at a time"}},
		{"peers", func(o options, out *bytes.Buffer) error { return peers(o, out) }, func(*options) {}, []string{"NOOP, TLS, 3", "/ nginx", "/ haproxy"}},
		{"peers, bare", func(o options, out *bytes.Buffer) error { return peers(o, out) }, func(o *options) { o.Bare, o.Idle = true, 4 }, []string{"NOOP, plain, 3", "/ goroutines", "/ loop", "/ nginx"}},
		{"peers, another build", func(o options, out *bytes.Buffer) error { return peers(o, out) }, func(o *options) { o.Against = o.Proxy }, []string{"NOOP, TLS, 3", "/ the other"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := measured(t)
			c.with(&o)
			var out bytes.Buffer
			if err := c.measure(o, &out); err != nil {
				log, _ := os.ReadFile(o.Keep + "/imapproxy.log")
				t.Fatalf("%v\n%s", err, log)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
			t.Log("\n" + out.String())
		})
	}
}

func TestAnIntervalHasTheMedian(t *testing.T) {
	x := []float64{1, 2, 3, 4, 100}
	if low, high := interval(x); median(x) != 3 || low > 3 || high < 3 || low < 1 || high > 100 {
		t.Errorf("%v [%v..%v]", median(x), low, high)
	}
}
