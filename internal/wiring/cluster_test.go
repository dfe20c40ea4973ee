package wiring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
)

func TestPeersAreAskedAsTheConfigurationSays(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := config.Default()
	if o, err := Peers(c); err != nil || o.Token != "" || o.TLS != nil {
		t.Errorf("without a block: %+v, %v", o, err)
	}
	c.Admin.TokenFile = file("admin.token", "of-admin\n")
	c.Cluster = &config.Cluster{AskWithin: 3 * time.Second}
	if o, err := Peers(c); err != nil || o.Token != "of-admin" || o.TLS != nil || o.Within != 3*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	c.Cluster.TokenFile, c.Cluster.TLS, c.Cluster.ServerName = file("cluster.token", "of-all\n"), true, "imapproxy.example.org"
	c.Cluster.CAFile = file("ca.pem", string(imaptest.NewCert(t).CertPEM))
	if o, err := Peers(c); err != nil || o.Token != "of-all" || o.TLS == nil || o.TLS.ServerName != "imapproxy.example.org" || o.TLS.RootCAs == nil {
		t.Errorf("%+v, %v", o, err)
	}
	c.Cluster.CAFile = file("empty.pem", "")
	var about *SettingError
	if _, err := Peers(c); !errors.As(err, &about) || about.Setting != "cluster.ca_file" {
		t.Errorf("an empty file of authorities: %v", err)
	}
	c.Cluster.TokenFile = file("empty.token", "")
	if _, err := Peers(c); !errors.As(err, &about) || about.Setting != "cluster.token_file" {
		t.Errorf("an empty token: %v", err)
	}
}

func TestTheRegistrationSaysWhereTheAdminAPIIs(t *testing.T) {
	c := config.Default()
	if m := adminMeta(c, "127.0.0.1:8143"); m != nil {
		t.Errorf("without a cluster block: %v", m)
	}
	c.Cluster = &config.Cluster{}
	for bound, want := range map[string]string{
		"10.0.0.5:8143": "10.0.0.5:8143", "[::]:8143": ":8143", "0.0.0.0:8143": ":8143", "[2001:db8::5]:8143": "[2001:db8::5]:8143", "": "",
	} {
		if m := adminMeta(c, bound); m["admin"] != want {
			t.Errorf("bound to %q it says %v, want %q", bound, m, want)
		}
	}
	c.Register = &config.Register{AdminAddress: "proxy1.example.org:8143"}
	if m := adminMeta(c, "[::]:8143"); m["admin"] != "proxy1.example.org:8143" {
		t.Errorf("configured, it says %v", m)
	}
}
