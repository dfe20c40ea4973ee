package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// whole is a file with every kind of block and value.
const whole = `
hostname = "imap.example.org"
listener "imaps" {
  address = "127.0.0.1:0"
  certificate {
    cert_file = "cert.pem"
    key_file  = "key.pem"
  }
  certificate {
    cert_file = "cert.pem"
    key_file  = "key.pem"
  }
  proxy_protocol {
    trusted = ["10.0.0.0/8", "192.0.2.1"]
  }
}
listener "plain" {
  address        = "127.0.0.1:0"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8", "::1"]
}
users {
  default_domain = "example.org"
  lowercase      = false
  recheck        = "0s"
}
auth "passwd_file" {
  path = "users"
}
auth "backend" {}
backend_defaults {
  tls     = "implicit"
  ca_file = "cert.pem"
}
discovery "static" {
  backend "b1" {
    address = "10.0.0.11:143"
    tags    = ["ssd", "$${big} \"one\" %%{if}"]
  }
  backend "b2" {
    address = "10.0.0.12:143"
    weight  = 0
  }
  probe {
    interval = "1m"
  }
}
routing {
  storage         = "shared"
  panic_threshold = "33.5%"
}
cluster {
  peers      = ["10.0.0.2:8143"]
  token_file = "token"
}
limits {
  per_user = 7
}
park {
  linger = "90s"
}
admin {
  address    = "127.0.0.1:0"
  token_file = "token"
}
`

// wholeFile writes whole, with an addition, and the files that it names.
func wholeFile(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	certificateFiles(t, dir)
	write(t, filepath.Join(dir, "users"), "alice:{PLAIN}secret\n")
	write(t, filepath.Join(dir, "token"), "0123456789abcdef0123456789abcdef\n")
	path := filepath.Join(dir, "config.hcl")
	write(t, path, whole+more)
	return path
}

func TestATextMeansTheSameAsItsConfiguration(t *testing.T) {
	for _, path := range []string{reference, wholeFile(t, "")} {
		cfg, _, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		text := Text(cfg)
		again, _, err := Parse(path, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", path, err, text)
		}
		if changes := Diff(cfg, again); len(changes) > 0 || !reflect.DeepEqual(cfg, again) {
			t.Errorf("%s: differs in %v\n%s", path, changes, text)
		}
		if Text(again) != text || TextDigest(text) == TextDigest(text+"\n") {
			t.Errorf("%s: another text", path)
		}
	}
}

func TestATextHasNoSecrets(t *testing.T) {
	cfg, _, err := Load(wholeFile(t, `
auth "http" {
  url     = "http://me:secret-1@127.0.0.1:9000/auth?key=secret-2#secret-3"
  headers = { "X-Key" = "secret-4" }
}
auth "sql" {
  driver = "postgres"
  dsn    = "postgres://127.0.0.1/mail?passfile=secret-5"
  query  = "SELECT password FROM users WHERE name = %u"
}
telemetry {
  traces {
    endpoint = "http://me:secret-6@127.0.0.1:4318/otlp"
    headers  = { "api-key" = "secret-7" }
  }
  metrics {
    endpoint = "http://127.0.0.1:4318?secret-8"
    headers  = { "api-key" = "secret-9" }
  }
}
`))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Discovery.Consul = &Consul{Service: "imap", Address: "https://me:secret-0@127.0.0.1:8501"}
	text := Text(cfg)
	if strings.Contains(text, "secret-") {
		t.Errorf("a secret is in it:\n%s", text)
	}
	for _, want := range []string{
		`url = "http://redacted@127.0.0.1:9000/auth?redacted"`, `X-Key = "[redacted]"`, `dsn         = "[redacted]"`, `endpoint = "http://redacted@127.0.0.1:4318/otlp"`, `"https://redacted@127.0.0.1:8501"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s isn't in it:\n%s", want, text)
		}
	}
	for text, want := range map[string]string{"127.0.0.1:8500": "127.0.0.1:8500", "me:secret@127.0.0.1": redacted, "http://a b@c": redacted, "unix:///run/consul.sock": "unix:///run/consul.sock"} {
		if got := publicURL(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// A setting of these kinds can hold a secret; one that comes later mustn't be forgotten.
func TestSettingsThatMayHoldSecretsSaySo(t *testing.T) {
	found := 0
	walkSchema(reflect.TypeFor[Config](), "", func(path string, f schemaField) {
		if f.kind != kindAttr || f.Tag.Get("path") != "" {
			return
		}
		for _, part := range []string{"url", "dsn", "endpoint", "headers", "password", "token", "secret", "key"} {
			if strings.Contains(f.name, part) {
				found++
				if f.Tag.Get("secret") == "" {
					t.Errorf("%s has no tag secret", path)
				}
				return
			}
		}
		if f.Type.Kind() == reflect.Map {
			t.Errorf("%s is a group of values of any kind, and has no tag secret", path)
		}
	})
	if found < 8 {
		t.Errorf("only %d were looked at", found)
	}
}

func TestTheFilesOfAConfiguration(t *testing.T) {
	path := wholeFile(t, "")
	cfg, _, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range Files(cfg) {
		name := f.Setting + " " + filepath.Base(f.Path)
		if f.Restart {
			name += " at the start"
		}
		got = append(got, name)
	}
	want := []string{
		"backend_defaults.ca_file cert.pem", "cluster.token_file token", "admin.token_file token at the start",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
