package wiring

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/config"
)

// everything is a configuration with each block that a file may have.
func everything() *config.Config {
	c := config.Default()
	c.Listeners = []config.Listener{{
		Name: "imaps", Address: "127.0.0.1:993", TLS: "implicit", MinVersion: "1.2",
		Certificates: []config.Certificate{{CertFile: "cert.pem", KeyFile: "key.pem"}}, ProxyProtocol: &config.ProxyProtocol{},
	}}
	c.Discovery.Consul = &config.Consul{Service: "imap"}
	c.Discovery.Static = &config.Static{Backends: []config.StaticBackend{{ID: "b1", Address: "127.0.0.1:143"}}}
	c.BackendLogin.Mode = "master"
	c.Routing.Storage = "shared"
	c.Register = &config.Register{Service: "imapproxy", Address: "192.0.2.1:993"}
	c.Cluster = &config.Cluster{Service: "imapproxy"}
	c.Auth = []config.Auth{{
		HTTP: &config.AuthHTTP{URL: "http://127.0.0.1:9000/auth"},
		LDAP: &config.AuthLDAP{URL: "ldap://127.0.0.1"},
		SQL:  &config.AuthSQL{Driver: "postgres"},

		Dovecot: &config.AuthDovecot{Address: "127.0.0.1:12345"},
		OAuth:   &config.AuthOAuth{Issuer: "http://127.0.0.1:9000"},
	}}
	c.AuthPolicy = &config.AuthPolicy{ServerURL: "http://127.0.0.1:8084/"}
	return c
}

