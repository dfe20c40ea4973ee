package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// ErrHeaderUnexpected: the backend took the PROXY header for commands. What it believes about the connection isn't what
// it was told, so the connection isn't used.
var ErrHeaderUnexpected = errors.New("the backend doesn't expect the PROXY header")

// TLSOf returns what a backend is told of a TLS connection; nil for nil. A certificate that wasn't verified is as if there were
// none: the backend might log its owner in.
func TLSOf(state *tls.ConnectionState) *ClientTLS {
	if state == nil {
		return nil
	}
	t := &ClientTLS{
		Version: strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1), Cipher: tls.CipherSuiteName(state.CipherSuite),
		ServerName: state.ServerName,
	}
	if leaf := verified(state); leaf != nil {
		t.Certificate, t.CommonName = true, leaf.Subject.CommonName
	}
	return t
}

func verified(state *tls.ConnectionState) *x509.Certificate {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// header returns the PROXY protocol's header, version 2, for a connection on behalf of a client. The zero Client is none:
// the header is LOCAL, and the backend takes the proxy's own address.
func header(c Client) ([]byte, error) {
	if !c.Addr.IsValid() {
		return (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	}
	from, to := sameFamily(c.Addr, c.LocalAddr)
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to))
	tlvs, err := headerTLVs(c)
	if err != nil {
		return nil, err
	}
	if err := h.SetTLVs(tlvs); err != nil {
		return nil, err
	}
	return h.Format()
}

// TLSIn returns the client's TLS connection that a header describes; nil if it describes none.
func TLSIn(h *proxyproto.Header) (*ClientTLS, error) {
	tlvs, err := h.TLVs()
	if err != nil {
		return nil, err
	}
	var t *ClientTLS
	name := ""
	for _, v := range tlvs {
		switch v.Type {
		case proxyproto.PP2_TYPE_AUTHORITY:
			name = string(v.Value)
		case proxyproto.PP2_TYPE_SSL:
			s, err := tlvparse.SSL(v)
			if err != nil {
				return nil, err
			}
			if !s.ClientSSL() {
				return nil, nil
			}
			t = &ClientTLS{Certificate: s.Verified() && (s.ClientCertConn() || s.ClientCertSess())}
			t.Version, _ = s.SSLVersion()
			t.Cipher, _ = s.SSLCipher()
			if t.Certificate {
				t.CommonName, _ = s.ClientCN()
			}
		}
	}
	if t != nil {
		t.ServerName = name
	}
	return t, nil
}

// sameFamily returns two addresses for one header, which has room for one family: an IPv4 address beside an IPv6 one is mapped.
// An unknown address is the family's zero.
func sameFamily(from, to netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	from, to = plainAddr(from), plainAddr(to)
	if !to.IsValid() {
		to = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		if from.Addr().Is6() {
			to = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
	}
	if from.Addr().Is4() != to.Addr().Is4() {
		from = netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
		to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	}
	return from, to
}

// plainAddr is an address as it is written elsewhere, see appendIDAddr.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// Bounds of what clients choose in a header.
const (
	maxAuthority  = 255
	maxCommonName = 64  // X.520's bound
	maxUniqueID   = 128 // the protocol's
)

// headerTLVs describe the session, and the client's TLS connection if it has one.
func headerTLVs(c Client) ([]proxyproto.TLV, error) {
	var all []proxyproto.TLV
	if id := c.SessionID; id != "" && len(id) <= maxUniqueID {
		all = append(all, proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(id)})
	}
	if c.TLS == nil {
		return all, nil
	}
	if hostName(c.TLS.ServerName) {
		all = append(all, proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(c.TLS.ServerName)})
	}
	ssl := tlvparse.PP2SSL{Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1} // 0 says that a certificate was verified
	ssl.TLV = appendText(ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_VERSION, c.TLS.Version)
	ssl.TLV = appendText(ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_CIPHER, c.TLS.Cipher)
	if c.TLS.Certificate {
		ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		ssl.Verify = 0
		if len(c.TLS.CommonName) <= maxCommonName {
			ssl.TLV = appendText(ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_CN, c.TLS.CommonName)
		}
	}
	tlv, err := ssl.Marshal()
	if err != nil {
		return nil, err
	}
	return append(all, tlv), nil
}

// appendText appends a text without control characters; another one is left out. A backend that doesn't expect the header
// would read a line break as the end of a command, which the client has chosen.
func appendText(all []proxyproto.TLV, of proxyproto.PP2Type, text string) []proxyproto.TLV {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }) {
		return all
	}
	return append(all, proxyproto.TLV{Type: of, Value: []byte(text)})
}

// hostName says whether a name that a client requested has only characters of host names.
func hostName(name string) bool {
	return name != "" && len(name) <= maxAuthority && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}
