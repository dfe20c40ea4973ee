package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"imapproxy/internal/config"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Backends come from Consul while the proxy runs: the log says of each on another machine that
// passwords go there in the clear, once.
func TestTheLogWarnsOfBackendsWithoutTLS(t *testing.T) {
	fleet := func(tls, address string) []routing.BackendStatus {
		return []routing.BackendStatus{{Backend: routing.Backend{ID: "b1", Address: address, TLS: tls}}}
	}
	for _, c := range []struct {
		what  string
		fleet []routing.BackendStatus
		login config.BackendLogin
		want  string
	}{
		{"another machine", fleet("", "192.0.2.1:143"), config.BackendLogin{}, "passwords go to this backend without TLS"},
		{"a master's password", fleet("", "192.0.2.1:143"), config.BackendLogin{Mode: upstream.ModeMaster}, "no user can log in to this backend"},
		{"a master's password that may", fleet("", "192.0.2.1:143"), config.BackendLogin{Mode: upstream.ModeMaster, Cleartext: true}, "passwords go to this backend without TLS"},
		{"TLS", fleet(upstream.TLSStartTLS, "192.0.2.1:143"), config.BackendLogin{}, ""},
		{"this machine", fleet("", "127.0.0.1:143"), config.BackendLogin{}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			var log bytes.Buffer
			tel := telemetry.Discard()
			tel.Log = slog.New(slog.NewTextHandler(&log, nil))
			a, warned := &App{tel: tel}, map[string]bool{}
			for range 2 {
				a.warnOfCleartext(&config.Config{BackendLogin: c.login, BackendDefaults: config.BackendDefaults{TLS: upstream.TLSNone}}, c.fleet, warned)
			}
			want := 0
			if c.want != "" {
				want = 1
			}
			if n := strings.Count(log.String(), "level=WARN"); n != want || !strings.Contains(log.String(), c.want) {
				t.Errorf("want %q once:\n%s", c.want, log.String())
			}
		})
	}
}
