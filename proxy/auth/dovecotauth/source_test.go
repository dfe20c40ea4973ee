package dovecotauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/proxy/auth"
)

const greeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tEXTERNAL\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n"

// dovecot is an auth process that says what it is told to. Each connection gets the next of the scripts; the last
// of them serves all further ones.
type dovecot struct {
	t       *testing.T
	address string
	all     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	scripts []func(*bufio.Reader, net.Conn)
	made    int
}

func startDovecot(t *testing.T, scripts ...func(*bufio.Reader, net.Conn)) *dovecot {
	t.Helper()
	d := &dovecot{t: t, address: filepath.Join(t.TempDir(), "s"), scripts: scripts}
	l, err := net.Listen("unix", d.address)
	if err != nil {
		t.Fatal(err)
	}
	d.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			script := d.scripts[min(d.made, len(d.scripts)-1)]
			d.made++
			d.mu.Unlock()
			d.all.Go(func() {
				defer c.Close()
				script(bufio.NewReader(c), c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		d.all.Wait()
	})
	return d
}

func (d *dovecot) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}

// answering reads the handshake, greets, and answers each request with what say makes of it.
func answering(say func(request string) string) func(*bufio.Reader, net.Conn) {
	return func(r *bufio.Reader, c net.Conn) {
		for range 2 {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, greeting)
		for {
			request, err := r.ReadString('\n')
			if err != nil {
				return
			}
			answer := say(strings.TrimSuffix(request, "\n"))
			if answer == "" {
				return
			}
			_, _ = io.WriteString(c, answer)
		}
	}
}

