package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"

	"imapproxy/internal/config"
	"imapproxy/internal/peers"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// newCluster reads its files and contacts no other proxy.
func newCluster(c *config.Config, tel *telemetry.Telemetry) (*cluster, error) {
	k := &cluster{id: rand.Text()}
	o, err := wiring.Peers(c)
	if err != nil {
		return nil, err
	}
	cert, err := wiring.AdminCertificate(c)
	if err != nil {
		return nil, err
	}
	o.Self = k.id
	k.fleet = peers.New(o)
	k.outbox = peers.NewOutbox(k.fleet, peers.OutboxOptions{Log: tel.Log})
	k.token.Store(&o.Token)
	k.cert.Store(cert)
	return k, nil
}

// begin looks for the others, and sends them push events.
func (k *cluster) begin(c *config.Config, tel *telemetry.Telemetry) {
	k.sending = task.Start(func(ctx context.Context) error { k.outbox.Run(ctx); return nil })
	k.find(c, tel)
}

// find looks for the others. Those of before stay until Consul's first answer.
func (k *cluster) find(c *config.Config, tel *telemetry.Telemetry) {
	k.finding = nil
	where := wiring.Proxies(c)
	if where == nil {
		k.found(wiring.Named(c))
		return
	}
	k.finding = task.Start(func(ctx context.Context) error {
		return discovery.WatchProxies(ctx, *where, tel, func(all []discovery.ProxyInstance) { k.found(asPeers(all)) })
	})
}

// found sets which other proxies there are now.
func (k *cluster) found(all []peers.Peer) {
	k.fleet.Found(all)
	k.outbox.Found(all)
}

// asPeers converts Consul's list of proxies to peers. Of several entries with one admin address, as an earlier
// process may have left one under another id, it takes one, if possible one whose check passes.
func asPeers(all []discovery.ProxyInstance) (found []peers.Peer) {
	at := map[string]int{} // admin address → index in found
	for _, i := range all {
		p := peers.Peer{Name: i.ID, Address: i.Admin, Down: !i.Passing}
		if same, ok := at[i.Admin]; ok && i.Admin != "" {
			if found[same].Down && !p.Down {
				found[same] = p
			}
			continue
		}
		at[i.Admin] = len(found)
		found = append(found, p)
	}
	return found
}

// reload takes what wiring has read of new settings.
func (k *cluster) reload(c *config.Config, o peers.Options, cert *tls.Certificate, tel *telemetry.Telemetry) {
	_ = k.finding.Stop()
	o.Self = k.id
	k.fleet.Reload(o)
	k.token.Store(&o.Token)
	k.cert.Store(cert)
	k.find(c, tel)
}

// end ends the requests to other proxies.
func (k *cluster) end() error {
	err := errors.Join(k.finding.Stop(), k.sending.Stop())
	k.fleet.Close()
	return err
}

// peerToken returns the token that the other proxies send; "" if there are none.
func (k *cluster) peerToken() telemetry.Secret { return *k.token.Load() }

// adminTLS returns the TLS settings of the admin API; nil: without TLS.
func (k *cluster) adminTLS() *tls.Config {
	if k.cert.Load() == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.cert.Load(), nil }}
}
