package discovery

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/routing"
)

// fakeServer is a backend of one line, for probes.
type fakeServer struct {
	address, host string
	port          int
	close         func()
	logout        chan struct{} // one for each LOGOUT
}

// imapServer greets and reads until LOGOUT. A greeting of "" hangs.
func imapServer(t *testing.T, greeting string) *fakeServer {
	t.Helper()
	return serve(t, func(s *fakeServer, conn net.Conn) { s.talk(conn, greeting) })
}

func (s *fakeServer) talk(conn net.Conn, greeting string) {
	if greeting != "" {
		_, _ = conn.Write([]byte(greeting + "\r\n"))
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), "LOGOUT") {
			s.logout <- struct{}{}
			return
		}
	}
}

func serve(t *testing.T, handle func(*fakeServer, net.Conn)) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{address: l.Addr().String(), host: "127.0.0.1", port: l.Addr().(*net.TCPAddr).Port,
		logout: make(chan struct{}, 1000)}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				handle(s, conn)
			})
		}
	})
	s.close = sync.OnceFunc(func() { l.Close(); cancel(); conns.Wait() })
	t.Cleanup(s.close)
	return s
}

// testCert is a certificate for imap.test, and the pool that trusts it.
func testCert(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"imap.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestWhatAProbeAccepts(t *testing.T) {
	cert, pool := testCert(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	implicit := serve(t, func(s *fakeServer, c net.Conn) { s.talk(tls.Server(c, server), "* OK ready") })
	starttls := func(answer string) *fakeServer {
		return serve(t, func(s *fakeServer, c net.Conn) {
			_, _ = c.Write([]byte("* OK ready\r\n"))
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || line != "p1 STARTTLS\r\n" {
				return
			}
			_, _ = c.Write([]byte(answer))
			s.talk(tls.Server(c, server), "")
		})
	}
	// It reads the PROXY header first, and sends no greeting without it.
	behind := func(answer func(s *fakeServer, c net.Conn)) *fakeServer {
		return serve(t, func(s *fakeServer, c net.Conn) {
			head := make([]byte, 16)
			if _, err := io.ReadFull(c, head); err == nil && string(head) == "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" {
				answer(s, c)
			}
		})
	}
	unaware := func(answers string) *fakeServer {
		return serve(t, func(_ *fakeServer, c net.Conn) {
			_, _ = c.Write([]byte("* OK ready\r\n" + answers))
			_, _ = io.Copy(io.Discard, c)
		})
	}
	for name, test := range map[string]struct {
		server  *fakeServer
		tls     string
		name    string
		problem string // part of the error; "" = none
	}{
		"v2: a header of no client":          {behind(func(s *fakeServer, c net.Conn) { s.talk(c, "* OK ready\r\n* BYE so\r\np2 OK bye") }), "", "", ""},
		"v2: the header precedes TLS":        {behind(func(s *fakeServer, c net.Conn) { s.talk(tls.Server(c, server), "* OK ready") }), "implicit", "imap.test", ""},
		"v2: lines that aren't commands":     {unaware("* BAD Error in IMAP command received by server.\r\n"), "", "", "send_proxy"},
		"v2: Courier's lines":                {unaware("* NO Error in IMAP command received by server.\r\n"), "", "", "send_proxy"},
		"v2: its QUIT as a tag":              {unaware("QUIT BAD Null command\r\n"), "", "", "send_proxy"},
		"v2: lines that aren't for STARTTLS": {unaware("* BAD Error in IMAP command received by server.\r\n"), "starttls", "imap.test", "send_proxy"},

		"a greeting":                      {imapServer(t, "* OK [CAPABILITY IMAP4rev1] ready"), "", "", ""},
		"a greeting in lower case":        {imapServer(t, "* ok"), "none", "", ""},
		"PREAUTH":                         {imapServer(t, "* PREAUTH hello"), "", "", ""},
		"BYE":                             {imapServer(t, "* BYE too many connections"), "", "", "too many connections"},
		"another protocol":                {imapServer(t, "220 smtp.example.org ESMTP"), "", "", "not an IMAP greeting"},
		"an endless line":                 {imapServer(t, "* OK "+strings.Repeat("x", 20000)), "", "", "no greeting"},
		"silence":                         {imapServer(t, ""), "", "", "no greeting"},
		"a closed connection":             {serve(t, func(*fakeServer, net.Conn) {}), "", "", "no greeting"},
		"TLS from the start":              {implicit, "implicit", "imap.test", ""},
		"TLS under another name":          {implicit, "implicit", "pop.test", "tls"},
		"TLS that isn't there":            {imapServer(t, "* OK ready"), "implicit", "imap.test", "tls"},
		"STARTTLS":                        {starttls("* OK by the way\r\np1 OK go\r\n"), "starttls", "imap.test", ""},
		"STARTTLS refused":                {starttls("p1 NO not here\r\n"), "starttls", "imap.test", "not here"},
		"STARTTLS with something behind":  {starttls("p1 OK go\r\n* OK injected\r\n"), "starttls", "imap.test", "in clear"},
		"STARTTLS among endless chatting": {starttls(strings.Repeat("* OK so\r\n", 40)), "starttls", "imap.test", "many lines"},
	} {
		t.Run(name, func(t *testing.T) {
			o := ProbeOptions{Timeout: 2 * time.Second, TLSConfig: &tls.Config{RootCAs: pool}}.withDefaults()
			if strings.HasPrefix(name, "v2") {
				o.DefaultSendProxy = "v2"
			}
			capabilities, err := o.probe(context.Background(), routing.Backend{ID: "b", Address: test.server.address, TLS: test.tls, ServerName: test.name})
			switch {
			case test.problem == "" && err != nil:
				t.Errorf("refused: %v", err)
			case capabilities != map[string]string{"a greeting": "IMAP4rev1"}[name]:
				t.Errorf("the capabilities are %q", capabilities)
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
				t.Errorf("the error is %v, it should say %q", err, test.problem)
			}
			var bye *ByeError // a backend that is full greets with BYE
			if errors.As(err, &bye) != (name == "BYE") || bye != nil && bye.Bye() != "* BYE too many connections" {
				t.Errorf("%v is taken for BYE: %v", err, bye)
			}
			if test.problem != "" {
				return
			}
			select {
			case <-test.server.logout:
			case <-time.After(patience):
				t.Error("it doesn't log out")
			}
		})
	}
}

func TestRiseAndFall(t *testing.T) {
	bad := errors.New("refused")
	var c counter
	for i, step := range []struct {
		err    error
		change bool
		down   bool
	}{
		{nil, true, false},                                            // the first decides
		{bad, false, false}, {bad, false, false}, {nil, false, false}, // not in a row
		{bad, false, false}, {bad, false, false}, {bad, true, true},
		{nil, false, true}, {bad, false, true},
		{nil, false, true}, {nil, true, false},
	} {
		if change := c.add(step.err, 2, 3); change != step.change || c.down != step.down {
			t.Errorf("step %d (%v): change %v, down %v", i, step.err, change, c.down)
		}
	}
}

func TestStaticBackendsGoDownAndComeBack(t *testing.T) {
	good := imapServer(t, "* OK ready")
	var refuse atomic.Bool
	moody := serve(t, func(s *fakeServer, c net.Conn) {
		if refuse.Load() {
			s.talk(c, "* BYE not now")
			return
		}
		s.talk(c, "* OK ready")
	})
	s, err := NewStatic(StaticOptions{
		Backends: []routing.Backend{
			{ID: "b1", Address: good.address, Weight: 7}, {ID: "b2", Address: moody.address}, {ID: "b3", Address: "127.0.0.1:1"},
		},
		Probe: ProbeOptions{Interval: 10 * time.Millisecond, Timeout: 5 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return s.Run(ctx, r.apply) })
	first := r.waitFleet(t, "b1 b2 b3=down")
	if first.Backends[0].Weight != 7 {
		t.Errorf("%+v", first)
	}
	refuse.Store(true)
	if s := r.waitFleet(t, "b1 b2=down b3=down"); !strings.Contains(s.Backends[1].Reason, "not now") {
		t.Errorf("the reason is %q", s.Backends[1].Reason)
	}
	refuse.Store(false)
	r.waitFleet(t, "b1 b2 b3=down")
}

func TestWithoutProbesAllAreUpAtOnce(t *testing.T) {
	s, err := NewStatic(StaticOptions{Backends: []routing.Backend{{ID: "b1", Address: "127.0.0.1:1"}}, Probe: ProbeOptions{Interval: -1}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return s.Run(ctx, r.apply) })
	r.waitFleet(t, "b1")
}

func TestAHangingProbeEndsWithItsSource(t *testing.T) {
	silent := imapServer(t, "")
	s, err := NewStatic(StaticOptions{Backends: []routing.Backend{{ID: "b1", Address: silent.address}}, Probe: ProbeOptions{Timeout: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, func(ctx context.Context) error { return s.Run(ctx, newRecorder().apply) })
	stop()
}

func TestBadStaticFleets(t *testing.T) {
	for name, backends := range map[string][]routing.Backend{
		"none":          nil,
		"no id":         {{Address: "a:1"}},
		"an id twice":   {{ID: "b", Address: "a:1"}, {ID: "b", Address: "b:1"}},
		"no port":       {{ID: "b", Address: "a"}},
		"a kind of tls": {{ID: "b", Address: "a:1", TLS: "ssl"}},
	} {
		if _, err := NewStatic(StaticOptions{Backends: backends}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestABackendThatHangsKeepsNobodyFromTheOthers(t *testing.T) {
	well, hangs := imapServer(t, "* OK ready"), imapServer(t, "")
	s, err := NewStatic(StaticOptions{
		Backends: []routing.Backend{{ID: "b1", Address: well.address}, {ID: "b2", Address: hangs.address}},
		Probe:    ProbeOptions{Timeout: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return s.Run(ctx, r.apply) })
	r.waitFleet(t, "b1 b2=pending") // the probe of b2 goes on for an hour
}

// A probe whose failure is excused, as the proxy's own shortage is, decides nothing: the
// backend stays up, and is up once a probe succeeds.
func TestAnExcusedProbeIsNoEvidence(t *testing.T) {
	server := imapServer(t, "* OK ready")
	var fail atomic.Bool
	excused, answered := make(chan struct{}, 100), make(chan struct{}, 1000)
	s, err := NewStatic(StaticOptions{
		Backends: []routing.Backend{{ID: "b1", Address: server.address, Weight: 100}},
		Probe: ProbeOptions{
			Interval: time.Millisecond, Fall: 1,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if fail.Load() {
					return nil, errors.New("too many open files")
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			Answered: func(string, string) {
				select {
				case answered <- struct{}{}:
				default:
				}
			},
			Excuse: func(backend string, err error) bool {
				excused <- struct{}{}
				return backend == "b1" && strings.Contains(err.Error(), "too many open files")
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	states := make(chan routing.State, 100)
	var running sync.WaitGroup
	running.Go(func() {
		_ = s.Run(ctx, func(snapshot routing.Snapshot) { states <- snapshot.Backends[0].State })
	})
	defer running.Wait()
	defer cancel()
	if state := <-states; state != routing.Up {
		t.Fatalf("at first it's %v", state)
	}
	fail.Store(true)
	for range 5 {
		<-excused
	}
	for len(answered) > 0 { // from before, by the one goroutine that probes
		<-answered
	}
	fail.Store(false)
	for range 10 { // probes that succeed are told
		<-answered
	}
	select {
	case state := <-states:
		t.Errorf("it became %v", state)
	default:
	}
}

// A probe learns what a backend can do: from its greeting, or by asking. A list in the clear doesn't hold under TLS.
func TestAProbeReadsTheCapabilities(t *testing.T) {
	cert, pool := testCert(t)
	secret := &tls.Config{Certificates: []tls.Certificate{cert}}
	// answers is a backend that greets so, and lists so when it is asked.
	answers := func(greeting, list string) *fakeServer {
		return serve(t, func(s *fakeServer, c net.Conn) {
			_, _ = c.Write([]byte(greeting + "\r\n"))
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				switch line := lines.Text(); {
				case strings.HasSuffix(line, "STARTTLS"):
					_, _ = c.Write([]byte("p1 OK go\r\n"))
					c = tls.Server(c, secret)
					lines = bufio.NewScanner(c)
				case strings.HasSuffix(line, "CAPABILITY"):
					_, _ = c.Write([]byte(list))
				case strings.HasSuffix(line, "LOGOUT"):
					return
				}
			}
		})
	}
	for name, test := range map[string]struct {
		server *fakeServer
		tls    string
		want   string
	}{
		"in the greeting":          {answers("* OK [CAPABILITY IMAP4rev1 IDLE] ready", "p2 BAD not needed\r\n"), "none", "IMAP4rev1 IDLE"},
		"by asking":                {answers("* OK ready", "* CAPABILITY IMAP4rev1 MOVE\r\np2 OK done\r\n"), "none", "IMAP4rev1 MOVE"},
		"by asking under TLS":      {answers("* OK [CAPABILITY IMAP4rev1 STARTTLS INJECTED] ready", "* CAPABILITY IMAP4rev1 MOVE\r\np2 OK done\r\n"), "starttls", "IMAP4rev1 MOVE"},
		"not told":                 {answers("* OK ready", "p2 BAD what\r\n"), "none", ""},
		"an answer without an end": {answers("* OK ready", "* CAPABILITY IMAP4rev1\r\n"), "none", "IMAP4rev1"},
	} {
		t.Run(name, func(t *testing.T) {
			o := ProbeOptions{Timeout: 5 * time.Second, TLSConfig: &tls.Config{RootCAs: pool}}.withDefaults()
			got, err := o.probe(context.Background(), routing.Backend{ID: "b", Address: test.server.address, TLS: test.tls, ServerName: "imap.test"})
			if err != nil || got != test.want {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}
