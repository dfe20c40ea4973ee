//go:build thunderbird

package idlers

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
)

// Thunderbird on a screen of its own, by hand: it is too big for ./test.
//
//	apt-get install thunderbird xvfb
//	./test -tags thunderbird ./e2e/idlers -run Thunderbird
func TestThunderbird(t *testing.T) {
	servers.Real(t)
	for _, v := range []struct {
		name  string
		start func(t *testing.T) *servers.Server
	}{
		{"dovecot", func(t *testing.T) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) }},
		{"cyrus", func(t *testing.T) *servers.Server { return servers.StartCyrus(t) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			l := newLab(t, v.start(t), labOptions{watch: "idle"})
			t.Run("thunderbird", func(t *testing.T) { thunderbird(newAccount(t, l, servers.User(1))) })
			l.nobodySentAway(t)
		})
	}
}

const preferences = `
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.identity.id1.useremail", "ben@example.org");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.hostname", "localhost");
user_pref("mail.server.server1.port", %s);
user_pref("mail.server.server1.userName", "%s");
user_pref("mail.server.server1.socketType", 0);
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.use_idle", true);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.check_new_mail", true);
user_pref("mail.server.server1.check_time", 1);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mailnews.default_view_flags", 0);
user_pref("mailnews.default_sort_type", 21);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("app.update.auto", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:9/");
user_pref("marionette.port", %s);
`

// inbox begins each script.
const inbox = `
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.getAccount("account1").incomingServer;
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox) || server.rootFolder.getChildNamed("INBOX");
const pane = window.document.getElementById("tabmail").currentAbout3Pane;
`

// thunderbird shows INBOX; a row of its list is chosen and deleted as with the key,
// which moves the message to Trash.
func thunderbird(a *account) {
	a.seed("seed", "")
	if a.l.server.Kind == "cyrus" {
		a.other.MustOK("CREATE Trash")
	}
	_, display := servers.FreeAddr(a)
	display = ":" + display[len(display)-3:]
	servers.Start(a, "Xvfb", exec.Command("Xvfb", display, "-screen", "0", "1280x900x24", "-nolisten", "tcp"))
	addr, port := servers.FreeAddr(a)
	plain := a.l.Plain[strings.LastIndexByte(a.l.Plain, ':')+1:]
	a.file("user.js", fmt.Sprintf(preferences, plain, a.user, port))
	cmd := a.command("thunderbird", "--no-remote", "--profile", a.home, "--marionette", "--remote-allow-system-access")
	cmd.Env = append(cmd.Env, "DISPLAY="+display, "MOZ_CRASHREPORTER_DISABLE=1")
	p := servers.Start(a, "thunderbird", cmd)
	m := newMarionette(a, addr)
	a.eventually("its window", func() error {
		a.runs(p)
		var ready bool
		err := m.run(&ready, `return !!window.document.getElementById("tabmail")?.currentAbout3Pane?.displayFolder;`)
		if err == nil && !ready {
			err = fmt.Errorf("it isn't there yet")
		}
		return err
	})
	must(a, m.run(nil, inbox+`server.password = arguments[0]; server.rootFolder.updateFolder(null); server.performExpand(null);`, servers.Password))
	a.eventually("INBOX", func() error { return m.run(nil, inbox+`pane.displayFolder(inbox.URI);`) })
	lists := func() {
		a.Helper()
		a.eventually("the list", func() error {
			a.runs(p)
			var got []string
			if err := m.run(&got, inbox+`
				const view = pane.gDBView, all = [];
				for (let i = 0; i < view.rowCount; i++) all.push(view.getMsgHdrAt(i).mime2DecodedSubject);
				return all;`); err != nil {
				return err
			}
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(a.have)); !slices.Equal(got, want) {
				return fmt.Errorf("it has\n%v, want\n%v", got, want)
			}
			return nil
		})
	}
	lists()
	var trash []string
	a.rounds(func() {
		a.parked()
		a.expunge(a.any(""))
		a.deliver(mail{"new", ""}, mail{"new", ""}, mail{"new", ""})
		lists()

		a.parked()
		victim := a.any("")
		other := a.any("")
		for other == victim {
			other = a.any("")
		}
		a.expunge(other) // it may not have heard of that yet
		must(a, m.run(nil, inbox+`
			const view = pane.gDBView;
			for (let i = 0; i < view.rowCount; i++) {
				if (view.getMsgHdrAt(i).mime2DecodedSubject != arguments[0]) continue;
				pane.threadTree.selectedIndex = i;
				pane.goDoCommand("cmd_delete");
				return;
			}
			throw new Error("not there");`, victim))
		a.gone(victim)
		trash = append(trash, victim)
		a.settles("Thunderbird deleted " + victim)
		a.eventually("Trash", func() error {
			if got := a.subjects("Trash"); !slices.Equal(got, trash) {
				return fmt.Errorf("it has\n%v, want\n%v", got, trash)
			}
			return nil
		})
		lists()
	})
	a.runs(p)
}
