package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// told is what a backend reads from a header.
type told struct {
	local        bool
	from, to     string
	id, sni      string
	tls          bool
	version      string
	cipher       string
	certified    bool
	commonName   string
	afterVersion bool // a certificate is announced, verified or not
}

func toldBy(t *testing.T, r *bufio.Reader) (got told) {
	t.Helper()
	h, err := proxyproto.Read(r)
	if err != nil {
		t.Error(err)
		return got
	}
	got.local = h.Command.IsLocal()
	if from, to, ok := h.TCPAddrs(); ok {
		got.from, got.to = from.String(), to.String()
	}
	tlvs, err := h.TLVs()
	if err != nil {
		t.Error(err)
	}
	for _, v := range tlvs {
		switch v.Type {
		case proxyproto.PP2_TYPE_UNIQUE_ID:
			got.id = string(v.Value)
		case proxyproto.PP2_TYPE_AUTHORITY:
			got.sni = string(v.Value)
		case proxyproto.PP2_TYPE_SSL:
			s, err := tlvparse.SSL(v)
			if err != nil {
				t.Error(err)
			}
			got.tls, got.afterVersion = s.ClientSSL(), s.ClientCertConn() || s.ClientCertSess()
			got.certified = got.afterVersion && s.Verified()
			got.version, _ = s.SSLVersion()
			got.cipher, _ = s.SSLCipher()
			got.commonName, _ = s.ClientCN()
			if s.Verified() != got.afterVersion {
				t.Errorf("verify says %v", s.Verify)
			}
		default:
			t.Errorf("TLV %v", v.Type)
		}
	}
	return got
}

func TestAHeaderTellsOfItsClient(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("[2001:db8::1%eth0]:993")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711")
	here := netip.MustParseAddrPort("198.51.100.1:143")
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}}
	state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "imap.example.org", PeerCertificates: []*x509.Certificate{leaf}}
	shown := TLSOf(&state)
	state.VerifiedChains = [][]*x509.Certificate{{leaf}}
	proved := TLSOf(&state)
	overTLS := told{from: "192.0.2.7:4711", to: "198.51.100.1:143", tls: true, version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", sni: "imap.example.org"}
	certified := overTLS
	certified.certified, certified.afterVersion, certified.commonName = true, true, "alice"
	bare := told{from: "192.0.2.7:4711", to: "198.51.100.1:143", tls: true}
	for name, c := range map[string]struct {
		client Client
		want   told
	}{
		"no client":                      {Client{SessionID: "check"}, told{local: true}},
		"an address, and the session":    {Client{Addr: v4, LocalAddr: here, SessionID: "s1"}, told{from: "192.0.2.7:4711", to: "198.51.100.1:143", id: "s1"}},
		"an address by way of IPv6":      {Client{Addr: mapped, LocalAddr: here}, told{from: "192.0.2.7:4711", to: "198.51.100.1:143"}},
		"IPv6":                           {Client{Addr: netip.MustParseAddrPort("[2001:db8::7]:4711"), LocalAddr: v6}, told{from: "[2001:db8::7]:4711", to: "[2001:db8::1]:993"}},
		"no address of ours":             {Client{Addr: v4}, told{from: "192.0.2.7:4711", to: "0.0.0.0:0"}},
		"an overlong id":                 {Client{Addr: v4, LocalAddr: here, SessionID: strings.Repeat("x", 129)}, told{from: "192.0.2.7:4711", to: "198.51.100.1:143"}},
		"TLS, an unverified certificate": {Client{Addr: v4, LocalAddr: here, TLS: shown}, overTLS},
		"TLS, a verified certificate":    {Client{Addr: v4, LocalAddr: here, TLS: proved}, certified},
		"a name that isn't a host's":     {Client{Addr: v4, LocalAddr: here, TLS: &ClientTLS{ServerName: "x\r\na LOGIN b c"}}, bare},
		"texts with line breaks":         {Client{Addr: v4, LocalAddr: here, TLS: &ClientTLS{Version: "a\nb", Cipher: "a\rb"}}, bare},
		"a common name with line breaks": {Client{Addr: v4, LocalAddr: here, TLS: &ClientTLS{Certificate: true, CommonName: "a\r\nb LOGOUT"}},
			told{from: "192.0.2.7:4711", to: "198.51.100.1:143", tls: true, certified: true, afterVersion: true}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := header(c.client)
			if err != nil {
				t.Fatal(err)
			}
			if rest := b[16:]; bytes.Contains(rest, []byte("LOG")) {
				t.Errorf("a client's text is a command: %q", rest)
			}
			// A version is due where there is TLS, and the library says so: then the texts are looked at by hand.
			if c.want.tls && c.want.version == "" {
				if bytes.ContainsAny(b[16:], "\r\n") {
					t.Errorf("there is a line break: %q", b[16:])
				}
				return
			}
			if got := toldBy(t, bufio.NewReader(bytes.NewReader(b))); got != c.want {
				t.Errorf("told %+v, not %+v", got, c.want)
			}
		})
	}
	// One header has one family.
	b, err := header(Client{Addr: v4, LocalAddr: v6})
	if err != nil {
		t.Fatal(err)
	}
	if b[13] != 0x21 || !bytes.Equal(b[16:32], as16(v4.Addr())) {
		t.Errorf("an IPv4 client at an IPv6 address: %x", b)
	}
}