// handed is all that the packages are handed, as text.
func handed(t *testing.T, c *config.Config) string {
	t.Helper()
	routes, err := Routing(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	register, err := Register(c, nil, "127.0.0.1:8143", nil)
	if err != nil {
		t.Fatal(err)
	}
	agreement := Agreement(c, nil)
	others, _ := Peers(c) // likewise
	login, _ := Login(c)  // without the file there is no password; the rest counts
	traced, _ := Telemetry(c, nil, nil)
	return fmt.Sprintf("%+v", []any{
		traced, LogLevel(c), routes, Upstream(c, nil), login, Proxy(c, nil),
		Fleet(c), Static(c, nil), register,
		others.Within, Named(c), where(c), agreement.Service, agreement.Consul, agreement.Member,
		Hub(c, nil), Pool(c, nil), Room(c), Park(c), asked(c), PolicyOptions(c.AuthPolicy),
	})
}

// asked is what the sources of credentials are handed.
func asked(c *config.Config) (all []any) {
	for _, a := range c.Auth {
		if a.PasswdFile != nil {
			all = append(all, PasswdFile(c, a.PasswdFile))
		}
		if a.HTTP != nil {
			all = append(all, HTTPAuth(c, a.HTTP))
		}
		if a.LDAP != nil {
			all = append(all, LDAPAuth(c, a.LDAP))
		}
		if a.SQL != nil {
			all = append(all, SQLAuth(c, a.SQL))
		}
		if a.Dovecot != nil {
			all = append(all, DovecotAuth(c, a.Dovecot))
		}
		if a.OAuth != nil {
			all = append(all, OAuth(c, a.OAuth))
		}
	}
	return all
}

// where is the service that the other proxies are looked for under.
func where(c *config.Config) string {
	if o := Proxies(c); o != nil {
		return o.Service
	}
	return ""
}

// A setting that is read and not passed on would be accepted without effect.
func TestEverySettingIsHandedToARoom(t *testing.T) {
	elsewhere := []string{
		"auth.passwd_file.path",              // Sources: TestCheckReportsEachBadLineOfAPasswdFile
		"auth.backend.mechanisms",            // Sources: e2e TestTokensArePassedOnToDovecot
		"users.scram_secret_file",            // Sources reads it: e2e TestAuthSCRAM
		"auth.http.ca_file",                  // Sources reads it: TestAnAuthorityOfASourceIsBelieved
		"auth.ldap.ca_file",                  // Sources reads it: e2e TestAuthLDAP
		"auth.sql.ca_file",                   // likewise: e2e TestAuthSQL
		"auth.ldap.password_file",            // likewise
		"auth.sql.password_file",             // Sources reads it: e2e TestAuthSQL
		"auth.oauth.ca_file",                 // Sources reads it: e2e TestAuthOAuth
		"auth.oauth.client_secret_file",      // likewise
		"auth_policy.hash_nonce_file",        // Policy reads it: e2e TestDovecotAndWeTellAPolicyServerTheSame
		"auth_policy.server_api_header_file", // likewise
		"auth_policy.ca_file",                // likewise
		"backend_login.password_file",        // Login reads it
		"backend_defaults.source_addresses",  // sourceAddresses: TestSourceAddressesAreDialledFrom
		"admin.address",                      // internal/app: the tests of serve
		"admin.token_file",                   // cmd/imapproxy: TestTheAdminAPIWantsItsToken
		"admin.read_token_file",              // cmd/imapproxy: TestTheAdminAPIWantsItsToken
		"admin.cert_file",                    // AdminCertificate: internal/app TestTheProxiesAskEachOtherOverTLS
		"admin.key_file",                     // likewise
		"cluster.token_file",                 // Peers: TestPeersAreAskedAsTheConfigurationSays
		"cluster.tls",                        // likewise
		"cluster.ca_file",                    // likewise
		"cluster.server_name",                // likewise
		"route.address",                      // internal/app: e2e TestOtherProtocolsGoToTheBackendOfIMAP
		"route.domains",                      // likewise
		"route.delimiter",                    // likewise
		"route.lmtp_port",                    // likewise
		"route.pop3_port",                    // likewise
		"route.sieve_port",                   // likewise
		"register.allow_others",              // internal/app: alone
		"park.enabled",                       // internal/app: TestParkingIsSwitchedOffAndOnByAReload
		"park.backend_process_memory",        // internal/app: TestTheMetricsShowWhatTheProcessWasGiven
		"park.events.address",                // internal/app: TestPushEventsReachTheHub
		"park.events.token_file",             // internal/app: likewise
		"shutdown.lame_duck",                 // internal/app: e2e TestClientsAreAcceptedWhileTheProxyIsTakenOut
		"shutdown.handover",                  // internal/app: e2e TestUpgradeEndsTheOldProcessInTime
		"shutdown.handover_socket",           // HandoverSocket: e2e TestUpgradeUnderLoad
		"telemetry.personal_key_file",        // Telemetry reads it: internal/app TestNoNameOrAddressIsWritten
		"telemetry.trace_url",                // internal/app: TestThePageShowsWhatHasHappened
	}
	visited := 0
	var walk func(path string, v reflect.Value, root *config.Config)
	walk = func(path string, v reflect.Value, root *config.Config) {
		for n := range v.NumField() {
			name, kind, _ := strings.Cut(v.Type().Field(n).Tag.Get("hcl"), ",")
			field, here := v.Field(n), strings.TrimPrefix(path+"."+name, ".")
			switch {
			case kind == "label":
			case kind != "":
				for field.Kind() == reflect.Slice || field.Kind() == reflect.Pointer {
					if field.Kind() == reflect.Slice && field.Len() > 0 {
						field = field.Index(0)
					} else if field.Kind() == reflect.Pointer && !field.IsNil() {
						field = field.Elem()
					} else {
						break
					}
				}
				if field.Kind() == reflect.Struct {
					walk(here, field, root)
				}
			case !slices.Contains(elsewhere, here):
				visited++
				before, old := handed(t, root), reflect.ValueOf(field.Interface())
				field.Set(other(here, field))
				if handed(t, root) == before {
					t.Errorf("%s has no effect", here)
				}
				field.Set(old)
			}
		}
	}
	c := everything()
	walk("", reflect.ValueOf(c).Elem(), c)
	if visited < 55 {
		t.Errorf("only %d settings were looked at", visited)
	}
}

// other is a value of a setting that differs from the present one.
func other(path string, v reflect.Value) reflect.Value {
	switch v.Interface().(type) {
	case string:
		for _, known := range []struct{ suffix, value string }{
			{"routing.storage", "separate"}, {"min_version", "1.3"}, {"backend_login.mode", "user"}, {"cluster.isolated", "hold"}, {"log.level", "debug"}, {"register.address", "192.0.2.2:143"},
		} {
			if strings.HasSuffix(path, known.suffix) {
				return reflect.ValueOf(known.value)
			}
		}
		return reflect.ValueOf(v.String() + "other")
	case bool:
		return reflect.ValueOf(!v.Bool())
	case int:
		return reflect.ValueOf(int(v.Int()) + 7)
	case time.Duration:
		return reflect.ValueOf(time.Duration(v.Int()) + 7*time.Second)
	case config.Size:
		return reflect.ValueOf(config.Size(v.Int()) + 7)
	case config.Percent:
		return reflect.ValueOf(config.Percent(0.77))
	case []string:
		return reflect.ValueOf([]string{"other"})
	case []netip.Prefix:
		return reflect.ValueOf([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	case map[string]string:
		return reflect.ValueOf(map[string]string{"other": "other"})
	}
	panic(path + " has a type that this test doesn't know")
}

func TestWhereZeroMeansZeroTheRoomsAreToldSo(t *testing.T) {
	c := everything()
	c.Routing.PinGrace, c.Routing.FailoverAfter, c.Limits.AuthFailureDelay, c.Shutdown.Drain, c.Telemetry.Traces.Slow = 0, 0, 0, 0, 0
	routes, err := Routing(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := Proxy(c, nil)
	traced, err := Telemetry(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, d := range map[string]time.Duration{
		"pin_grace": routes.PinGrace, "failover_after": routes.FailoverAfter, "auth_failure_delay": server.Limits.AuthFailureDelay,
		"drain": server.Drain, "slow": traced.SlowCommand,
	} {
		if d >= 0 {
			t.Errorf("%s = 0 is handed over as %v, which means the room's default", what, d)
		}
	}
}

func TestSourceAddressesAreDialledFrom(t *testing.T) {
	c := &config.Config{}
	c.BackendDefaults.SourceAddresses = []string{"127.0.0.2", "127.0.0.3"}
	want := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	if got := Upstream(c, nil).SourceAddresses; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A reload that finds another content in one of the files makes source and registration anew.
func TestEachFileOfTheFleetCounts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	consul, static := config.Default(), config.Default()
	consul.Discovery.Consul = &config.Consul{CAFile: write("ca", "1"), CertFile: write("cert", "1"), KeyFile: write("key", "1"), TokenFile: write("token", "1")}
	static.BackendDefaults.CAFile = write("backends", "1")
	for _, c := range []struct {
		of    *config.Config
		files []string
	}{{consul, []string{"ca", "cert", "key", "token"}}, {static, []string{"backends"}}} {
		before := FleetFiles(c.of)
		if FleetFiles(c.of) != before {
			t.Error("the same content isn't the same")
		}
		for _, name := range c.files {
			write(name, "2")
			if after := FleetFiles(c.of); after == before {
				t.Errorf("%s doesn't count", name)
			}
			write(name, "1")
		}
	}
	one, other := config.Default(), config.Default()
	if FleetFiles(consul) == FleetFiles(static) || FleetFiles(one) != FleetFiles(other) {
		t.Error("other files count")
	}
}
