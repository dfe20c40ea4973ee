package discovery

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"

	"imapproxy/routing"
)

// A probe reads at most this much.
const (
	maxProbeLine  = 8 << 10 // bytes
	maxProbeLines = 16      // untagged lines before STARTTLS or CAPABILITY is answered
)

// listWithin bounds the answer to CAPABILITY of a backend whose greeting has no list.
const listWithin = time.Second

// probe connects as a session would and reads the greeting. nil: the backend would accept a session. It logs
// out, so that the backend's log has no errors. capabilities are those before login, "" if the backend doesn't tell them.
func (o *ProbeOptions) probe(ctx context.Context, b routing.Backend) (capabilities string, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	conn, err := o.Dial(ctx, "tcp", b.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends reads when ctx ends
	defer unhook()

	mode := b.TLS
	if mode == "" {
		mode = o.DefaultTLS
	}
	headed := cmp.Or(b.SendProxy, o.DefaultSendProxy) == "v2"
	if headed {
		// No client has asked for this connection. The header precedes TLS.
		h := proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
		if _, err := h.WriteTo(conn); err != nil {
			return "", err
		}
	}
	stream := conn
	if mode == "implicit" {
		if stream, err = o.handshake(ctx, conn, b); err != nil {
			return "", err
		}
	}
	lines := bufio.NewReaderSize(stream, maxProbeLine)
	if capabilities, err = greeting(lines); err != nil {
		return "", err
	}
	if mode == "starttls" {
		if err := startTLS(stream, lines); err != nil {
			if errors.Is(err, errRefused) && headed {
				err = fmt.Errorf("%w: %w", errHeader, err)
			}
			return "", err
		}
		if stream, err = o.handshake(ctx, conn, b); err != nil {
			return "", err
		}
		capabilities, lines = "", bufio.NewReaderSize(stream, maxProbeLine) // RFC 9051 §6.2.1: they don't hold under TLS
	}
	switch {
	case headed && mode == "none": // with TLS the handshake has shown it
		if _, err = stream.Write([]byte("p2 LOGOUT\r\n")); err != nil {
			return capabilities, nil
		}
		return capabilities, loggedOut(lines)
	case capabilities != "":
		_, _ = stream.Write([]byte("p2 LOGOUT\r\n")) // so that the backend logs no error; the answer isn't needed
		return capabilities, nil
	}
	if soon := time.Now().Add(listWithin); soon.Before(deadline) {
		_ = conn.SetDeadline(soon)
	}
	_, _ = stream.Write([]byte("p3 CAPABILITY\r\np2 LOGOUT\r\n"))
	return listed(lines), nil
}

// listed reads the answer to CAPABILITY, "" if there is none: that is no evidence against the backend.
func listed(r *bufio.Reader) (capabilities string) {
	for range maxProbeLines {
		line, err := readLine(r)
		switch word, rest, _ := strings.Cut(strings.TrimPrefix(line, "* "), " "); {
		case err != nil || !strings.HasPrefix(line, "* "):
			return capabilities
		case strings.EqualFold(word, "CAPABILITY"):
			capabilities = rest
		}
	}
	return capabilities
}

// errHeader is a backend's mistake, or that of send_proxy.
var errHeader = errors.New("it doesn't expect the PROXY header (send_proxy)")

var errRefused = errors.New("refused")

// refuses says whether an untagged line is an answer to something that the server didn't understand.
func refuses(line string) bool {
	_, rest, _ := strings.Cut(strings.ToUpper(line), " ")
	return strings.HasPrefix(rest, "BAD ") || strings.HasPrefix(rest, "NO ")
}

// loggedOut reads the answer to LOGOUT. A backend that doesn't expect the PROXY header takes its lines for commands, and says
// BAD or NO before that.
func loggedOut(r *bufio.Reader) error {
	for range maxProbeLines {
		line, err := readLine(r)
		if err != nil {
			return fmt.Errorf("after the PROXY header: %w", err)
		}
		switch tag, _, _ := strings.Cut(line, " "); {
		case tag == "p2":
			return nil
		case tag != "*" || refuses(line):
			return fmt.Errorf("%w: %q", errHeader, clip(line, 80))
		}
	}
	return errors.New("no answer to LOGOUT among many lines")
}

// handshake starts TLS as a session would.
func (o *ProbeOptions) handshake(ctx context.Context, conn net.Conn, b routing.Backend) (net.Conn, error) {
	cfg := &tls.Config{}
	if o.TLSConfig != nil {
		cfg = o.TLSConfig.Clone()
	}
	switch {
	case b.ServerName != "":
		cfg.ServerName = b.ServerName
	case o.ServerName != "":
		cfg.ServerName = o.ServerName
	case cfg.ServerName == "":
		host, _, err := net.SplitHostPort(b.Address)
		if err != nil {
			return nil, err
		}
		cfg.ServerName = host
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// greeting reads the greeting, and the capabilities that it may contain. RFC 9051 §7.1: OK and PREAUTH accept, BYE refuses.
func greeting(r *bufio.Reader) (capabilities string, err error) {
	line, err := readLine(r)
	if err != nil {
		return "", fmt.Errorf("no greeting: %w", err)
	}
	word, text, _ := strings.Cut(strings.TrimPrefix(line, "* "), " ")
	switch {
	case !strings.HasPrefix(line, "* "):
		return "", fmt.Errorf("not an IMAP greeting: %q", clip(line, 80))
	case strings.EqualFold(word, "OK"), strings.EqualFold(word, "PREAUTH"):
		const code = "[CAPABILITY "
		if len(text) > len(code) && strings.EqualFold(text[:len(code)], code) {
			capabilities, _, _ = strings.Cut(text[len(code):], "]")
		}
		return capabilities, nil
	case strings.EqualFold(word, "BYE"):
		return "", &ByeError{Line: clip(line, 160)}
	}
	return "", fmt.Errorf("greeting: %q", clip(line, 80))
}

// ByeError is a probe's failure if the backend greets with BYE.
type ByeError struct{ Line string }

func (e *ByeError) Error() string { return fmt.Sprintf("greeting: %q", clip(e.Line, 80)) }

// Discreet returns Error's text without what the backend said.
func (e *ByeError) Discreet() string { return "greeting: BYE" }

// Bye returns the line.
func (e *ByeError) Bye() string { return e.Line }

// startTLS sends STARTTLS. RFC 9051 §6.2.1: bytes after the OK that arrive in the clear may not come from the
// server, so they are an error.
func startTLS(conn net.Conn, r *bufio.Reader) error {
	if _, err := conn.Write([]byte("p1 STARTTLS\r\n")); err != nil {
		return err
	}
	for range maxProbeLines {
		line, err := readLine(r)
		if err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
		tag, rest, _ := strings.Cut(line, " ")
		switch {
		case tag == "*" && refuses(line):
			return fmt.Errorf("starttls: %w: %q", errRefused, clip(line, 80))
		case tag == "*":
			continue
		case tag != "p1" || !strings.HasPrefix(strings.ToUpper(rest), "OK"):
			return fmt.Errorf("starttls: %q", clip(line, 80))
		case r.Buffered() > 0:
			return errors.New("starttls: data in clear behind the OK")
		}
		return nil
	}
	return errors.New("starttls: no answer among many lines")
}

// readLine reads one line, bounded by the reader's buffer.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// ProbeOptions says how a backend is probed: a connection, TLS as configured,
// the IMAP greeting, LOGOUT.
type ProbeOptions struct {
	Interval time.Duration // between probes of one backend; 0 = 5 s, negative = no probes, all are up
	Timeout  time.Duration // of a whole probe; 0 = 3 s
	Rise     int           // successes in a row that make it up; 0 = 2
	Fall     int           // failures in a row that make it down; 0 = 3
	// DefaultTLS is for backends whose TLS is "": none, starttls or implicit; "" = none.
	DefaultTLS string
	// ServerName is for backends whose ServerName is ""; "" = the host of the address.
	ServerName string
	// DefaultSendProxy is for backends whose SendProxy is "": none or v2; "" = none.
	DefaultSendProxy string
	// TLSConfig is what TLS is verified by; nil = the system's authorities.
	TLSConfig *tls.Config
	// Excuse says that a failure is no evidence against the backend, as where the proxy
	// itself is short of descriptors: it is as if there had been no probe. It is called
	// for each failure; nil = none is excused.
	Excuse func(backend string, err error) bool
	// Answered is called for each probe that succeeds, with the capabilities before login, "" if the backend doesn't tell them; nil = for none.
	Answered func(backend, capabilities string)
	// Dial makes the connection; nil = a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o ProbeOptions) withDefaults() ProbeOptions {
	if o.Interval == 0 {
		o.Interval = 5 * time.Second
	}
	o.Timeout = orDefault(o.Timeout, 3*time.Second)
	if o.Rise <= 0 {
		o.Rise = 2
	}
	if o.Fall <= 0 {
		o.Fall = 3
	}
	if o.DefaultTLS == "" {
		o.DefaultTLS = "none"
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}
