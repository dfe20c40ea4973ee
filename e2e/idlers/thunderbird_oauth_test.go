//go:build thunderbird

package idlers

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/e2e/servers"
)

// Thunderbird logs in by OAuth: a person gives their password to the provider, in a window of Thunderbird's, and the proxy asks the provider about the
// token. Then it is parked as with a password.
func TestThunderbirdByOAuth(t *testing.T) {
	servers.Real(t)
	provider := servers.StartOIDC(t)
	secret := filepath.Join(servers.Folder(t), "oauth.secret")
	master := filepath.Join(servers.Folder(t), "master.password")
	must(t, os.WriteFile(secret, []byte(servers.OIDCSecret+"\n"), 0o600))
	must(t, os.WriteFile(master, []byte(servers.MasterPassword+"\n"), 0o600))
	l := newLab(t, servers.StartDovecot(t, servers.DovecotOptions{}), labOptions{watch: "idle", auth: fmt.Sprintf(`
auth "oauth" {
  introspection_url  = "%s/oauth/introspect"
  client_id          = %q
  client_secret_file = %q
  ca_file            = %q
  clients            = [%[2]q]
  user_claim         = "preferred_username"
}
backend_login {
  mode          = "master"
  username      = %[5]q
  password_file = %[6]q
}
`, provider.Issuer, servers.OIDCOpaque, secret, provider.Cert.CertFile, servers.MasterUser, master)})
	l.restart = newRestart()
	l.restart.joins()
	t.Run("thunderbird", func(t *testing.T) {
		a := newAccount(t, l, servers.User(1))
		a.seed("seed", "")
		parkedBird(a, birdByOAuth(a, provider))
	})
	l.nobodySentAway(t)
}

// birdByOAuth starts a Thunderbird that knows the provider as it knows its own, has a person log in there, and shows INBOX. Thunderbird looks for the
// provider of a server whose name has a dot.
func birdByOAuth(a *account, provider *servers.OIDC) *bird {
	a.Helper()
	b := startBird(a, "127.0.0.1", byOAuth)
	block, _ := pem.Decode(read(a, provider.Cert.CertFile))
	must(a, b.m.run(nil, `
		const cert = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).constructX509FromBase64(arguments[1]);
		Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService).rememberValidityOverride("localhost", new URL(arguments[0]).port, {}, cert, true);`,
		provider.Issuer, base64.StdEncoding.EncodeToString(block.Bytes)))
	must(a, b.m.run(nil, `
		const { OAuth2Providers } = ChromeUtils.importESModule("resource:///modules/OAuth2Providers.sys.mjs");
		OAuth2Providers.registerProvider({
			name: "id.test", clientId: arguments[1], clientSecret: arguments[2], authorizationEndpoint: arguments[0] + "/auth", tokenEndpoint: arguments[0] + "/oauth/token",
			redirectionEndpoint: arguments[0] + "/back", usePKCE: true,
		}, ["127.0.0.1"], "openid profile email offline_access");`, provider.URL, servers.OIDCOpaque, servers.OIDCSecret))
	must(a, b.m.run(nil, connects))
	// The form is in another process than the window. The script is sent again until the window has closed, since the page may not be there yet.
	asked := false
	b.eventually("the provider's window", func() error {
		b.runs(b.p)
		var open bool
		must(a, b.m.run(&open, `
			const all = [...Services.wm.getEnumerator(null)];
			const request = all.find(w => w.location.href.endsWith("browserRequest.xhtml"));
			request?.document.getElementById("requestFrame")?.messageManager?.loadFrameScript("data:application/javascript;charset=utf-8,(" + encodeURIComponent(function (user, password) {
				const d = content.document, form = d.forms[0];
				if (d.readyState != "complete" || !form || form.dataset.sent) return;
				d.getElementById("username").value = user;
				d.getElementById("password").value = password;
				form.dataset.sent = true;
				form.submit();
			}.toString()) + ")(" + encodeURIComponent(JSON.stringify(arguments[0]) + "," + JSON.stringify(arguments[1])) + ")", false);
			return !!request;`, a.user, servers.Password))
		asked = asked || open
		if open || !asked {
			return fmt.Errorf("open: %t, asked: %t", open, asked)
		}
		return nil
	})
	var refresh string
	b.eventually("the token in its store", func() error {
		must(a, b.m.run(&refresh, `return Services.logins.searchLoginsAsync({ origin: "oauth://id.test" }).then(all => all[0]?.password ?? "");`))
		if refresh == "" {
			return fmt.Errorf("it has none")
		}
		return nil
	})
	must(a, b.m.run(nil, `window.told = window.told.filter(t => t != "a window");`))
	b.opens()
	return b
}

func read(a *account, path string) []byte {
	a.Helper()
	b, err := os.ReadFile(path)
	must(a, err)
	return b
}
