// Command load measures a running proxy without real mail servers: what idle clients take of its memory, what it costs when they come
// back at once, and what small commands cost beside nginx and HAProxy. `make memory`, `make resume` and `make peers` run it;
// docs/performance.md has its figures.
//
//	load memory|resume|peers [flags]
//
// The backends are processes of this program that answer from memory (backend.go), so are the clients (crowd.go) and the bare relays (bare.go). The proxy is the one of
// -proxy, with its defaults but for what lab.go sets. All listen on 127.0.0.1.
//
// Imports e2e/servers. Imported by none.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	if err := run(role, os.Args[min(2, len(os.Args)):]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(role string, args []string) error {
	var o options
	f := flag.NewFlagSet("load "+role, flag.ContinueOnError)
	f.StringVar(&o.Proxy, "proxy", "./imapproxy", "the `program` to measure")
	f.StringVar(&o.Against, "against", "", "another build of the `program`, which peers compares it with in place of nginx and HAProxy")
	f.BoolVar(&o.Bare, "bare", false, "peers compares it with bare relays in Go and nginx, in the clear")
	f.IntVar(&o.N, "n", 2000, "clients")
	f.IntVar(&o.Idle, "idle", 0, "clients of each compared program that idle beside those that are measured, in the clear")
	f.IntVar(&o.PerUser, "per-user", 5, "clients of each user, each in another mailbox")
	f.StringVar(&o.Watch, "watch", "push", "park.watch: push, notify, idle or poll")
	f.BoolVar(&o.Attached, "attached", false, "sessions keep their backend connections")
	f.BoolVar(&o.TLS, "tls", true, "TLS between clients and proxy")
	f.IntVar(&o.Pace, "pace", 300, "logins a second")
	f.DurationVar(&o.Settle, "settle", 30*time.Second, "from the last login to the measurement")
	f.IntVar(&o.Ramp, "ramp", 64, "clients that come back at once")
	f.IntVar(&o.Rounds, "rounds", 15, "interleaved rounds")
	f.DurationVar(&o.Each, "each", 400*time.Millisecond, "how long each figure is measured in a round")
	f.StringVar(&o.Clients, "clients", "1,16,256", "numbers of clients of the comparison")
	f.StringVar(&o.Profile, "profile", "", "a `folder` for the proxy's profiles")
	f.StringVar(&o.Keep, "keep", "", "a `folder` for configurations and logs, which stays")
	f.IntVar(&o.Backends, "backends", 1, "processes of the null backend")
	if err := f.Parse(args); err != nil {
		return err
	}
	debug.SetGCPercent(400) // it shares the processors with what it measures
	switch role {
	case "memory":
		return memory(o, os.Stdout)
	case "resume":
		return resume(o, os.Stdout)
	case "peers":
		return peers(o, os.Stdout)
	case roleBackend:
		return serveBackend(os.Stdin, os.Stdout)
	case roleBare:
		if f.NArg() != 2 {
			return fmt.Errorf("a kind and a backend, not %q", f.Args())
		}
		return serveBare(f.Arg(0), f.Arg(1), os.Stdin, os.Stdout)
	case roleCrowd:
		runtime.GOMAXPROCS(2)
		return serveCrowd(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("memory, resume or peers, not %q", role)
}
