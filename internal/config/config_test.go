package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"imapproxy/internal/imaptest"
)

// go test ./internal/config -run Everything -update writes what is reported into
// the archives; read the difference before it is committed.
var update = flag.Bool("update", false, "write what is reported into testdata")

// certificateFiles writes a self-signed certificate and its key.
func certificateFiles(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	made := imaptest.NewCert(t)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(made.CertPEM))
	write(t, key, string(made.KeyPEM))
	return cert, key
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// smallest has only the settings that a file must have.
const smallest = `
listener "local" {
  address = "127.0.0.1:1143"
  tls     = "none"
  cleartext_from = ["127.0.0.1"]
}
discovery "static" {
  backend "b1" {
    address = "127.0.0.1:11143"
  }
}
routing {
  storage = "shared"
}
`

func TestTheSmallestFileHasAllDefaults(t *testing.T) {
	cfg, warnings, err := Parse("t.hcl", []byte(smallest))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := Default()
	want.Listeners = []Listener{{Name: "local", Address: "127.0.0.1:1143", TLS: "none", MinVersion: "1.2", CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, TrustedProxies: []netip.Prefix{}, CompressHistory: 8192}}
	want.Discovery.Static = &Static{
		Backends: []StaticBackend{{ID: "b1", Address: "127.0.0.1:11143", Weight: 100, Tags: []string{}}},
		Probe:    Probe{Interval: 5 * time.Second, Timeout: 3 * time.Second, Rise: 2, Fall: 3},
	}
	want.Routing.Storage = "shared"
	if diff := cmp.Diff(want, cfg, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if cfg.Routing.PinGrace != 15*time.Minute || cfg.Routing.PanicThreshold != 0.5 || cfg.Limits.IdleTimeout != 31*time.Minute || !cfg.Users.Lowercase || cfg.Auth[0].Backend == nil || cfg.Hostname == "" {
		t.Errorf("defaults: %+v", cfg)
	}
}

// Each file of testdata/*.txtar is an archive: comment (why), config.hcl, what it
// needs, and `errors` and `warnings`: everything that must be reported, no more.
func TestReportsEverythingAtOnce(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			certificateFiles(t, dir)
			var wantErrors, wantWarnings string
			for _, f := range archive.Files {
				switch f.Name {
				case "errors":
					wantErrors = strings.TrimSpace(string(f.Data))
				case "warnings":
					wantWarnings = strings.TrimSpace(string(f.Data))
				default:
					write(t, filepath.Join(dir, f.Name), string(f.Data))
				}
			}
			_, warnings, err := Load(filepath.Join(dir, "config.hcl"))
			var errs Errors
			if err != nil && !errors.As(err, &errs) {
				t.Fatalf("not Errors: %v", err)
			}
			var lines []string
			for _, w := range warnings {
				lines = append(lines, w.String())
			}
			local := func(s string) string { return strings.ReplaceAll(s, dir+string(filepath.Separator), "") }
			if *update {
				for i, f := range archive.Files {
					switch f.Name {
					case "errors":
						archive.Files[i].Data = []byte(local(errs.Error()) + "\n")
					case "warnings":
						archive.Files[i].Data = []byte(local(strings.Join(lines, "\n")) + "\n")
					}
				}
				write(t, file, string(txtar.Format(archive)))
				return
			}
			if diff := cmp.Diff(wantErrors, local(errs.Error())); diff != "" {
				t.Errorf("errors (-want +got):\n%s\ngot in full:\n%s", diff, local(errs.Error()))
			}
			if diff := cmp.Diff(wantWarnings, local(strings.Join(lines, "\n"))); diff != "" {
				t.Errorf("warnings (-want +got):\n%s\ngot in full:\n%s", diff, local(strings.Join(lines, "\n")))
			}
		})
	}
}

func TestEnvAndFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "name"), "imap.example.net\r\n")
	t.Setenv("IMAPPROXY_TEST_DOMAIN", "example.com")
	cfg, _, err := Parse(filepath.Join(dir, "c.hcl"), []byte(smallest+`
hostname = file("name")
users {
  default_domain = env("IMAPPROXY_TEST_DOMAIN")
}
`))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Hostname != "imap.example.net" || cfg.Users.DefaultDomain != "example.com" {
		t.Errorf("%q %q", cfg.Hostname, cfg.Users.DefaultDomain)
	}
}

func TestAMissingFileIsReported(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "none.hcl"))
	var errs Errors
	if !errors.As(err, &errs) || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("%v", err)
	}
}

