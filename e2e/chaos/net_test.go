package chaos

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
)

// The machines: all are at one switch, to which this process's namespace is connected as well.
const (
	hub   = "10.77.0.1"
	ports = "{ 8300-8302, 8500 }" // Consul's
)

// A machine is a network namespace with one address. It lasts as long as the process that holds it.
type machine struct {
	t      testing.TB
	name   string
	addr   string
	holder *servers.Process
}

// run runs a command and fails the test when it fails.
func run(t testing.TB, input, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// startSwitch makes the switch, at this process's namespace.
func startSwitch(t testing.TB) {
	t.Helper()
	run(t, "", "ip", "link", "set", "lo", "up")
	run(t, "", "ip", "link", "add", "switch", "type", "bridge")
	run(t, "", "ip", "addr", "add", hub+"/24", "dev", "switch")
	run(t, "", "ip", "link", "set", "switch", "up")
	t.Cleanup(func() { run(t, "", "ip", "link", "del", "switch") })
}

func startMachine(t testing.TB, name, addr string) *machine {
	t.Helper()
	holder := exec.Command("unshare", "--net", "sleep", "infinity")
	m := &machine{t: t, name: name, addr: addr, holder: servers.Start(t, name, holder)}
	m.awaitNamespace()
	run(t, "", "ip", "link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(m.holder.Pid()))
	// A namespace whose holder has ended takes its link along some time later, and the next test's machine
	// may have the same name. The holder still runs here: this cleanup precedes its own.
	t.Cleanup(func() { run(t, "", "ip", "link", "del", "to-"+name) })
	run(t, "", "ip", "link", "set", "to-"+name, "master", "switch", "up")
	m.do("ip", "link", "set", "lo", "up")
	m.do("ip", "addr", "add", addr+"/24", "dev", "eth0")
	m.do("ip", "link", "set", "eth0", "up")
	return m
}

// awaitNamespace returns when the holder is in its own namespace.
func (m *machine) awaitNamespace() {
	m.t.Helper()
	eventually(m.t, m.name+" has a namespace", func() error {
		ours, err := readlink("/proc/self/ns/net")
		if err != nil {
			return err
		}
		its, err := readlink(fmt.Sprintf("/proc/%d/ns/net", m.holder.Pid()))
		if err == nil && its == ours {
			err = fmt.Errorf("still in %s", ours)
		}
		return err
	})
}

// command is a command on this machine. The process is the command's own: nsenter doesn't fork.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", m.holder.Pid()), "--", name}, args...)...)
}

func (m *machine) do(name string, args ...string) {
	m.t.Helper()
	if out, err := m.command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %s %s: %v\n%s", m.name, name, strings.Join(args, " "), err, out)
	}
}

// cut drops all packets between this machine and the addresses, on these ports alone if there are some, until the
// function that is returned is called.
func (m *machine) cut(ports string, addrs ...string) (heal func()) {
	m.t.Helper()
	var rules strings.Builder
	rules.WriteString("table ip cut {\n chain in {\n type filter hook input priority 0;\n")
	peers := "{ " + strings.Join(addrs, ", ") + " }"
	rule := func(side string) {
		if ports == "" {
			fmt.Fprintf(&rules, " ip %s %s drop\n", side, peers)
			return
		}
		for _, port := range []string{"sport", "dport"} {
			fmt.Fprintf(&rules, " ip %s %s meta l4proto { tcp, udp } th %s %s drop\n", side, peers, port, ports)
		}
	}
	rule("saddr")
	rules.WriteString(" }\n chain out {\n type filter hook output priority 0;\n")
	rule("daddr")
	rules.WriteString(" }\n}\n")
	cmd := m.command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: nft: %v\n%s%s", m.name, err, out, rules.String())
	}
	return func() { m.do("nft", "delete", "table", "ip", "cut") }
}

func signal(t testing.TB, p *servers.Process, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.Pid(), s); err != nil {
		t.Errorf("%v: %v", s, err)
	}
}
