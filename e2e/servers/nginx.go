package servers

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

const nginxConf = `load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
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
	Real(t)
	dir := Folder(t)
	addr, port := FreeAddr(t)
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, fmt.Sprintf(nginxConf, dir, service, header, port, protocol))
	p := Start(t, "nginx", exec.Command("nginx", "-e", filepath.Join(dir, "log"), "-c", config), filepath.Join(dir, "log"))
	p.WaitAccepts("tcp", addr)
	return addr
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