func TestDiffSaysWhatNeedsARestart(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		cfg, _, err := Parse("t.hcl", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	before := parse(smallest)
	if changes := Diff(before, parse(smallest)); len(changes) != 0 {
		t.Errorf("no change, but %v", changes)
	}
	after := parse(strings.NewReplacer(
		`"127.0.0.1:1143"`, `"127.0.0.1:1144"`,
		`["127.0.0.1"]`, `["10.0.0.0/8"]`,
		`"shared"`, "\"shared\"\n  pin_grace = \"1m\"",
	).Replace(smallest) + `
limits {
  per_ip = 3
}
listener "second" {
  address = "127.0.0.1:1145"
  tls     = "none"
  cleartext_from = ["::1"]
}
admin {
  address = ""
}
auth "backend" {}
register {}
`)
	want := []Change{
		{"admin.address", true, `"127.0.0.1:8143"`, `""`},
		{"limits.per_ip", false, "0", "3"},
		{"listener.local.address", true, `"127.0.0.1:1143"`, `"127.0.0.1:1144"`},
		{"listener.local.cleartext_from", true, `["127.0.0.1/32"]`, `["10.0.0.0/8"]`},
		{"listener.second", true, "", ""},
		{"register", false, "", ""},
		{"routing.pin_grace", false, `"15m"`, `"1m"`},
	}
	if got := Diff(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v\nwant %#v", got, want)
	}

	// A reload applies the other settings; those that differ afterwards need the restart.
	reloaded := Reloaded(before, after)
	if reloaded.Limits.PerIP != 3 || reloaded.Routing.PinGrace != time.Minute || reloaded.Register == nil ||
		reloaded.Admin.Address != before.Admin.Address || !reflect.DeepEqual(reloaded.Listeners, before.Listeners) {
		t.Errorf("reloaded: %+v", reloaded)
	}
	want = slices.DeleteFunc(want, func(c Change) bool { return !c.NeedsRestart })
	if got := Diff(reloaded, after); !reflect.DeepEqual(got, want) {
		t.Errorf("left: %v\nwant %v", got, want)
	}
	if after.Listeners[0].Address != "127.0.0.1:1144" {
		t.Error("Reloaded has changed what it was given")
	}
}

// A reload's log line and the events on the page have the values, and so may have no secret.
func TestAChangeHasNoSecret(t *testing.T) {
	before, after := Default(), Default()
	before.Telemetry.Traces.Endpoint, after.Telemetry.Traces.Endpoint = "http://collector:4318", "http://user:hidden1@collector:4318"
	after.Telemetry.Traces.Headers = map[string]string{"Authorization": "hidden2"}
	after.Park.BackendProcessMemory = 3 << 20
	text := ""
	for _, c := range Diff(before, after) {
		text += c.Values() + "\n"
	}
	if strings.Contains(text, "hidden") || !strings.Contains(text, `park.backend_process_memory: "0B" → "3MiB"`) || !strings.Contains(text, redacted) {
		t.Error(text)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0B": 0, "1.5 MB": 1500000, "4MiB": 4 << 20, "12kB": 12000, "3GiB": 3 << 30, "7B": 7} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		} else if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is written %s", text, got)
		}
	}
	for _, text := range []string{"", "4", "MB", "-1MB", "NaNMB", "4 megabytes", "1e30TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// Reloaded relies on it.
func TestNothingBelowAPointerNeedsARestart(t *testing.T) {
	walkSchema(reflect.TypeFor[Config](), "", func(path string, f schemaField) {
		if f.Type.Kind() == reflect.Pointer && f.Tag.Get("reload") == "" && f.restartsInside() {
			t.Errorf("%s is a pointer to settings that need a restart", path)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	if src, err := os.ReadFile(reference); err == nil {
		f.Add(src)
	}
	cases, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range cases {
		if archive, err := txtar.ParseFile(file); err == nil {
			for _, part := range archive.Files {
				if part.Name == "config.hcl" {
					f.Add(part.Data)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, _, err := Parse("fuzz.hcl", src)
		if err == nil {
			if len(cfg.Listeners) == 0 || cfg.Hostname == "" || cfg.Routing.Storage == "" || len(cfg.Auth) == 0 ||
				(cfg.Discovery.Consul == nil) == (cfg.Discovery.Static == nil) {
				t.Errorf("accepted, but not whole: %+v", cfg)
			}
			if changes := Diff(cfg, cfg); len(changes) > 0 {
				t.Errorf("differs from itself: %v", changes)
			}
			return
		}
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 {
			t.Errorf("not Errors: %v", err)
		}
		for _, e := range errs {
			if e.What == "" || e.Line < 0 {
				t.Errorf("an empty error: %+v", e)
			}
		}
	})
}
