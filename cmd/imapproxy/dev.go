package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"imapproxy/internal/app"
	"imapproxy/internal/config"
	"imapproxy/internal/dev"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

type devCommand struct {
	Listen    string `default:"127.0.0.1:1143" placeholder:"ADDRESS" help:"IMAP, in the clear and with STARTTLS (${default})."`
	ListenTLS string `name:"listen-tls" default:"127.0.0.1:1993" placeholder:"ADDRESS" help:"IMAP over TLS (${default})."`
	Admin     string `default:"127.0.0.1:8143" placeholder:"ADDRESS" help:"The admin API, on loopback (${default})."`
	Backends  int    `default:"3" help:"How many backends to run (${default})."`
	Park      bool   `negatable:"" default:"true" help:"Park clients that idle for three seconds: look at sessions, and at status (${default})."`
	Clients   int    `default:"3" placeholder:"N" help:"Run so many clients that log in, idle and are parked, and show what that saves; 0: none (${default})."`
	NoClients bool   `help:"Run no clients, as --clients=0."`
	LogLevel  string `default:"warn" enum:"debug,info,warn,error" help:"The lowest level that is logged: debug, info, warn or error (${default})."`
}

// devBackend makes the backends' names. With three of them, the first three users go to one each.
const devBackend = "d%d"

// devLinger is short enough to watch, and devWarm, for connections that wait to be used
// again.
const (
	devLinger = 3 * time.Second
	devWarm   = 3 * time.Second
)

// maxBackends bounds the number of backends; more would not fit on a page. maxDevClients bounds the clients: each needs up to five descriptors in this process.
const (
	maxBackends   = 100
	maxDevClients = 150
)

// Run serves from backends in the process until SIGTERM or SIGINT.
func (c devCommand) Run(env environment) error {
	if c.Backends < 1 || c.Backends > maxBackends {
		fmt.Fprintf(env.stderr, "imapproxy: --backends takes 1 to %d\n", maxBackends)
		return failure{exitUsage}
	}
	if c.Clients < 0 || c.Clients > maxDevClients {
		fmt.Fprintf(env.stderr, "imapproxy: --clients takes 0 to %d\n", maxDevClients)
		return failure{exitUsage}
	}
	if !upstream.Local(c.Admin) {
		fmt.Fprintf(env.stderr, "imapproxy: --admin %s isn't on loopback, and dev's admin API can be read without a token\n", c.Admin)
		return failure{exitUsage}
	}
	certificate, err := selfSigned(c.Listen, c.ListenTLS)
	if err != nil {
		return err
	}
	// The fleet outlives the drain: sessions that end in good order need it.
	fleet, err := dev.Start(context.WithoutCancel(env.ctx), dev.Options{Backends: c.Backends})
	if err != nil {
		return err
	}
	token, err := newVerbToken()
	if err != nil {
		return errors.Join(err, fleet.Close())
	}
	defer token.remove()
	a, err := app.Open(env.ctx, app.Options{Config: c.config(fleet.Addresses()), Version: version(), Logs: env.stderr, Certificate: certificate, VerbToken: token.secret})
	if err != nil {
		return errors.Join(err, fleet.Close())
	}
	running := task.Start(a.Run)
	var clients *task.Task // nil without any
	select {
	case <-a.Ready():
		c.welcome(env.stdout, a, fleet.Addresses(), token)
		if c.Clients > 0 && !c.NoClients && c.Park {
			d := &devClients{w: env.stdout, a: a, fleet: fleet, devices: devicesOf(c.Clients)}
			clients = task.Start(d.run)
		}
		select {
		case <-env.ctx.Done():
		case <-running.Done():
		}
	case <-env.ctx.Done():
	case <-running.Done():
	}
	_ = clients.Stop()
	return errors.Join(end(a, running), fleet.Close())
}

// end ends a proxy that runs, and says what went wrong with it.
func end(a *app.App, running *task.Task) error {
	err := running.Stop()
	return errors.Join(err, a.Close())
}

// config returns the configuration of dev.
func (c devCommand) config(addresses []string) *config.Config {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	cfg := config.Default()
	cfg.Hostname = "localhost"
	cfg.Listeners = []config.Listener{
		{Name: "imap", Address: c.Listen, TLS: "starttls", MinVersion: "1.2", CleartextFrom: loopback},
		{Name: "imaps", Address: c.ListenTLS, TLS: "implicit", MinVersion: "1.2"},
	}
	static := &config.Static{Probe: config.Probe{Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 2}}
	for n, address := range addresses {
		static.Backends = append(static.Backends, config.StaticBackend{ID: fmt.Sprintf(devBackend, n+1), Address: address, Weight: 100})
	}
	cfg.Discovery.Static = static
	cfg.Routing.Storage = "shared"
	cfg.Admin.Address = c.Admin
	cfg.Telemetry.Log.Level = c.LogLevel
	cfg.Shutdown.Drain = time.Second
	cfg.Park.Enabled = c.Park
	cfg.Park.Linger, cfg.Park.QuietAfter, cfg.Park.WarmFor = devLinger, 4*devLinger, devWarm
	return cfg
}

// parks says how to see parking, "" if it is off.
func (c devCommand) parks() string {
	if !c.Park {
		return ""
	}
	return fmt.Sprintf("\nA client that is in IDLE for %v is parked: SELECT INBOX, IDLE, and look at sessions and status.\n", devLinger)
}

// welcome says what runs and what to type.
func (c devCommand) welcome(w io.Writer, a *app.App, backends []string, token *verbToken) {
	bound, admin := a.Addrs(), a.AdminAddr()
	users := dev.Users()
	fmt.Fprintf(w, `imapproxy %s: IMAP on %s (STARTTLS too), TLS on %s, admin page on http://%s
%s in this process: %s
Users %s; each one's password is the name. The certificate was made just now.

  curl -u alice:alice 'imap://%s/' -X 'STATUS INBOX (MESSAGES UNSEEN)'
  curl -k -u bob:bob 'imaps://%s/INBOX;MAILINDEX=1'
  openssl s_client -quiet -crlf -connect %s      then type: a LOGIN carol carol
  curl http://%s/v1/status
  imapproxy sessions --admin %s

What changes something needs a token, which ends with this process:

  imapproxy kick carol --dry-run --admin %s --token-file %s
  http://%s/#token=%s      the admin page with its commands
%s
Ctrl-C ends it, and nothing is kept.
`, version(), bound["imap"], bound["imaps"], admin,
		count(len(backends), "backend"), strings.Join(backends, ", "),
		list(users),
		bound["imap"], bound["imaps"], bound["imaps"], admin, admin, admin, token.file, admin, token.secret.Reveal(), c.parks())
}

// verbToken is the token of dev's admin API for what changes something, and the file from which the command line reads it.
type verbToken struct {
	secret telemetry.Secret
	file   string
}

// newVerbToken makes a token. Only this user may read its file.
func newVerbToken() (*verbToken, error) {
	f, err := os.CreateTemp("", "imapproxy-dev-*.token")
	if err != nil {
		return nil, err
	}
	t := &verbToken{telemetry.Secret(rand.Text()), f.Name()}
	_, err = fmt.Fprintln(f, t.secret.Reveal())
	if err = errors.Join(err, f.Close()); err != nil {
		t.remove()
		return nil, err
	}
	return t, nil
}

func (t *verbToken) remove() { _ = os.Remove(t.file) }

// selfSigned makes a certificate for this machine and the addresses' hosts, valid
// for a month. The key never leaves the process.
func selfSigned(addresses ...string) (*proxy.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "imapproxy dev"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsUnspecified() {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &proxy.Certificate{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}
