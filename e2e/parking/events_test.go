//go:build parking

package parking

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/e2e/servers"
)

// dovecotWithEvents is a Dovecot with push.lua, and the address to which it posts.
func dovecotWithEvents(t testing.TB) (*servers.Server, string) {
	t.Helper()
	servers.Real(t)
	lua, err := os.ReadFile("../../contrib/dovecot/push.lua")
	must(t, err)
	dir := servers.Folder(t)
	script, token := filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	must(t, os.WriteFile(script, lua, 0o644))
	must(t, os.WriteFile(token, []byte(eventsToken+"\n"), 0o644))
	events, _ := servers.FreeAddr(t)
	extra := fmt.Sprintf(`
mail_plugins = acl quota notify push_notification mail_lua push_notification_lua
protocol imap {
  mail_plugins = acl quota notify push_notification mail_lua push_notification_lua imap_acl imap_quota
}
plugin {
  push_notification_driver = lua:file=%s
  imapproxy_url = http://%s/v1/events
  imapproxy_token_file = %s
  imapproxy_shared = shared/%%%%u/
}
`, script, events, token)
	return servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-push", Extra: extra}), events
}
