package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func loopbacks(n byte) (all []netip.Addr) {
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, 2 + i}))
	}
	return all
}

// Connections come from each address in turn, and where one has no port left from the
// next.
func TestSourceAddressesTakeTurns(t *testing.T) {
	s, err := NewSources(loopbacks(3))
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	exhausted := ""
	s.dial = func(_ context.Context, d *net.Dialer, _, _ string) (net.Conn, error) {
		a := d.LocalAddr.(*net.TCPAddr).IP.String()
		from = append(from, a)
		if a == exhausted {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
		}
		return nil, nil
	}
	for range 4 {
		if _, err := s.DialContext(t.Context(), "tcp", "192.0.2.1:143"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"}; !slices.Equal(from, want) {
		t.Errorf("%v, want %v", from, want)
	}
	from, exhausted = nil, "127.0.0.3"
	if _, err := s.DialContext(t.Context(), "tcp", "192.0.2.1:143"); err != nil || !slices.Equal(from, []string{"127.0.0.3", "127.0.0.4"}) {
		t.Errorf("%v, %v", from, err)
	}
}

func TestASourceAddressMustBeThisMachines(t *testing.T) {
	if _, err := New(Options{SourceAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}); err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Errorf("got %v", err)
	}
}

// In a network of its own with 20 local ports, one address makes 20 connections to a
// backend and then is short of ports; each source address adds as many. What is short is
// the proxy, not the backend.
func TestLocalPortsThatRunOut(t *testing.T) {
	const child = "IMAPPROXY_TEST_PORTS"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("in a network of its own: %v\n%s", err, out)
		}
		return
	}
	loopbackUp(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40019"), 0); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:143")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, tc := range []struct {
		from []netip.Addr
		want int
	}{{nil, 20}, {loopbacks(2), 40}} {
		d := newDialer(t, Options{SourceAddresses: tc.from})
		var open []net.Conn
		for {
			c, err := d.opt.Dialer(t.Context(), "tcp", ln.Addr().String())
			if err != nil {
				if ShortageOf(err) != "ports" {
					t.Fatalf("after %d connections: %v", len(open), err)
				}
				break
			}
			open = append(open, c)
			if len(open) > 100 {
				t.Fatal("there is no end of ports")
			}
		}
		if len(open) != tc.want {
			t.Errorf("from %v: %d connections, want %d", tc.from, len(open), tc.want)
		}
		_, err := d.Login(t.Context(), Target{ID: "b1", Address: ln.Addr().String()}, alice, Client{})
		var down *Unavailable
		if !errors.As(err, &down) || down.Fault() != FaultOwn {
			t.Errorf("got %v", err)
		}
		for _, c := range open {
			_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: the next needs the ports
			_ = c.Close()
		}
	}
}

// loopbackUp switches the loopback interface of a new network on.
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
