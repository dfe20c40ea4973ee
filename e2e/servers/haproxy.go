package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const haproxyConf = `global
  maxconn 256
defaults
  mode tcp
  timeout connect 30s
  timeout client 10m
  timeout server 10m
`

// An HAProxyListener is an address on which HAProxy accepts clients, and where they go.
type HAProxyListener struct {
	Addr string
	Bind string // what follows the address in "bind", such as "ssl"; with it HAProxy ends TLS with the certificate
	To   string // the server's address, and what follows it in "server": "127.0.0.1:143 send-proxy-v2"
}

// StartHAProxy runs HAProxy.
func StartHAProxy(t testing.TB, cert Certificate, listeners ...HAProxyListener) *Process {
	t.Helper()
	Real(t)
	dir := Folder(t)
	pem := filepath.Join(dir, "both.pem")
	write(t, pem, readFile(t, cert.CertFile)+readFile(t, cert.KeyFile))
	var conf strings.Builder
	conf.WriteString(haproxyConf)
	for i, l := range listeners {
		bind := l.Bind
		if bind == "ssl" {
			bind += " crt " + pem
		}
		fmt.Fprintf(&conf, "listen l%d\n  bind %s %s\n  server s %s\n", i, l.Addr, bind, l.To)
	}
	config := filepath.Join(dir, "haproxy.cfg")
	write(t, config, conf.String())
	p := Start(t, "haproxy", exec.Command("haproxy", "-db", "-f", config))
	for _, l := range listeners {
		p.WaitAccepts("tcp", l.Addr)
	}
	return p
}