func TestAConnectionBeginsWithTheHeader(t *testing.T) {
	client := Client{Addr: netip.MustParseAddrPort("192.0.2.7:4711"), LocalAddr: netip.MustParseAddrPort("198.51.100.1:993"), SessionID: "s1",
		TLS: &ClientTLS{Version: "TLSv1.2", Cipher: "X", ServerName: "imap.example.org"}}
	want := told{from: "192.0.2.7:4711", to: "198.51.100.1:993", id: "s1", tls: true, version: "TLSv1.2", cipher: "X", sni: "imap.example.org"}
	ca := newAuthority(t)
	cert := ca.server(t, "localhost", time.Now().Add(time.Hour))
	behind := func(got *told, script string) func(net.Conn) error {
		return func(c net.Conn) error {
			r := bufio.NewReader(c)
			*got = toldBy(t, r)
			return playScript(&readFirst{c, r}, script, cert)
		}
	}
	const greeting = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN STARTTLS] hi\n"
	const login = "C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\nS: * NO disk is getting full\nS: p1 OK [CAPABILITY A] in"
	for name, script := range map[string]string{
		TLSNone:     greeting + login,
		TLSImplicit: "TLS\n" + greeting + login,
		TLSStartTLS: greeting + "C: p1 STARTTLS\nS: p1 OK go\nTLS\nC: p2 CAPABILITY\nS: * CAPABILITY SASL-IR AUTH=PLAIN\nS: p2 OK done\n" + strings.ReplaceAll(login, "p1", "p3"),
	} {
		t.Run(name, func(t *testing.T) {
			var got told
			b := serve(t, behind(&got, script))
			d := newDialer(t, Options{CAFile: ca.caFile})
			c, err := d.Login(t.Context(), Target{ID: "b1", Address: b.addr, TLS: name, ServerName: "localhost", SendProxy: ProxyV2}, alice, client)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if got != want {
				t.Errorf("told %+v, not %+v", got, want)
			}
		})
	}
	var got told
	b := serve(t, behind(&got, greeting+"C: p1 NOOP\nS: p1 OK\nC: p2 LOGOUT"))
	if _, err := newDialer(t, Options{}).Probe(t.Context(), Target{ID: "b1", Address: b.addr, SendProxy: ProxyV2}); err != nil {
		t.Error(err)
	}
	if want := (told{local: true}); got != want {
		t.Errorf("a probe tells %+v", got)
	}
}

// What a backend thinks of a client isn't what it was told if it doesn't know the header, so no one is logged in.
func TestABackendThatDoesNotExpectTheHeaderIsNotUsed(t *testing.T) {
	for name, answers := range map[string]string{
		"Dovecot": "* BAD Error in IMAP command received by server.\r\n",
		"Courier": "* NO Error in IMAP command received by server.\r\n",
		"Cyrus":   "QUIT BAD Null command\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := serve(t, func(c net.Conn) error {
				// It takes what comes behind the header all the same.
				_, _ = io.WriteString(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n"+answers+"p1 OK [CAPABILITY A] in\r\n")
				_, _ = io.Copy(io.Discard, c)
				return nil
			})
			d, target := newDialer(t, Options{}), Target{ID: "b1", Address: b.addr, SendProxy: ProxyV2}
			_, err := d.Login(t.Context(), target, alice, Client{Addr: netip.MustParseAddrPort("192.0.2.7:4711")})
			_, probed := d.Probe(t.Context(), target)
			for _, err := range []error{err, probed} {
				down, ok := errors.AsType[*Unavailable](err)
				if !ok || down.Stage != StageGreeting || !errors.Is(err, ErrHeaderUnexpected) || down.Fault() != FaultBackend {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func as16(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}
