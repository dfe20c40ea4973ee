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
  auth_http_header X-Auth-Key %[3]s;
  server {
    listen    127.0.0.1:%[4]s;
    protocol  imap;
    imap_auth plain login;
  }
}
`

// StartNginx runs nginx's mail proxy, which asks an auth_http service for each login and sends it the
// key. It gives the address at which it speaks IMAP.
func StartNginx(t testing.TB, service, key string) (addr string) {
	t.Helper()
	Real(t)
	dir := Folder(t)
	addr, port := FreeAddr(t)
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, fmt.Sprintf(nginxConf, dir, service, key, port))
	p := Start(t, "nginx", exec.Command("nginx", "-e", filepath.Join(dir, "log"), "-c", config), filepath.Join(dir, "log"))
	p.WaitPort(addr)
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
