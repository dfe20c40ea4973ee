package wiring

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
)

// A service's certificate is verified by the file that is named, and a reload that finds another content
// in it makes the sources anew.
func TestAnAuthorityOfASourceIsBelieved(t *testing.T) {
	cert := imaptest.NewCert(t)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Auth-Status", "OK") }))
	web.TLS = cert.Server
	web.StartTLS()
	t.Cleanup(web.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	c := config.Default()
	c.Auth = []config.Auth{{HTTP: &config.AuthHTTP{URL: web.URL, CAFile: ca}}}
	if _, err := Sources(c, nil); err == nil {
		t.Error("a file that isn't there is an authority")
	}
	for pem, want := range map[string]bool{string(cert.CertPEM): true, string(imaptest.NewCert(t).CertPEM): false} {
		before := AuthFiles(c)
		if err := os.WriteFile(ca, []byte(pem), 0o600); err != nil {
			t.Fatal(err)
		}
		if AuthFiles(c) == before {
			t.Error("another content doesn't count")
		}
		sources, err := Sources(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := auth.First(t.Context(), sources, auth.Credentials{User: "alice", Password: "x"})
		if _, in := v.(auth.Accepted); in != want {
			t.Errorf("%#v, want accepted: %t", v, want)
		}
		CloseSources(sources)
	}
}
