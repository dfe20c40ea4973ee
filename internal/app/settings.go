package app

import (
	"errors"

	"imapproxy/internal/config"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/upstream"
	"imapproxy/routing/discovery"
)

// load reads the configuration.
func (o Options) load() (*config.Config, []config.Warning, error) {
	switch {
	case o.Config != nil:
		return o.Config, nil, nil
	case o.File != "":
		return config.Load(o.File)
	}
	return nil, nil, errors.New("app: no configuration")
}

// located adds to an error the line of the setting that it is about.
func (o Options) located(err error) error {
	if o.File == "" {
		return err
	}
	return wiring.Located(o.File, err)
}

// proxyOptions is the server's part of a configuration.
func (a *App) proxyOptions(c *config.Config, sources []auth.Source, policy *authpolicy.Client, source discovery.Source) (proxy.Options, error) {
	o := wiring.Proxy(c, a.opts.Certificate)
	o.Version, o.Now = a.opts.Version, a.opts.Now
	o.Sources, o.Policy, o.Router, o.Telemetry = sources, policy, a.router, a.tel
	o.Park = a.parking.server(c, a.opts.Park)
	var err error
	dial := wiring.Upstream(c, a.tel)
	dial.Room, dial.MasterFindings, dial.Now = a.room, a.findings, a.opts.Now
	if a.beside != nil && a.agreement == nil {
		dial.Claims = besideClaims{a.beside}
	}
	if a.opts.Agreement != nil {
		dial.Claims = a.opts.Agreement.Claims()
	}
	if a.agreement != nil {
		dial.Claims, dial.Overdue, o.Overdue = connClaims{a.agreement}, a.agreement.Overdue, a.agreement.Overdue
	}
	if o.Shared, err = wiring.Shared(c); err != nil {
		return o, wiring.About("shared.password_file", err)
	}
	o.Shared.Owners = owners(sources, source)
	if err = wiring.CheckSourceAddresses(c); err != nil {
		return o, err
	}
	if o.Dialer, err = upstream.New(dial); err != nil {
		return o, err
	}
	if o.Login, err = wiring.Login(c); err != nil {
		return o, wiring.About("backend_login.password_file", err)
	}
	o.Placement, o.Place = wiring.Placements(c, source)
	return o, nil
}
