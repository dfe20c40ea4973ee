package servers

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const nginxConf = `load_module /usr/lib/nginx/modules/ngx_mail_module.so;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/log info;
events {
  worker_connections 64;
}
mail {
  auth_http        %[2]s;
  auth_http_header %[3]s;
  server {
    listen    127.0.0.1:%[4]s;
    protocol  %[5]s;
  }
}
`

// StartNginx runs nginx's mail proxy, which asks an auth_http service for each login and sends it the
// key. It gives the address at which it speaks IMAP.
func StartNginx(t testing.TB, service, key string) (addr string) {
	t.Helper()
	return StartNginxFor(t, "imap", service, "X-Auth-Key "+key)
}

// StartNginxFor is StartNginx for a protocol, imap or pop3, and with another header: its name and its value, as nginx reads them.
func StartNginxFor(t testing.TB, protocol, service, header string) (addr string) {
	t.Helper()
	dir := Folder(t)
	addr, port := FreeAddr(t)
	StartNginxConf(t, dir, fmt.Sprintf(nginxConf, dir, service, header, port, protocol), addr)
	return addr
}

// StartNginxConf runs nginx with a whole configuration, in a folder, and waits until it accepts connections at the address. The
// configuration has the folder's file "log" as its error_log.
func StartNginxConf(t testing.TB, dir, conf, addr string) *Process {
	t.Helper()
	Real(t)
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, conf)
	p := Start(t, "nginx", exec.Command("nginx", "-e", filepath.Join(dir, "log"), "-g", "daemon off;", "-c", config), filepath.Join(dir, "log"))
	p.WaitAccepts("tcp", addr)
	return p
}

// WaitAccepts connects until the address accepts a connection.
func (p *Process) WaitAccepts(network, addr string) {
	p.t.Helper()
	p.wait(addr, func() error {
		c, err := net.Dial(network, addr)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// WaitRefuses connects until the address accepts no connection.
func (p *Process) WaitRefuses(addr string) {
	p.t.Helper()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // between two attempts
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = c.Close()
	}
	p.t.Fatalf("%s goes on serving %s", p.name, addr)
}
