package config

import "fmt"

// cluster checks how the proxies find and ask each other.
func (d *decoder) cluster(c *Config) {
	k := c.Cluster
	if k == nil {
		return
	}
	d.oneWord("cluster.service", k.Service)
	switch {
	case k.Service == "" && !d.failed["cluster.service"]:
		d.fail(d.at("cluster.service"), "cluster.service is empty", "write service = \"imapproxy\", as register has it")
	case c.Discovery.Static != nil && len(k.Peers) == 0 && !d.failed["cluster.peers"]:
		d.fail(d.at("cluster"), "cluster: without discovery \"consul\" no setting says where the other proxies are", "write peers = [\"10.0.0.5:8143\", …] with each proxy's admin address")
	case c.Discovery.Consul != nil && c.Register == nil && len(k.Peers) == 0:
		d.warn(d.at("cluster"), "cluster: this proxy finds the others and isn't found, as it isn't registered", "write register { }")
	case c.Register != nil && c.Register.Service != k.Service && len(k.Peers) == 0:
		d.warn(d.at("cluster"), fmt.Sprintf("cluster.service is %q and register.service is %q, so the proxies don't find each other", k.Service, c.Register.Service), "write the same service in both")
	}
	for _, peer := range k.Peers {
		if !d.address("cluster.peers", peer, 1) {
			break
		}
	}
	if c.Admin.Address == "" {
		d.fail(d.at("cluster"), "cluster: the proxies ask each other's admin API, and that is off", "write an address in admin { … }")
	}
	if k.TokenFile == "" && c.Admin.TokenFile == "" && !d.failed["cluster.token_file"] && !d.failed["admin.token_file"] {
		d.fail(d.at("cluster"), "cluster.token_file is missing: the proxies ask each other with a token that all of them know", "write token_file = \"cluster.token\"; openssl rand -hex 24 makes one")
	}
	if k.CAFile != "" {
		d.authorities("cluster.ca_file", k.CAFile)
	}
	if !k.TLS && (k.CAFile != "" || k.ServerName != "") {
		d.warn(d.at("cluster"), "cluster: ca_file and server_name have no meaning without tls = true", "write tls = true, or remove them")
	}
	if k.TLS && c.Admin.CertFile == "" && !d.failed["admin.cert_file"] {
		d.fail(d.at("cluster.tls"), "cluster.tls: the admin APIs are asked over TLS, and this proxy's has no certificate", "write cert_file and key_file in admin { … }")
	}
}
