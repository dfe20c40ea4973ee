package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

type checkCommand struct {
	Config       string        `required:"" placeholder:"FILE" help:"The configuration to check."`
	User         string        `placeholder:"NAME" help:"A user to log in as on each backend. With backend_login mode \"user\" check tries no login without it."`
	PasswordFile string        `placeholder:"FILE" help:"File with that user's password, - for standard input."`
	FileOnly     bool          `aliases:"offline" help:"Only read the file and the passwd-files that it names, as serve and a reload would; make no connection. Also called --offline."`
	Summary      bool          `help:"One line for each kind of fault and advice, with what it concerns."`
	Timeout      time.Duration `default:"30s" help:"How long one probe may take (${default})."`
}

// Run validates the configuration, then probes what it names, and says for each
// fault what to do about it.
func (c checkCommand) Run(env environment) error {
	cfg, warnings, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	r := &report{w: env.stdout, summary: c.Summary}
	r.ok("configuration", "%s: %s, discovery %s, storage %s", c.Config, count(len(cfg.Listeners), "listener"), discoveryKind(cfg), cfg.Routing.Storage)
	for _, w := range warnings {
		r.warn("configuration", w.Instead, "%s: %s", w.At(), w.What)
	}
	password, err := c.password(env.stdin)
	if err != nil {
		return err
	}
	k := &checker{cfg: cfg, user: c.User, password: password, timeout: c.Timeout, fileOnly: c.FileOnly, report: r}
	if k.login, err = usable(cfg); err != nil {
		return wiring.Located(c.Config, err)
	}
	if c.FileOnly {
		k.users(env.ctx)
		k.policy(env.ctx)
		return r.verdict()
	}
	k.certificates()
	if k.dialer, err = upstream.New(wiring.Upstream(cfg, nil)); err != nil {
		return err
	}
	k.users(env.ctx)
	k.policy(env.ctx)
	k.fleet(env.ctx)
	k.proxies(env.ctx)
	if env.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return r.verdict()
}

// usable tries the steps at which serve can fail, except the passwd-files and listening. It returns the login
// at backends.
func usable(c *config.Config) (upstream.Auth, error) {
	if err := wiring.CheckSourceAddresses(c); err != nil {
		return upstream.Auth{}, err
	}
	if c.Admin.Address != "" && c.Admin.TokenFile != "" {
		if _, err := wiring.Secret(c.Admin.TokenFile); err != nil {
			return upstream.Auth{}, wiring.About("admin.token_file", err)
		}
	}
	if c.Admin.Address != "" && c.Admin.ReadTokenFile != "" {
		if _, err := wiring.Secret(c.Admin.ReadTokenFile); err != nil {
			return upstream.Auth{}, wiring.About("admin.read_token_file", err)
		}
	}
	if _, err := wiring.Telemetry(c, nil, nil); err != nil {
		return upstream.Auth{}, err
	}
	login, err := wiring.Login(c)
	return login, wiring.About("backend_login.password_file", err)
}

// password reads the password of --user.
func (c checkCommand) password(stdin io.Reader) (telemetry.Secret, error) {
	switch c.PasswordFile {
	case "":
		return "", nil
	case "-":
		text, err := io.ReadAll(io.LimitReader(stdin, 4096))
		return telemetry.Secret(strings.TrimRight(string(text), "\r\n")), err
	default:
		return wiring.Secret(c.PasswordFile)
	}
}

func discoveryKind(c *config.Config) string {
	if c.Discovery.Consul != nil {
		return "consul"
	}
	return "static"
}

// certificates checks names and dates, which config doesn't check.
func (k *checker) certificates() {
	for _, l := range k.cfg.Listeners {
		what, fits := "listener "+l.Name, false
		for _, c := range l.Certificates {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				k.report.fail(what, "", "%v", err)
				continue
			}
			leaf := pair.Leaf
			fits = fits || leaf.VerifyHostname(k.cfg.Hostname) == nil
			until := leaf.NotAfter.Format("2006-01-02")
			switch left := time.Until(leaf.NotAfter); {
			case left < 0:
				k.report.fail(what, "renew it; a running proxy takes the new files by itself", "%s has expired on %s: mail clients refuse it", c.CertFile, until)
			case time.Until(leaf.NotBefore) > 0:
				k.report.fail(what, "set the clock, or wait", "%s isn't valid before %s", c.CertFile, leaf.NotBefore.Format(time.RFC3339))
			case left < soon:
				k.report.warn(what, "renew it; a running proxy takes the new files by itself", "%s expires on %s", c.CertFile, until)
			default:
				k.report.ok(what, "certificate for %s, valid until %s", certificateNames(leaf), until)
			}
		}
		k.clientCertificates(what, l)
		switch {
		case l.TLS == "none":
			k.report.ok(what, "%s without TLS", l.Address)
		case !fits:
			k.report.warn(what, "use a certificate with that name, or correct hostname", "no certificate is valid for hostname %q", k.cfg.Hostname)
		}
	}
}

