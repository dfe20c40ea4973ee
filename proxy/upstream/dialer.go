package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/telemetry"
)

// Keepalive of backend connections: a host that vanished without a word is
// noticed after keepIdle + keepCount × keepInterval (3 minutes).
const (
	keepIdle     = 60 * time.Second
	keepInterval = 20 * time.Second
	keepCount    = 6
)

// Kinds of connections in the gauge imapproxy.backend.connections.
const (
	kindSession = "session"
	kindProbe   = "probe"
)

// Dialer makes connections to backends and logs in. It is safe for concurrent
// use and starts nothing that would have to be stopped.
type Dialer struct {
	opt      Options
	tel      *telemetry.Telemetry
	tls      *tlsConfigs
	intended *MasterFindings
}

// Open is how many logged-in connections are open, whatever they are for. Each has a
// file descriptor.
func (d *Dialer) Open() int { return d.opt.Room.held() }

// New makes a Dialer. It fails when the CAFile can't be read or holds no
// certificate.
func New(opt Options) (*Dialer, error) {
	opt.ConnectTimeout = cmp.Or(opt.ConnectTimeout, DefaultConnectTimeout)
	opt.LoginTimeout = cmp.Or(opt.LoginTimeout, DefaultLoginTimeout)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Dialer == nil {
		sources, err := NewSources(opt.SourceAddresses)
		if err != nil {
			return nil, fmt.Errorf("source addresses: %w", err)
		}
		opt.Dialer = sources.DialContext
	}
	if opt.Telemetry == nil {
		opt.Telemetry = telemetry.Discard()
	}
	if opt.Room == nil {
		opt.Room = NewRoom(RoomOptions{})
	}
	if opt.MasterFindings == nil {
		opt.MasterFindings = NewMasterFindings()
	}
	opt.SlowAfter = cmp.Or(opt.SlowAfter, DefaultSlowAfter)
	configs, err := newTLSConfigs(opt.TLS, opt.CAFile)
	if err != nil {
		return nil, err
	}
	return &Dialer{opt: opt, tel: opt.Telemetry, tls: configs, intended: opt.MasterFindings}, nil
}

// Room is what counts the Dialer's connections.
func (d *Dialer) Room() *Room { return d.opt.Room }

// Login connects to the backend and logs the user in. Its errors are *Refused
// and *Unavailable, nothing else. The Conn is the caller's.
//
// When ctx ends the socket is closed; ctx has no hold on the Conn once it was
// returned.
//
// In mode master the first login at a backend with these master credentials
// also finds out whether the backend logs in the user that was asked for
// (verify.go), which takes up to LoginTimeout once more; others wait for it.
func (d *Dialer) Login(ctx context.Context, t Target, a Auth, c Client) (*Conn, error) {
	if a.Mode != ModeMaster {
		return d.login(ctx, t, a, c, kindSession)
	}
	if err := d.mayMaster(t); err != nil {
		return nil, err
	}
	// Not even a connection for a backend that is known to mix users up.
	if err := d.intended.refusal(d.opt.Now(), t, a); err != nil {
		return nil, err
	}
	out, err := d.login(ctx, t, a, c, kindSession)
	if err != nil {
		if away(err) {
			d.intended.forget(t) // it may come back as another
		}
		return nil, err
	}
	start := d.opt.Now()
	checked, err := d.ensureIntended(ctx, t, a, out)
	if checked && c.Observe != nil {
		c.Observe(PhaseVerify, start, d.opt.Now(), err)
	}
	if err != nil {
		_ = out.Abort() // its error says nothing that err doesn't
		return nil, err
	}
	return out, nil
}

// Probe connects as far as an unauthenticated client can get (TCP, TLS,
// greeting, capabilities) and leaves again. It gives the capabilities before
// login. Its errors are *Unavailable.
func (d *Dialer) Probe(ctx context.Context, t Target) (caps []string, err error) {
	err = d.connected(ctx, t, Client{}, func(ctx context.Context, s *dialogue) error {
		if err := d.open(ctx, s, t, Client{}); err != nil {
			return err
		}
		if err := s.askCaps(); err != nil {
			return atStage(StageCapability, err)
		}
		caps = s.caps
		s.command("LOGOUT\r\n")
		_ = s.flush() // a courtesy; what is answered is of no concern
		_ = s.c.Close()
		return nil
	})
	if err == nil {
		d.opt.Room.Answered(t.ID)
	}
	return caps, err
}

// Local says whether an address is on this machine, where nobody on the way can listen in. Names
// but localhost aren't looked up: what they mean may change.
func Local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// mayMaster refuses to send a master's password in the clear to another machine.
func (d *Dialer) mayMaster(t Target) error {
	if d.opt.CleartextMaster || t.TLS != TLSNone && t.TLS != "" || Local(t.Address) {
		return nil
	}
	return &Unavailable{Backend: t.shown(), Stage: StageSettings, Err: ErrCleartext}
}

// away tells whether err is that of a backend that couldn't be reached at all.
func away(err error) bool {
	var down *Unavailable
	return errors.As(err, &down) && down.Stage == StageDial && down.BackendDown()
}

// login is Login without the check for the intended user.
func (d *Dialer) login(ctx context.Context, t Target, a Auth, c Client, kind string) (out *Conn, err error) {
	if err := usable(t, a); err != nil {
		return nil, err
	}
	left := d.opt.Room.enter(t.ID)
	defer func() { left(err == nil) }()
	if err := d.descriptor(ctx, t); err != nil {
		return nil, err
	}
	var start time.Time // when the connection stood
	err = d.connected(ctx, t, c, func(ctx context.Context, s *dialogue) error {
		start = d.opt.Now()
		_, _, password := a.identity()
		s.secrets = []telemetry.Secret{password}
		var err error
		out, err = d.talk(ctx, s, t, a, c)
		return err
	})
	if !start.IsZero() {
		end := d.opt.Now()
		if c.Observe != nil {
			c.Observe(PhaseLogin, start, end, err)
		}
		d.tel.BackendLogin(t.shown(), outcome(err), end.Sub(start))
	}
	if err != nil {
		return nil, err
	}
	out.LoggedIn, out.LoggedInFor = d.opt.Now(), c.Addr.Addr()
	out.room = d.opt.Room
	out.count(d.tel, kind)
	return out, nil
}

