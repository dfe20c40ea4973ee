package parking

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/proxy"
)

// zone answers what this process asks the DNS.
var zone names

// names are host names and their IPv4 addresses.
type names struct {
	mu sync.Mutex // guards at
	at map[string]netip.Addr
}

func (n *names) set(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == nil {
		n.at = map[string]netip.Addr{}
	}
	n.at[host+"."] = netip.MustParseAddr(addr)
}

// dial is net.Resolver's: a connection to a server that answers one question.
func (n *names) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { // ends once the resolver has its answer, or gives up
		defer theirs.Close()
		_ = theirs.SetDeadline(time.Now().Add(patience))
		var size [2]byte // a stream has messages behind their sizes
		if _, err := io.ReadFull(theirs, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(theirs, question); err != nil {
			return
		}
		answer := n.answer(question)
		_, _ = theirs.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}()
	return ours, nil
}

// answer is a message for a question (RFC 1035 section 4): the host's address, or none of the type that is asked for.
func (n *names) answer(question []byte) []byte {
	const head, typeA = 12, 1
	var host strings.Builder
	at := head
	for ; question[at] != 0; at += 1 + int(question[at]) {
		host.Write(question[at+1 : at+1+int(question[at])])
		host.WriteByte('.')
	}
	end := at + 5 // the type and the class follow the name
	n.mu.Lock()
	addr, known := n.at[host.String()]
	n.mu.Unlock()
	answers, code := byte(0), byte(0)
	switch {
	case !known:
		code = 3 // no such name
	case binary.BigEndian.Uint16(question[at+1:]) == typeA:
		answers = 1
	}
	m := append([]byte{question[0], question[1], 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0}, question[head:end]...)
	if answers == 1 {
		m = append(m, 0xc0, head, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4) // the name as in the question; it may not be kept (TTL 0)
		m = append(m, addr.AsSlice()...)
	}
	return m
}

// A backend is registered in Consul by a host name, and the name gets another address. It stays the same backend: an attached session keeps its
// connection, and what is connected from then on (a login, a parked session that resumes) goes to the new address.
func TestABackendsNameGetsAnotherAddress(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	const host = "imap1.proxy.test"
	dove := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1"})
	old := imaptest.NewTapAt(t, "127.0.0.2:0", dove.Addr)
	_, port, err := net.SplitHostPort(old.Addr)
	must(t, err)
	next := imaptest.NewTapAt(t, "127.0.0.3:"+port, dove.Addr)
	zone.set(host, "127.0.0.2")
	consul := consultest.Start(t)
	number, err := strconv.Atoi(port)
	must(t, err)
	consul.Register(consultest.Service{ID: "d1", Name: "imap", Address: host, Port: number, Check: &consultest.Check{TTL: "30m", Status: "passing"}})

	l := &lab{t: t, cert: imaptest.NewCert(t), logs: &apptest.Log{}}
	l.app = apptest.Start(t, apptest.Config{
		Cert: l.cert, Park: apptest.Park{"linger": time.Millisecond, "warm_for": time.Duration(0), "watch": "poll", "sweep_every": 10 * time.Minute},
		Discovery: fmt.Sprintf("discovery \"consul\" {\n  address = %q\n  service = \"imap\"\n}\nbackend_defaults {\n  tls = \"none\"\n}\n", consul.Address()),
	}, app.Options{})
	l.srv, l.Plain, l.TLS = l.app.Server(), l.app.Addrs()["plain"], l.app.Addrs()["imaps"]
	backend := func() string {
		t.Helper()
		page, _ := l.srv.Sessions(proxy.Filter{User: servers.User(1)})
		if len(page) == 0 {
			t.Fatal("there is no session")
		}
		for _, s := range page {
			if s.Backend != page[0].Backend {
				t.Fatalf("sessions at %s and at %s", s.Backend, page[0].Backend)
			}
		}
		return page[0].Backend
	}

	attached, idles := l.login(servers.User(1)), l.login(servers.User(1))
	attached.MustOK("APPEND INBOX {8+}\r\nA: b\r\n\r\n")
	attached.MustOK("SELECT INBOX")
	attached.MustOK("SEARCH RETURN (SAVE) ALL") // its result belongs to the connection
	idles.MustOK("SELECT INBOX")
	done := idles.Idle()
	l.parked(idles)
	was, before := backend(), old.Opened()
	if before == 0 || next.Opened() != 0 {
		t.Fatalf("%d connections to the first address, %d to the second", before, next.Opened())
	}

	zone.set(host, "127.0.0.3")
	more := l.login(servers.User(1))
	more.MustOK("SELECT INBOX")
	if n := next.Opened(); n == 0 {
		t.Error("a login goes to the address that the name had")
	}
	logins := next.Opened()
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	idles.MustOK("FETCH 1:* (FLAGS)")
	must(t, eventually(t.Context(), "a connection of the session that resumes", func() error {
		if n := next.Opened(); n <= logins {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	}))
	attached.MustOK("SEARCH $") // the result that was saved is there: it is the same connection
	if n := old.Opened(); n != before {
		t.Errorf("%d connections were made to the address that the name had", n-before)
	}
	if is := backend(); is != was {
		t.Errorf("it was the backend %s, and is %s", was, is)
	}
}
