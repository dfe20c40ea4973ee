package servers

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// moxConf is mox.conf, moxDomains domains.conf; both are indented by tabs.
const moxConf = `DataDir: .
LogLevel: info
User: %[1]d
Hostname: localhost
Listeners:
	local:
		IPs:
			- 127.0.0.1
		TLS:
			KeyCerts:
				-
					CertFile: %[2]s
					KeyFile: %[3]s
		IMAP:
			Enabled: true
			Port: %[4]s
			NoRequireSTARTTLS: true
		IMAPS:
			Enabled: true
			Port: %[5]s
Postmaster:
	Account: %[6]s
	Mailbox: Inbox
`

const moxDomains = `Domains:
	localhost: nil
Accounts:
`

const moxAccount = `	%[1]s:
		Domain: localhost
		Destinations:
			%[1]s@localhost: nil
`

// StartMox runs a mox: IMAP4rev2, UIDONLY, and a NOTIFY of another make. It has no
// master user. Its users' names have a domain: ask the Server for them.
//
// mox takes 30 connections of an address, and 300 in a minute, which no setting
// changes. Addr and TLSAddr are therefore those of a relay in this process that
// comes from as many loopback addresses as it takes; Direct is mox itself.
func StartMox(t testing.TB) *Server {
	t.Helper()
	Real(t)
	bin := os.Getenv("MOX_BIN")
	if bin == "" {
		t.Fatal("MOX_BIN isn't set: ./test builds mox and sets it")
	}
	dir := Folder(t)
	cert := newCertificate(t, dir)
	addr, port := FreeAddr(t)
	tlsAddr, tlsPort := FreeAddr(t)
	write(t, filepath.Join(dir, "mox.conf"), fmt.Sprintf(moxConf, os.Getuid(), cert.CertFile, cert.KeyFile, port, tlsPort, User(1)))
	domains := moxDomains
	for i := 1; i <= Users; i++ {
		domains += fmt.Sprintf(moxAccount, User(i))
	}
	write(t, filepath.Join(dir, "domains.conf"), domains)
	write(t, filepath.Join(dir, "receivedid.key"), strings.Repeat("k", 24))

	p := Start(t, "mox", exec.Command(bin, "localserve", "-dir", dir))
	p.WaitPort(addr)
	setPassword := func(t testing.TB, user, password string) {
		t.Helper()
		user, _, _ = strings.Cut(user, "@")
		run(t, password+"\n", bin, "-config", filepath.Join(dir, "mox.conf"), "setaccountpassword", user)
	}
	// Making an account takes a quarter of a second; its file holds no name, and may be copied.
	setPassword(t, User(1), Password)
	account := readFile(t, filepath.Join(dir, "accounts", User(1), "index.db"))
	for i := 2; i <= Users; i++ {
		write(t, filepath.Join(dir, "accounts", User(i), "index.db"), account)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(run(t, "", bin, "version")), " ")
	t.Logf("mox %s", version)
	return &Server{
		Kind: "mox", Name: "mox", Version: version, Direct: addr, Addr: spread(t, addr), TLSAddr: spread(t, tlsAddr),
		Domain: "@localhost", Process: p, setPassword: setPassword,
	}
}

// spread relays to a loopback address, each connection from a loopback address of its
// own. It ends with the test.
func spread(t testing.TB, to string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &spreader{to: to, open: map[net.Conn]struct{}{}}
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed below
			}
			s.running.Go(func() { s.relay(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.close()
		s.running.Wait()
	})
	return l.Addr().String()
}

// spreader relays connections.
type spreader struct {
	to      string
	running sync.WaitGroup

	mu   sync.Mutex // guards what follows
	open map[net.Conn]struct{}
	done bool
}

// keep registers a connection, so that close reaches it; false: everything is closed.
func (s *spreader) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		_ = c.Close()
		return false
	}
	s.open[c] = struct{}{}
	return true
}

func (s *spreader) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	_ = c.Close()
}

func (s *spreader) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	for c := range s.open {
		_ = c.Close()
	}
}

// relay carries one connection's bytes both ways until both sides have ended theirs, or
// one is lost: then the other is closed as hard.
func (s *spreader) relay(client *net.TCPConn) {
	if !s.keep(client) {
		return
	}
	defer s.drop(client)
	// mox counts an address alone, its /26 and its /21: 127.0-255.x.1 are in few of the same.
	source := &net.TCPAddr{IP: net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), 1)}
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: source}
	nc, err := d.Dial("tcp", s.to)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	server := nc.(*net.TCPConn)
	if !s.keep(server) {
		return
	}
	defer s.drop(server)
	var both sync.WaitGroup
	carry := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			_ = to.SetLinger(0)
			_ = to.Close()
			_ = from.SetLinger(0)
			_ = from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { carry(server, client) })
	both.Go(func() { carry(client, server) })
	both.Wait()
}
