package app

import (
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// The admin API has the certificate that the settings name, and the proxies verify it when they ask each other.
func TestTheProxiesAskEachOtherOverTLS(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	cert, stranger := imaptest.NewCert(t), imaptest.NewCert(t)
	start := func(trusted []byte, peer string) (*App, *task.Task) {
		path := file(t, "")
		put := func(name string, text []byte) { write(t, filepath.Join(filepath.Dir(path), name), string(text)) }
		put("cert.pem", cert.CertPEM)
		put("key.pem", cert.KeyPEM)
		put("ca.pem", trusted)
		put("token", []byte("of-all-proxies\n"))
		write(t, path, strings.Replace(settings(server.Addr), "admin {", `admin {
  cert_file  = "cert.pem"
  key_file   = "key.pem"
  token_file = "token"`, 1)+`
cluster {
  token_file = "token"
  tls        = true
  ca_file    = "ca.pem"
  peers      = ["`+peer+`"]
}
`)
		a := open(t, Options{File: path})
		running := task.Start(a.Run)
		<-a.Ready()
		return a, running
	}
	first, running := start(cert.CertPEM, "127.0.0.1:1")
	defer end(t, first, running)
	for name, c := range map[string]struct {
		trusted []byte
		answers bool
	}{"its own authority": {cert.CertPEM, true}, "another authority": {stranger.CertPEM, false}} {
		second, running := start(c.trusted, first.AdminAddr())
		all, err := (&admin.Client{Address: "https://" + second.AdminAddr(), Token: "of-all-proxies", TLS: cert.Client}).ClusterStatus(t.Context())
		if err != nil || len(all.Proxies) != 2 {
			t.Fatalf("%s: %+v, %v", name, all, err)
		}
		for _, p := range all.Proxies {
			if p.Address == first.AdminAddr() && (p.Answer != nil) != c.answers {
				t.Errorf("%s: answered %t, %s", name, p.Answer != nil, p.Error)
			}
		}
		end(t, second, running)
	}
}