func (d *dovecot) source(timeout time.Duration) *Source {
	d.t.Helper()
	s, err := New(Options{Address: d.address, PID: 4711, Names: auth.Names{RefuseSeparators: "*"}, Asking: auth.AskingOptions{Timeout: timeout}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

func alice() auth.Credentials {
	return auth.Credentials{User: "alice", Password: "pw\twide€", TLS: true, Client: netip.MustParseAddr("::ffff:192.0.2.7"), Local: netip.MustParseAddr("192.0.2.1")}
}

// id is the number of a request.
func id(request string) string { return strings.Split(request, "\t")[1] }

func TestTheRequest(t *testing.T) {
	requests := make(chan string, 3)
	d := startDovecot(t, answering(func(r string) string {
		requests <- r
		return "OK\t" + id(r) + "\tuser=alice\n"
	}))
	s := d.source(0)
	bare := auth.Credentials{User: "alice", Password: "p"}
	for _, c := range []auth.Credentials{alice(), bare} {
		if v, ok := s.Authenticate(context.Background(), c).(auth.Accepted); !ok {
			t.Fatalf("%+v", v)
		}
	}
	resp := base64.StdEncoding.EncodeToString([]byte("\x00alice\x00pw\twide€"))
	if got, want := <-requests, "AUTH\t1\tPLAIN\tservice=imap\tnologin\tno-penalty\tsecured=tls\trip=192.0.2.7\tlip=192.0.2.1\tresp="+resp; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := <-requests, "AUTH\t2\tPLAIN\tservice=imap\tnologin\tno-penalty\tsecured\tresp="+base64.StdEncoding.EncodeToString([]byte("\x00alice\x00p")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := d.connections(); n != 1 {
		t.Errorf("%d connections for two logins, one after the other", n)
	}
}

func TestAnswers(t *testing.T) {
	accepted := func(a auth.Accepted) auth.Verdict { return a }
	for _, c := range []struct {
		answer string
		want   auth.Verdict
	}{
		{"OK\tuser=alice", accepted(auth.Accepted{User: "alice"})},
		{"OK\tuser=a\t\toriginal_user=alice", accepted(auth.Accepted{User: "a"})},
		{"OK\tuser=alice\tproxy\thost=10.0.0.9\tport=1143\tpass=other\tdestuser=b", accepted(auth.Accepted{User: "b", Placement: "10.0.0.9:1143", Password: "other"})},
		{"OK\tuser=alice\tproxy\tnologin\thost=10.0.0.9", accepted(auth.Accepted{User: "alice", Placement: "10.0.0.9:143"})},
		{"OK\tuser=alice\tproxy_maybe\thost=2001:db8::1\tssl=yes", accepted(auth.Accepted{User: "alice", Placement: "[2001:db8::1]:993"})},
		{"OK\tuser=alice\thost=b2", accepted(auth.Accepted{User: "alice", Placement: "b2"})},
		{"OK\tuser=alice\thost=10.0.0.9\tbackend=b3", accepted(auth.Accepted{User: "alice", Placement: "b3"})},
		{"OK\tuser=alice\tproxy\thost=b2\tmaster=root\tpass=of-root", accepted(auth.Accepted{User: "alice", Placement: "b2"})},
		{"OK\tuser=alice\tproxy\thost=b2\tpass=pw\x01twide€", accepted(auth.Accepted{User: "alice", Placement: "b2"})}, // the client's own
		{"OK\tuser=alice\tproxy\thost=b2\tpass=a\x011b\x01xc", accepted(auth.Accepted{User: "alice", Placement: "b2", Password: "a\x01bxc"})},
		{"OK\tuser=alice\tnologin\treason=gone", auth.Rejected{Reason: auth.ReasonAccountDisabled}},
		{"OK\tuser=alice*root", nil},
		{"OK", nil},
		{"FAIL\tuser=alice", auth.Rejected{Reason: auth.ReasonBadPassword}},
		{"FAIL", auth.Rejected{Reason: auth.ReasonBadPassword}},
		{"FAIL\tuser=alice\tcode=temp_fail", nil},
		{"FAIL\tuser=alice\ttemp", nil},
		{"FAIL\tuser=alice\treason=temp_fail\tcode=user_disabled", auth.Rejected{Reason: auth.ReasonAccountDisabled}},
		{"FAIL\tuser=alice\tcode=pass_expired", auth.Rejected{Reason: auth.ReasonAccountDisabled}},
		{"FAIL\tuser=alice\tcode=authz_fail", auth.Rejected{Reason: auth.ReasonBadAuthzid}},
		{"CONT\tZm9v", nil},
		{"WHAT", nil},
	} {
		command, rest, _ := strings.Cut(c.answer, "\t")
		d := startDovecot(t, answering(func(r string) string {
			return strings.TrimSuffix(command+"\t"+id(r)+"\t"+rest, "\t") + "\n"
		}))
		v := d.source(0).Authenticate(context.Background(), alice())
		if c.want == nil {
			if _, ok := v.(auth.Unavailable); !ok {
				t.Errorf("%q: %+v, want that it can't tell", c.answer, v)
			}
			continue
		}
		if got, ok := v.(auth.Accepted); ok {
			want, _ := c.want.(auth.Accepted)
			if got.User != want.User || got.Placement != want.Placement || got.Password != want.Password {
				t.Errorf("%q: %q at %q with %q, want %q at %q with %q", c.answer, got.User, got.Placement, got.Password.Reveal(), want.User, want.Placement, want.Password.Reveal())
			}
			if _, ok := c.want.(auth.Accepted); ok {
				continue
			}
		}
		if v != c.want {
			t.Errorf("%q: %+v, want %+v", c.answer, v, c.want)
		}
	}
}

// A connection that has died while it waited is replaced, once; one that dies in the middle of its first request
// isn't used for a second attempt, which would count twice where failures are counted.
func TestConnectionsThatEnd(t *testing.T) {
	ok := answering(func(r string) string { return "OK\t" + id(r) + "\tuser=alice\n" })
	one := make(chan struct{})
	d := startDovecot(t, func(r *bufio.Reader, c net.Conn) {
		n := 0
		answering(func(request string) string {
			if n++; n > 1 {
				return ""
			}
			return "OK\t" + id(request) + "\tuser=alice\n"
		})(r, c)
		close(one)
	}, ok)
	s := d.source(0)
	for range 3 {
		if v, is := s.Authenticate(context.Background(), alice()).(auth.Accepted); !is {
			t.Fatalf("%+v", v)
		}
	}
	<-one
	if n := d.connections(); n != 2 {
		t.Errorf("%d connections", n)
	}

	d = startDovecot(t, answering(func(string) string { return "" }))
	v, is := d.source(0).Authenticate(context.Background(), alice()).(auth.Unavailable)
	if !is || !errors.Is(v.Err, io.EOF) {
		t.Errorf("%+v", v)
	}
	if n := d.connections(); n != 1 {
		t.Errorf("%d connections for a request that a new one has lost", n)
	}
}

// The answer to a login that has waited too long isn't taken for that of the next.
func TestALateAnswerIsNoOnesElse(t *testing.T) {
	late := make(chan struct{})
	d := startDovecot(t, answering(func(r string) string {
		<-late
		return "OK\t" + id(r) + "\tuser=alice\n"
	}), answering(func(r string) string { return "FAIL\t" + id(r) + "\tuser=alice\n" }))
	s := d.source(50 * time.Millisecond)
	v, is := s.Authenticate(context.Background(), alice()).(auth.Unavailable)
	if !is || !errors.Is(v.Err, context.DeadlineExceeded) {
		t.Errorf("%+v", v)
	}
	close(late)
	if n := len(s.pool.idle); n != 0 {
		t.Errorf("%d connections wait", n)
	}

	d = startDovecot(t, answering(func(r string) string { return "OK\t9" + id(r) + "\tuser=alice\n" }))
	if v, is := d.source(0).Authenticate(context.Background(), alice()).(auth.Unavailable); !is || !strings.Contains(v.Err.Error(), "another request") {
		t.Errorf("the answer to another request: %+v", v)
	}
}

func TestHandshakesThatFail(t *testing.T) {
	for what, c := range map[string]struct{ says, want string }{
		"another version":         {"VERSION\t2\t0\nMECH\tPLAIN\nDONE\n", "correct address"},
		"no version":              {"MECH\tPLAIN\nDONE\n", "correct address"},
		"no PLAIN":                {"VERSION\t1\t2\nMECH\tLOGIN\nDONE\n", "add plain"},
		"another protocol":        {"* OK [CAPABILITY IMAP4rev1] ready\r\n", "correct address"},
		"a line without end":      {strings.Repeat("x", maxLine+1), "correct address"},
		"a handshake without end": {"VERSION\t1\t2\n" + strings.Repeat("MECH\tX\n", 200), "correct address"},
		"nothing":                 {"", "look into Dovecot's log"},
	} {
		d := startDovecot(t, func(r *bufio.Reader, c2 net.Conn) {
			for range 2 {
				_, _ = r.ReadString('\n')
			}
			_, _ = io.WriteString(c2, c.says)
		})
		s := d.source(0)
		var fault *auth.Fault
		if _, err := s.Try(context.Background()); !errors.As(err, &fault) || !strings.Contains(fault.Mend, c.want) {
			t.Errorf("%s: %v; %+v", what, err, fault)
		}
	}
}

// Each connection is closed when it is old: an auth process that was told to reload serves it by its old
// configuration.
func TestConnectionsDontLast(t *testing.T) {
	var p pool
	a, b := net.Pipe()
	defer b.Close()
	now := time.Now()
	p.give(&connection{net: a, made: now})
	if c := p.take(now.Add(maxAge)); c != nil {
		t.Error("an old connection is used")
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it isn't closed: %v", err)
	}
}

// A user with a certificate is asked about by EXTERNAL, without a password; a Dovecot that can't tell leaves it open.
func TestACertificatesUserIsAskedAbout(t *testing.T) {
	byCertificate := alice()
	byCertificate.Mechanism = auth.MechanismExternal
	for answer, want := range map[string]auth.Verdict{
		"OK\tuser=alice":                       auth.Accepted{User: "alice"},
		"OK\tuser=alice\tnologin":              auth.Rejected{Reason: auth.ReasonAccountDisabled},
		"FAIL\tuser=alice":                     auth.Rejected{Reason: auth.ReasonUnknownUser},
		"FAIL\tuser=alice\tcode=user_disabled": auth.Rejected{Reason: auth.ReasonAccountDisabled},
		"FAIL\tuser=alice\tcode=temp_fail":     nil,
		"FAIL":                                 nil, // it doesn't go by the certificate's name
		"CONT":                                 nil,
	} {
		requests := make(chan string, 1)
		command, rest, _ := strings.Cut(answer, "\t")
		d := startDovecot(t, answering(func(r string) string {
			requests <- r
			return strings.TrimSuffix(command+"\t"+id(r)+"\t"+rest, "\t") + "\n"
		}))
		v := d.source(0).Certified(context.Background(), byCertificate)
		if _, away := v.(auth.Unavailable); want == nil && !away || want != nil && fmt.Sprint(v) != fmt.Sprint(want) {
			t.Errorf("%q: %+v, want %+v", answer, v, want)
		}
		if got, want := <-requests, "AUTH\t1\tEXTERNAL\tservice=imap\tnologin\tno-penalty\tsecured=tls\trip=192.0.2.7\tlip=192.0.2.1\tvalid-client-cert\tcert_username=alice\tresp=="; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	without := startDovecot(t, func(r *bufio.Reader, c net.Conn) {
		_, _ = io.WriteString(c, strings.Replace(greeting, "MECH\tEXTERNAL\n", "", 1))
		_, _ = r.ReadString('?')
	})
	if v, ok := without.source(0).Certified(context.Background(), byCertificate).(auth.Unavailable); !ok || !strings.Contains(mend(v.Err), "external") {
		t.Errorf("without EXTERNAL: %+v", v)
	}
}