func certificateNames(leaf *x509.Certificate) string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}

// users opens the credential sources and asks them about the user.
func (k *checker) users(ctx context.Context) {
	sources, err := wiring.Sources(k.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		k.user = "" // no source can say who that is
		var s *wiring.SettingError
		if errors.As(err, &s) && !(strings.HasPrefix(s.Setting, "auth.passwd_file.") && strings.HasSuffix(s.Setting, ".path")) {
			k.report.fail("auth", "correct "+s.Setting, "%v", s.Err)
			return
		} else if s != nil {
			err = s.Err // each mistake in the file is reported on a line of its own
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			k.report.fail("users", "correct the line; with one bad line the file isn't used", "%s", line)
		}
		return
	}
	defer wiring.CloseSources(sources)
	for _, s := range sources {
		if file, ok := s.(*auth.PasswdFile); ok {
			k.report.ok("users", "%s: %s", file.Name(), count(file.Users(), "user"))
			if without := file.WithoutKeys(); without > 0 {
				k.report.warn("users", "write keys for them, or have no scram here: clients that prefer SCRAM can't log them in",
					"%s: %s without keys for SCRAM, which is offered", file.Name(), count(without, "user"))
			}
			k.placements(file.Placements())
		}
		k.source(ctx, s)
	}
	k.sharers(sources)
	if k.user == "" {
		return
	}
	if k.canonical, err = wiring.Names(k.cfg).Normalize(k.user); err != nil {
		k.report.fail("user", "name another user with --user", "%v", err)
		k.user = ""
		return
	}
	if k.fileOnly && slices.ContainsFunc(sources, func(s auth.Source) bool { _, asks := s.(auth.Trier); return asks }) {
		return
	}
	k.userByCertificate(ctx, sources)
	if k.password == "" {
		return
	}
	credentials, err := auth.NewCredentials(wiring.Names(k.cfg), auth.MechanismPlain, "", k.user, k.password)
	credentials.TLS, credentials.Attempt = true, 1
	if err != nil {
		k.report.fail("user", "correct the password file", "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	verdict, source := auth.First(ctx, sources, credentials)
	switch v := verdict.(type) {
	case auth.Accepted:
		k.placement = v.Placement
		if v.User != "" {
			k.user, k.canonical = v.User, v.User
		}
		if v.Password != "" { // with which the proxy logs in at the backend
			k.login, k.password = upstream.Auth{Mode: upstream.ModeUser}, v.Password
		}
		k.report.ok("user", "%s accepts %s%s", source, k.canonical, map[bool]string{true: ", placed on " + v.Placement}[v.Placement != ""])
	case auth.AskBackend:
		k.report.ok("user", "%s: the backend decides about %s", source, k.canonical)
	case auth.Rejected:
		k.report.fail("user", mendUser(v.Reason), "%s refuses %s: %s", source, k.canonical, v.Reason)
	case auth.Unavailable:
		k.report.fail("user", "", "%s can't check %s: %v", source, k.canonical, v.Err)
	}
}

// mendUser says what to do about a user whom the sources refuse.
func mendUser(why auth.Reason) string {
	switch why {
	case auth.ReasonUnknownUser:
		return "name a user that is there with --user, or correct by what the source finds users: filter, query, path"
	case auth.ReasonAccountDisabled:
		return "unlock the user's entry, or correct what has to hold for it: allow, group_filter, the column allowed, allow_nets"
	}
	return "correct the password, or the user's entry"
}

// source tries a source that can be tried without a user.
func (k *checker) source(ctx context.Context, s auth.Source) {
	t, ok := s.(auth.Trier)
	if !ok || k.fileOnly {
		return
	}
	said, err := t.Try(ctx)
	if k.tried("auth "+s.Name(), said, err); err == nil {
		k.sourceByCertificate(ctx, s)
	}
}

// fleet learns the backends and probes each.
func (k *checker) fleet(ctx context.Context) {
	backends, ok := k.discover(ctx)
	if !ok {
		return
	}
	for _, domain := range k.cfg.Domains {
		if !slices.ContainsFunc(backends, func(b routing.Backend) bool { return b.Means(domain.Placement) }) {
			k.report.warn("domain", "correct the placement, or register that backend", "%s is placed on %q, which isn't among the backends", domain.Name, domain.Placement)
		}
	}
	if k.cfg.Routing.Storage == routing.Separate.String() && k.canonical != "" {
		k.place(ctx, backends)
	}
	k.sharersInConsul(ctx)
	if k.login.Mode == upstream.ModeUser && (k.user == "" || k.password == "") {
		k.report.skip("login", "name a user with --user and --password-file to try it", "no login was tried: backend_login has mode \"user\"")
	}
	// Backends are probed at the same time, since a timeout is long; the reports are printed one after the
	// other.
	parts, able := make([]*report, len(backends)), make([]admin.Backend, len(backends))
	var g errgroup.Group
	g.SetLimit(8)
	for n, b := range backends {
		parts[n] = &report{}
		g.Go(func() error {
			if caps := k.backend(ctx, parts[n], b); caps != nil {
				able[n] = admin.Backend{ID: b.Shown(), Capabilities: caps, CapabilitiesFrom: admin.FromLogin}
			}
			return nil
		})
	}
	_ = g.Wait()
	for _, part := range parts {
		k.report.add(part)
	}
	checkCapabilities(k.report, able)
}

// checkCapabilities warns of each capability that some backends have after a login and others lack.
func checkCapabilities(r *report, backends []admin.Backend) {
	for _, d := range admin.Differences(backends) {
		r.warn("capabilities", "make them the same: clients are told before login only what all have, and a session doesn't move to a backend that lacks what it relies on (docs/routing.md, Capabilities)",
			"%s: %s has it, %s lacks it", d.Capability, strings.Join(d.Have, ", "), strings.Join(d.Lack, ", "))
	}
}

// discover asks Consul, or reads the static list.
func (k *checker) discover(ctx context.Context) ([]routing.Backend, bool) {
	if k.cfg.Discovery.Static != nil {
		return wiring.Backends(k.cfg.Discovery.Static), true
	}
	where := k.cfg.Discovery.Consul.Address
	if where == "" {
		where = "CONSUL_HTTP_ADDR, else 127.0.0.1:8500"
	}
	k.saved()
	snapshot, err := k.ask(ctx)
	if err != nil {
		k.report.fail("consul", consulFix(err), "%s: %v", where, err)
		return nil, false
	}
	service := k.cfg.Discovery.Consul.Service
	if len(snapshot.Backends) == 0 {
		k.report.fail("consul", "register the backends, or correct service, tags, datacenter or namespace; a token without service:read and node:read sees nothing either",
			"%s: service %q has no instance%s", where, service, map[bool]string{true: fmt.Sprintf(" with the tags %v", k.cfg.Discovery.Consul.Tags)}[len(k.cfg.Discovery.Consul.Tags) > 0])
		return nil, false
	}
	up := 0
	for _, b := range snapshot.Backends {
		if b.State == routing.Up {
			up++
		}
	}
	k.report.ok("consul", "%s: service %q has %s, %d up", where, service, count(len(snapshot.Backends), "instance"), up)
	return snapshot.Backends, true
}

// saved checks the file with the last good set of backends.
func (k *checker) saved() {
	o := wiring.Consul(k.cfg.Discovery.Consul)
	if o.CacheFile == "" {
		return
	}
	s, err := discovery.ReadSaved(o.CacheFile, o.SavedOf())
	switch {
	case err == nil:
		k.report.ok("cache_file", "%s: %s, saved %s ago", o.CacheFile, count(len(s.Backends), "backend"), ago(time.Since(s.Saved)))
	case errors.Is(err, fs.ErrNotExist):
		k.report.ok("cache_file", "%s isn't there yet; serve writes it at Consul's first answer", o.CacheFile)
	default:
		k.report.warn("cache_file", "fix that, or remove the file: a start without Consul would have no backends", "%v", err)
	}
}

// ask waits for Consul's first answer. A source never gives up, so errors are read from its log.
func (k *checker) ask(ctx context.Context) (routing.Snapshot, error) {
	logs := &lastError{}
	tel, err := telemetry.Start(ctx, telemetry.Options{LogWriter: logs, LogFormat: "json"})
	if err != nil {
		return routing.Snapshot{}, err
	}
	o := wiring.Fleet(k.cfg)
	o.CacheFile = "" // check wants Consul's answer, not the saved one
	source, err := discovery.NewConsul(o, tel)
	if err != nil {
		return routing.Snapshot{}, err
	}
	first := make(chan routing.Snapshot, 1)
	watching := task.Start(func(ctx context.Context) error {
		return source.Run(ctx, func(s routing.Snapshot) {
			select {
			case first <- s:
			default: // ask uses only the first
			}
		})
	})
	defer func() {
		_ = watching.Stop()
		_ = tel.Shutdown(context.WithoutCancel(ctx))
	}()
	patience := time.NewTimer(min(k.timeout, 10*time.Second))
	defer patience.Stop()
	select {
	case s := <-first:
		return s, nil
	case <-ctx.Done():
		return routing.Snapshot{}, ctx.Err()
	case <-patience.C:
		if text := logs.text(); text != "" {
			return routing.Snapshot{}, errors.New(text)
		}
		return routing.Snapshot{}, errors.New("no answer")
	}
}

// placements warns of users of a passwd-file who have no backend under separate storage.
func (k *checker) placements(users map[string]int) {
	if k.cfg.Routing.Storage != routing.Separate.String() || k.cfg.Discovery.Static == nil {
		return // with Consul its KV store may place them, and only it knows the backends
	}
	known := map[string]bool{"": true}
	for _, b := range k.cfg.Discovery.Static.Backends {
		known[b.ID] = true
	}
	if n := users[""]; n > 0 {
		k.report.warn("users", "write backend=ID into their lines (docs/authentication.md)", "%s without a placement, and storage is separate: NO [UNAVAILABLE]", count(n, "user"))
	}
	for _, id := range slices.Sorted(maps.Keys(users)) {
		if !known[id] {
			k.report.warn("users", "correct their lines, or add that backend", "%s placed on %q, which isn't among the backends: NO [UNAVAILABLE]", count(users[id], "user"), id)
		}
	}
}

// place says where the user's mail is, under separate storage.
func (k *checker) place(ctx context.Context, backends []routing.Backend) {
	if k.placement == "" && k.cfg.Discovery.Consul != nil {
		source, err := discovery.NewConsul(wiring.Consul(k.cfg.Discovery.Consul), nil)
		if err == nil {
			k.placement, _, err = source.Placement(ctx, k.canonical)
		}
		if err != nil {
			k.report.fail("placement", "the token needs key_prefix:read on "+discovery.PlacementPrefix, "%v", err)
			return
		}
	}
	if k.placement == "" {
		k.placement = wiring.DomainPlacement(k.cfg, k.canonical)
	}
	if k.placement == "" {
		fix := "write backend=ID into the user's line of the passwd-file"
		if key, ok := discovery.PlacementKey(k.canonical); ok && k.cfg.Discovery.Consul != nil {
			fix += ", or: consul kv put " + key + " ID"
		}
		k.report.fail("placement", fix, "%s has none, and storage is separate: NO [UNAVAILABLE]", k.canonical)
		return
	}
	var on []string
	for _, b := range backends {
		if b.ID == k.placement || b.Shown() == k.placement {
			on = []string{b.Shown()}
			break
		}
		if b.Means(k.placement) {
			on = append(on, b.Shown())
		}
	}
	switch len(on) {
	case 0:
	case 1:
		k.report.ok("placement", "%s is on %s", k.canonical, on[0])
		return
	default:
		k.report.fail("placement", "write one of "+strings.Join(on, ", "), "%s is placed on %q, which is the id of several backends", k.canonical, k.placement)
		return
	}
	k.report.fail("placement", "correct the placement, or register that backend", "%s is placed on %q, which isn't among the backends", k.canonical, k.placement)
}
