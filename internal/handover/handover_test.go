package handover

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ends returns both ends of a connection.
func ends(t *testing.T) (old, fresh *Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "h") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	if k, err := Dial(context.Background(), path); k != nil || err != nil {
		t.Fatalf("there is no socket, and Dial says %v %v", k, err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v %v", info.Mode(), err)
	}
	if fresh, err = Dial(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	old, refused, err := l.Accept()
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	// Another process in its place: the name is that one's, the connection stays.
	next, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = l.Close(), next.Close()
	if k, err := Dial(context.Background(), path); k != nil || err != nil {
		t.Errorf("no process listens, and Dial says %v %v", k, err)
	}
	t.Cleanup(func() { _, _ = old.Close(), fresh.Close() })
	return old, fresh
}

func soon() time.Time { return time.Now().Add(time.Minute) }

func TestSocketsArePassed(t *testing.T) {
	old, fresh := ends(t)
	if old.PID() != os.Getpid() {
		t.Errorf("the peer is %d", old.PID())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Of("imaps", "127.0.0.1:0", l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	all := &Sockets{}
	all.Add(s)
	if err := old.Send(Message{Do: "sockets"}, all); err != nil {
		t.Fatal(err)
	}
	all.Close()
	m, got, err := fresh.Receive(soon())
	if err != nil || m.Do != "sockets" {
		t.Fatal(m, err)
	}
	address := l.Addr().String()
	_ = l.Close() // the socket is open all the same
	for _, not := range [][2]string{{"imap", "127.0.0.1:0"}, {"imaps", "127.0.0.2:0"}} {
		if one, err := got.Take(not[0], not[1]); one != nil || err != nil {
			t.Errorf("%v is taken: %v", not, err)
		}
	}
	taken, err := got.Take("another name", address)
	if err != nil || taken == nil {
		t.Fatal(taken, err)
	}
	defer taken.Close()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a, err := taken.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = a.Close()
	}
	if left := got.Left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What a peer that is broken, or not one of ours, may send: an error, and never a message.
func TestBrokenPeers(t *testing.T) {
	for what, sent := range map[string]string{
		"no message":                   "hello\n",
		"the end inside a message":     `{"do":"take"`,
		"sockets that don't come":      `{"do":"sockets","sockets":[{"name":"imaps","address":":993"}]}` + "\n",
		"a message that is too long":   strings.Repeat("x", maxMessage+20000),
		"a field of another type":      `{"do":7}` + "\n",
		"nothing but an end":           "",
		"a message that isn't a table": "[]\n",
	} {
		old, fresh := ends(t)
		go func() {
			_, _ = old.c.Write([]byte(sent)) // it fails where the other end has closed already
			_ = old.c.Close()
		}()
		if m, sockets, err := fresh.Receive(soon()); err == nil {
			t.Errorf("%s: %+v %v", what, m, sockets)
		}
		_ = fresh.Close()
	}
	// One that says nothing.
	_, fresh := ends(t)
	if _, _, err := fresh.Receive(time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestWhoMayBeAtTheOtherEnd(t *testing.T) {
	for _, c := range []struct {
		uid, own   int
		may, asked bool
	}{{1000, 1000, true, true}, {0, 1000, true, true}, {1000, 0, false, true}, {1001, 1000, false, false}} {
		if permitted(c.uid, c.own) != c.may || mayBeAsked(c.uid, c.own) != c.asked {
			t.Errorf("%+v", c)
		}
	}
}

// The unit's processes run as a user of their own, and root upgrades them. A new process that runs as root takes nothing from them.
func TestRootAsksAProcessOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run ./test, which has it")
	}
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const nobody = 65534
	if err := os.Chown(dir, nobody, -1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l := listenAs(t, path, nobody)
	defer l.Close()
	k, err := DialToAsk(context.Background(), path)
	if err != nil || k == nil {
		t.Fatalf("root may not ask: %v %v", k, err)
	}
	_ = k.Close()
	if k, err := Dial(context.Background(), path); !errors.Is(err, ErrPeer) {
		t.Errorf("a process of root takes over from one of another user: %v %v", k, err)
	}
}

// listenAs listens at a path as another user.
func listenAs(t *testing.T, path string, uid uintptr) *Listener {
	t.Helper()
	runtime.LockOSThread() // the user is the thread's
	defer runtime.UnlockOSThread()
	same := ^uintptr(0)
	if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESUID, same, uid, same); no != 0 {
		t.Fatal(no)
	}
	l, err := Listen(path)
	if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESUID, same, 0, same); no != 0 {
		panic(no) // the thread can't be used any more
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAddresses(t *testing.T) {
	any6, any4, one := &net.TCPAddr{IP: net.IPv6zero, Port: 993}, &net.TCPAddr{IP: net.IPv4zero, Port: 993}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 993}
	for _, c := range []struct {
		is      *net.TCPAddr
		address string
		same    bool
	}{
		{any6, ":993", true}, {any4, ":993", true}, {any6, "[::]:993", true}, {any4, "0.0.0.0:993", true}, {any6, "0.0.0.0:993", false},
		{one, ":993", false}, {any6, "127.0.0.1:993", false}, {one, "127.0.0.1:993", true}, {one, "127.0.0.1:0", false}, {any6, ":143", false}, {nil, ":993", false},
	} {
		if isBoundTo(c.is, c.address) != c.same {
			t.Errorf("%+v", c)
		}
	}
}