// errReserved is a connection that isn't made, for which others would lack a descriptor.
var errReserved = fmt.Errorf("the last descriptors are kept for files and the admin address: %w", syscall.EMFILE)

// descriptor refuses a connection for which there is no descriptor but those that are kept
// for others. One that waits in the pool makes way.
func (d *Dialer) descriptor(ctx context.Context, t Target) error {
	if !d.opt.Room.isCrowded() {
		return nil
	}
	d.tel.Shortage(ShortageOf(errReserved), telemetry.ShortageAtDial, errReserved)
	if d.opt.Room.spare(t.ID) {
		return nil
	}
	return failure(ctx, t, atStage(StageDial, errReserved))
}

// usable refuses what can't be sent. An empty password is refused since it is
// none in SASL PLAIN (RFC 4616 §2), and an LDAP behind the backend may take it
// for an anonymous bind; NUL since PLAIN separates its parts by it, and Dovecot
// cuts a literal there.
func usable(t Target, a Auth) error {
	authzid, authcid, password := a.identity()
	why := ""
	switch {
	case strings.ContainsRune(authzid+authcid+password.Reveal(), 0):
		why = "NUL in the credentials"
	case authcid == "" || a.User == "":
		why = "empty user name"
	case password == "":
		why = "empty password"
	default:
		return nil
	}
	if a.Mode == ModeMaster {
		return &Unavailable{Backend: t.shown(), Stage: StageSettings, Err: errors.New(why)}
	}
	return &Refused{Backend: t.shown(), Text: why}
}

// connected dials, has talk speak, and turns every error into *Refused or
// *Unavailable, having closed the connection. Where talk gives no error it has
// dealt with the connection.
//
// This is the only place where time runs out: the socket is closed, and
// whatever read or write was waiting on it returns. No deadline is set on it,
// so none is left behind for the relay.
func (d *Dialer) connected(ctx context.Context, t Target, c Client, talk func(context.Context, *dialogue) error) error {
	raw, err := d.dial(ctx, t, c)
	if err != nil {
		return failure(ctx, t, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.opt.LoginTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, d.opt.LoginTimeout))
	defer cancel()
	release := guard(ctx, raw)
	s := newDialogue(raw)
	s.patience = d.opt.Room.watch(t.ID, d.opt.SlowAfter)
	err = talk(ctx, s)
	s.patience.end(err == nil)
	if !release() && err == nil {
		err = afterLogin(StageLogin, context.Cause(ctx)) // closed under the hands of a login that was just done
	}
	if err != nil {
		_ = raw.Abort()
		err = failure(ctx, t, err)
	}
	return err
}

// guard closes c when ctx ends. release, to be called once, ends that and says
// whether c was left open; after it no goroutine of guard's is running.
func guard(ctx context.Context, c *conn.Conn) (release func() bool) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.Abort()
		close(done)
	})
	return func() bool {
		if stop() {
			return true
		}
		<-done
		return false
	}
}

// dial opens the TCP connection.
func (d *Dialer) dial(ctx context.Context, t Target, c Client) (*conn.Conn, error) {
	if _, _, err := net.SplitHostPort(t.Address); err != nil {
		return nil, atStage(StageSettings, err)
	}
	switch t.TLS {
	case "", TLSNone, TLSStartTLS, TLSImplicit:
	default:
		return nil, atStage(StageSettings, fmt.Errorf("tls = %q is none of none, starttls and implicit", t.TLS))
	}
	limited, cancel := context.WithTimeoutCause(ctx, d.opt.ConnectTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, d.opt.ConnectTimeout))
	defer cancel()
	start := d.opt.Now()
	raw, err := d.connect(limited, t.Address)
	if of := ShortageOf(err); of != "" {
		d.tel.Shortage(of, telemetry.ShortageAtDial, err)
		if d.opt.Room.spare(t.ID) { // its descriptor and its port are free
			raw, err = d.connect(limited, t.Address)
		}
	}
	if err != nil {
		if cause := context.Cause(limited); cause != nil {
			err = cause
		}
		err = atStage(StageDial, err)
	}
	end := d.opt.Now()
	if c.Observe != nil {
		c.Observe(PhaseDial, start, end, err)
	}
	d.tel.BackendDial(t.shown(), outcome(err), end.Sub(start))
	return raw, err
}

// connect makes a Conn of a dialled connection.
func (d *Dialer) connect(ctx context.Context, address string) (*conn.Conn, error) {
	nc, err := d.opt.Dialer(ctx, "tcp", address)
	if err != nil {
		return nil, hiddenShortage(err)
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, fmt.Errorf("the dialer gave a %T, not a TCP connection", nc)
	}
	c, err := conn.New(tcp)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	if err := c.KeepAlive(keepIdle, keepInterval, keepCount); err != nil {
		_ = c.Abort()
		return nil, err
	}
	return c, nil
}

// hiddenShortage gives the shortage that made a name's resolution fail, if one did: a
// resolver that can't open its files says that there is no such host.
func hiddenShortage(err error) error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err
	}
	f, open := os.Open(os.DevNull)
	if open == nil {
		_ = f.Close()
		return err
	}
	if IsShortage(open) {
		return open
	}
	return err
}
