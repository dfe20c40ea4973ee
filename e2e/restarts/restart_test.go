package restarts

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// ends signals the processes of a server that serve clients.
func ends(t testing.TB, s *servers.Server, name string, with syscall.Signal) {
	t.Helper()
	for _, pid := range children(t, s.Process.Pid(), name) {
		_ = syscall.Kill(pid, with) // it may have ended
	}
}

// restarts has a server stopped by stop, and started.
func restarts(t testing.TB, s *servers.Server, stop func()) {
	t.Helper()
	stop()
	s.StartAgain(t)
}

// stands stops all processes of a server for a while.
func stands(s *servers.Server, d time.Duration) {
	s.Process.Freeze()
	time.Sleep(d) // that long it stands
	s.Process.Thaw()
}

func doveadm(t testing.TB, s *servers.Server, args ...string) {
	t.Helper()
	run(t, "", "doveadm", append([]string{"-c", filepath.Join(filepath.Dir(s.Log), "dovecot.conf")}, args...)...)
}

// twoDovecots are two with the same mail.
func twoDovecots(t testing.TB) (one, two *servers.Server) {
	mail := servers.DovecotMail(t)
	const many = "service imap {\n process_limit = 4096\n}\n"
	one = servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-1", Mail: mail, Extra: many})
	two = servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-2", Mail: mail, Extra: many})
	return one, two
}

// Clients of two Dovecots, one of which is killed, reset, stopped, reloaded and restarted.
func TestClientsOutliveDovecotsRestarts(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	one, two := twoDovecots(t)
	p := startProxy(t, one, two)
	f := startFleet(t, p, two, sizesOf(sizes{users: 5, busy: 8, idle: 5, largest: 256 << 10, idleFor: 2 * time.Second}))
	pause := 2 * time.Second
	if long() {
		pause = 20 * time.Second
	}
	f.through("imap processes are killed", func() { ends(t, one, "imap", syscall.SIGKILL) })
	f.through("imap processes are killed again", func() { ends(t, one, "imap", syscall.SIGKILL); ends(t, two, "imap", syscall.SIGKILL) })
	f.through("doveadm kick", func() {
		_ = exec.Command("doveadm", "-c", filepath.Join(filepath.Dir(one.Log), "dovecot.conf"), "kick", "user*").Run()
	}) // its code says whether there were any
	f.through("doveadm reload", func() { doveadm(t, one, "reload") })
	f.through("connections are reset", func() {
		heal := resets(t, one)
		time.Sleep(pause / 10) // as long as it says so
		heal()
	})
	f.through("all processes stand", func() { stands(one, pause) })
	f.through("the master is stopped", func() { restarts(t, one, one.Process.Stop) })
	f.through("the master is killed", func() { restarts(t, one, func() { one.Process.KillLeader() }) })
	f.through("all processes are killed", func() { restarts(t, one, one.Process.Kill) })
	f.ends()
}

// Attached clients alone, none of which idles: each lost connection costs one login, or two where the backend has to be asked
// what has vanished. Whether it is one is the figure of this test.
func TestALostConnectionCostsALoginOrTwo(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	one, two := twoDovecots(t)
	p := startProxy(t, one, two)
	z := sizesOf(sizes{users: 4, busy: 8, largest: 16 << 10})
	z.idle = 0
	f := startFleet(t, p, two, z)
	f.through("imap processes are killed", func() { ends(t, one, "imap", syscall.SIGKILL); ends(t, two, "imap", syscall.SIGKILL) })
	f.through("imap processes are killed again", func() { ends(t, one, "imap", syscall.SIGKILL); ends(t, two, "imap", syscall.SIGKILL) })
	f.ends()
	if f.lost == 0 || f.logins < f.lost/2 || f.logins > 2*f.lost+float64(len(f.busy)) { // those that log in anew log in, too
		t.Errorf("%.0f logins for %.0f lost connections", f.logins, f.lost)
	}
}

// Clients of a Dovecot whose network drops all packets: they go on soon after it doesn't any more, also where their
// connections were given up.
func TestClientsOutliveANetworkThatDrops(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	one, two := twoDovecots(t)
	p := startProxy(t, one, two)
	f := startFleet(t, p, two, sizesOf(sizes{users: 4, busy: 6, idle: 4, largest: 64 << 10, idleFor: 5 * time.Second}))
	f.through("all packets are dropped", func() {
		heal := drops(t, one)
		if long() {
			time.Sleep(20 * time.Second)
		} else {
			eventually(t, "connections are given up", func() error {
				if p.metric(t, "imapproxy_backend_stalls_total", `evidence="network"`) == 0 {
					return errNotYet
				}
				return nil
			})
		}
		heal()
	})
	f.ends()
	if p.metric(t, "imapproxy_backend_stalls_total", `evidence="network"`) == 0 {
		t.Error("no connection was given up")
	}
}

// Clients of a Cyrus that is restarted. It is the only backend.
func TestClientsOutliveCyrussRestart(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	z := sizesOf(sizes{users: 4, busy: 6, idle: 4, largest: 64 << 10, idleFor: 2 * time.Second})
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Users: z.users, MaxChild: 2500})
	p := startProxy(t, s)
	f := startFleet(t, p, s, z)
	// Not by SIGKILL: Cyrus's master then miscounts the processes that wait, and greets no client for a minute.
	f.through("imapd processes are ended", func() { ends(t, s, "imapd", syscall.SIGTERM) })
	f.through("all processes are killed", func() { restarts(t, s, s.Process.Kill) })
	f.through("the master is stopped", func() { restarts(t, s, s.Process.Stop) })
	f.ends()
}
