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

// LostAfter is how long a backend's host may be silent although the kernel asks it for an answer, and there is reason to expect one: a command
// waits, or discovery says that the backend is down. It is silent that long only if it is down, or the network between is.
const LostAfter = 15 * time.Second

// probing of backend connections: three probes are sent within LostAfter. Without any other evidence an idle connection fails three times as late:
// a network that is gone for a moment costs none.
var probing = conn.Probing{Idle: 7 * time.Second, Interval: time.Second, Within: 3 * LostAfter}

// Kinds of connections in the gauge imapproxy.backend.connections.
const (
	kindSession = "session"
	kindProbe   = "probe"
)

// Dialer makes connections to backends and logs in. It is safe for concurrent use and has no goroutines that
// would have to be stopped.
type Dialer struct {
	opt      Options
	tel      *telemetry.Telemetry
	tls      *tlsConfigs
	intended *MasterFindings
}

// Open returns how many logged-in connections of all kinds are open. Each has a file descriptor.
func (d *Dialer) Open() int { return d.opt.Room.held() }

// New returns a Dialer. It fails if the CAFile can't be read or contains no certificate.
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

// Room returns the Room that counts the Dialer's connections.
func (d *Dialer) Room() *Room { return d.opt.Room }

// Probe connects as far as an unauthenticated client can (TCP, TLS, greeting, capabilities) and logs out. It
// returns the capabilities before login. Its errors are *Unavailable.
func (d *Dialer) Probe(ctx context.Context, t Target) (caps []string, err error) {
	err = d.connected(ctx, t, Client{}, func(ctx context.Context, l *loginClient) error {
		if err := l.open(ctx); err != nil {
			return err
		}
		if err := l.askCaps(); err != nil {
			return atStage(StageCapability, err)
		}
		caps = l.caps
		if l.headed { // a backend that doesn't expect the header may greet all the same
			if _, err := l.command("NOOP\r\n"); err != nil {
				return atStage(StageGreeting, err)
			}
		}
		l.logout()
		_ = l.conn.Close()
		return nil
	})
	if err == nil {
		d.opt.Room.Answered(t.ID)
	}
	return caps, err
}

// Local says whether an address is on this machine, so that no other machine can listen in. Names other than
// localhost aren't looked up, since their meaning may change.
func Local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// login is Login without the check for the intended user.
func (d *Dialer) login(ctx context.Context, t Target, a Auth, c Client, kind string) (out *Conn, err error) {
	if err := usable(t, a); err != nil {
		return nil, err
	}
	var start time.Time // when the connection was established
	claim, err := d.claim(ctx, t, a, c.Use, kind)
	if err != nil {
		return nil, err
	}
	c.claim = claim
	left := d.opt.Room.enter(t.ID)
	defer func() {
		left(err == nil)
		if err != nil && claim != nil && start.IsZero() { // otherwise connected waits for its end
			claim.Release()
		}
	}()
	if err := d.descriptor(ctx, t); err != nil {
		return nil, err
	}
	err = d.connected(ctx, t, c, func(ctx context.Context, l *loginClient) error {
		start = d.opt.Now()
		_, _, password := a.identity()
		l.secrets = []telemetry.Secret{password}
		var err error
		out, err = l.logIn(ctx, d.opt.Hostname, a)
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
	out.room, out.claim = d.opt.Room, claim
	if claim != nil && d.opt.Overdue != nil {
		out.Guard(d.opt.Overdue)
	}
	out.count(d.tel, kind)
	return out, nil
}

// claim requests the right to a connection. nil without an error: this proxy decides alone.
func (d *Dialer) claim(ctx context.Context, t Target, a Auth, use Use, kind string) (Claim, error) {
	if d.opt.Claims == nil || kind != kindSession {
		return nil, nil
	}
	return d.opt.Claims.Claim(ctx, a.User, t.ID, use)
}

// errReserved means that a connection wasn't made because other uses need the remaining descriptors.
var errReserved = fmt.Errorf("the last descriptors are kept for files and the admin address: %w", syscall.EMFILE)

// descriptor refuses a connection if only reserved descriptors are left. It closes a warm connection if there
// is one.
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

// usable refuses credentials that can't be sent. An empty password isn't allowed in SASL PLAIN (RFC 4616 §2),
// and an LDAP server behind the backend may treat it as an anonymous bind; NUL separates the parts of PLAIN,
// and Dovecot cuts a literal there.
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

// connected dials and calls use, which logs in or does the other work of the connection. It turns every error
// into *Refused or *Unavailable, and has then closed the connection. If use returns no error, it has kept or
// closed the connection.
//
// Only connected bounds a login's time. At the end of that time, the waiting read or write returns.
func (d *Dialer) connected(ctx context.Context, t Target, c Client, use func(context.Context, *loginClient) error) error {
	raw, err := d.dial(ctx, t, c)
	if err != nil {
		return failure(ctx, t, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.opt.LoginTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, d.opt.LoginTimeout))
	defer cancel()
	stop := raw.Until(ctx)
	p := d.opt.Room.watch(t.ID, d.opt.SlowAfter)
	l := newLoginClient(raw, loginOptions{target: t, client: c, tls: d.tls, now: d.opt.Now, patience: p})
	err = use(ctx, l)
	if l.unexpected {
		err = atStage(StageGreeting, ErrHeaderUnexpected) // whatever came of it
	}
	p.end(err == nil)
	if stop() && err == nil {
		err = afterLogin(StageLogin, context.Cause(ctx)) // the login was completed at the same moment
	}
	if err != nil {
		if c.claim != nil {
			awaitEnd(raw, c.claim)
		}
		_ = raw.Abort()
		err = failure(ctx, t, err)
	}
	return err
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
	switch t.SendProxy {
	case "", ProxyNone, ProxyV2:
	default:
		return nil, atStage(StageSettings, fmt.Errorf("send_proxy = %q is neither none nor v2", t.SendProxy))
	}
	limited, cancel := context.WithTimeoutCause(ctx, d.opt.ConnectTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, d.opt.ConnectTimeout))
	defer cancel()
	start := d.opt.Now()
	raw, err := d.connect(limited, t.Address)
	if of := ShortageOf(err); of != "" {
		d.tel.Shortage(of, telemetry.ShortageAtDial, err)
		if d.opt.Room.spare(t.ID) { // its descriptor and its port are free now
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

// connect makes a Conn from a dialled connection.
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
	if err := c.NoticeLoss(probing); err != nil {
		_ = c.Abort()
		return nil, err
	}
	return c, nil
}

// hiddenShortage returns the shortage that made a name's resolution fail, if there is one: a resolver that
// can't open its files reports that the host doesn't exist.
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
