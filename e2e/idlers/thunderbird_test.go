//go:build thunderbird

package idlers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
	"imapproxy/proxy"
)

// Thunderbird, without a screen: it is too big for ./test, so `make clients` runs it.
func TestThunderbird(t *testing.T) {
	servers.Real(t)
	for _, v := range []struct {
		name     string
		compress bool
		start    func(t *testing.T) *servers.Server
	}{
		{"dovecot", false, func(t *testing.T) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) }},
		{"dovecot-compressed", true, func(t *testing.T) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) }},
		{"cyrus", false, func(t *testing.T) *servers.Server { return servers.StartCyrus(t) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			l := newLab(t, v.start(t), labOptions{watch: "idle", compress: v.compress})
			l.restart = newRestart()
			l.restart.joins()
			t.Run("thunderbird", func(t *testing.T) { parkedThunderbird(newAccount(t, l, servers.User(1))) })
			if n := l.tally(servers.User(1)); v.compress && n.compressed < n.sessions || !v.compress && n.compressed > 0 {
				t.Errorf("%d of its %d sessions were compressed", n.compressed, n.sessions)
			}
			l.nobodySentAway(t)
		})
	}
}

// Its server is killed while it idles, parked and attached, and in both states before and in the middle of
// the answer that has a message's text.
func TestThunderbirdsServerIsKilled(t *testing.T) {
	servers.Real(t)
	for _, v := range []struct {
		name   string
		linger time.Duration
	}{
		{"parked", lingerFor},
		{"attached", 20 * time.Minute},
	} {
		t.Run(v.name, func(t *testing.T) {
			server := servers.StartDovecot(t, servers.DovecotOptions{})
			tap := imaptest.NewTap(t, server.Addr)
			l := newLab(t, server, labOptions{watch: "idle", backend: tap.Addr, linger: v.linger})
			t.Run("thunderbird", func(t *testing.T) { killedThunderbird(newAccount(t, l, servers.User(1)), tap, v.name) })
			l.nobodySentAway(t)
		})
	}
}

// preferences have the account, and what keeps Thunderbird from asking the Internet: what it asks all the same goes to an HTTP
// proxy of the test.
const preferences = `
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.identity.id1.useremail", "ben@example.org");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.hostname", "%[5]s");
user_pref("mail.server.server1.port", %[1]s);
user_pref("mail.server.server1.userName", "%[2]s");
user_pref("mail.server.server1.socketType", 0);
user_pref("mail.server.server1.authMethod", %[6]d);
user_pref("mail.server.server1.use_idle", true);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.check_new_mail", true);
user_pref("mail.server.server1.check_time", 1);
user_pref("mail.server.server1.offline_download", false);
user_pref("mail.server.server1.autosync_offline_stores", false);
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
user_pref("app.update.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.systemAddon.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", %[4]s);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", %[4]s);
user_pref("network.proxy.no_proxies_on", "localhost, 127.0.0.1");
user_pref("marionette.port", %[3]s);
`

// inbox begins each script.
const inbox = `
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.getAccount("account1").incomingServer;
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox) || server.rootFolder.getChildNamed("INBOX");
const pane = window.document.getElementById("tabmail").currentAbout3Pane;
`

// told has the messages that Thunderbird shows its user: alerts of its connections, and dialogs.
const told = inbox + `
window.told = [];
MailServices.mailSession.addUserFeedbackListener({
	QueryInterface: ChromeUtils.generateQI(["nsIMsgUserFeedbackListener"]),
	onAlert(message) { window.told.push("alert: " + message); return false; },
	onCertError() { window.told.push("a certificate"); },
});
const dialogs = { observe(subject) { window.told.push("dialog: " + (subject.ownerGlobal?.document?.documentElement?.textContent ?? subject)); } };
Services.obs.addObserver(dialogs, "common-dialog-loaded");
Services.ww.registerNotification({ observe(subject, topic) { if (topic == "domwindowopened") window.told.push("a window"); } });
`

// A bird is a Thunderbird that shows INBOX.
type bird struct {
	*account
	p     *servers.Process
	m     *marionette
	trash []string // the subjects of what it has deleted

	mu    sync.Mutex // guards asked
	asked []string   // of the Internet
}

// newBird starts a Thunderbird whose password is in its own store, and shows INBOX.
func newBird(a *account) *bird {
	a.Helper()
	b := startBird(a, "localhost", byPassword)
	must(a, b.m.run(nil, inbox+`
		const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
		login.init("imap://localhost", null, "imap://localhost", arguments[0], arguments[1], "", "");
		return Services.logins.addLoginAsync(login);`, a.user, servers.Password))
	b.opens()
	return b
}

// opens has it log in, and show INBOX.
func (b *bird) opens() {
	b.Helper()
	must(b, b.m.run(nil, connects))
	b.eventually("INBOX", func() error { return b.m.run(nil, inbox+`pane.displayFolder(inbox.URI);`) })
	b.lists()
}

// connects has it ask the server for its folders.
const connects = inbox + `
	server.rootFolder.updateFolder(null);
	server.performExpand(null);
`

// How it logs in: authMethod in its preferences.
const (
	byPassword = 3
	byOAuth    = 10
)

// startBird starts a Thunderbird with an account at the proxy, under one of its names, which has not logged in yet.
func startBird(a *account, host string, authMethod int) *bird {
	a.Helper()
	b := &bird{account: a}
	internet, err := net.Listen("tcp", "127.0.0.1:0")
	must(a, err)
	refuses := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked = append(b.asked, r.Method+" "+r.URL.String()+" "+r.Host)
			http.Error(w, "there is no Internet", http.StatusBadGateway)
		}),
		ReadHeaderTimeout: patience,
	}
	serving := task.Start(func(context.Context) error { return refuses.Serve(internet) })
	a.Cleanup(func() {
		must(a, refuses.Close())
		if err := serving.Stop(); !errors.Is(err, http.ErrServerClosed) {
			a.Error(err)
		}
	})
	if a.l.server.Kind == "cyrus" {
		a.other.MustOK("CREATE Trash")
	}
	addr, port := servers.FreeAddr(a)
	_, plain, _ := net.SplitHostPort(a.l.Plain)
	_, proxy, _ := net.SplitHostPort(internet.Addr().String())
	a.file("user.js", fmt.Sprintf(preferences, plain, a.user, port, proxy, host, authMethod))
	cmd := a.command("thunderbird", "--headless", "--no-remote", "--profile", a.home, "--marionette", "--remote-allow-system-access")
	cmd.Env = append(cmd.Env, "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_REMOTE_SETTINGS_DEVTOOLS=1") // the second: services.settings.server holds
	b.p = servers.Start(a, "thunderbird", cmd)
	b.m = newMarionette(a, addr)
	a.eventually("its window", func() error {
		a.runs(b.p)
		var ready bool
		err := b.m.run(&ready, `return !!window.document.getElementById("tabmail")?.currentAbout3Pane?.displayFolder;`)
		if err == nil && !ready {
			err = fmt.Errorf("it isn't there yet")
		}
		return err
	})
	must(a, b.m.run(nil, told))
	return b
}

// lists waits until it shows what INBOX has to have.
func (b *bird) lists() {
	b.Helper()
	b.listsAll("INBOX", b.have)
}

// listsAll waits until it shows these messages of the mailbox that is open.
func (b *bird) listsAll(mailbox string, subjects []string) {
	b.Helper()
	b.eventually("the list of "+mailbox, func() error {
		b.runs(b.p)
		var got []string
		if err := b.m.run(&got, inbox+`
			const view = pane.gDBView, all = [];
			for (let i = 0; i < view.rowCount; i++) all.push(view.getMsgHdrAt(i).mime2DecodedSubject);
			return all;`); err != nil {
			return err
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(subjects)); !slices.Equal(got, want) {
			return fmt.Errorf("it has\n%v, want\n%v", got, want)
		}
		return nil
	})
}

// choose has a message's row chosen, as a click does, and then something done with it.
func (b *bird) choose(subject, then string) {
	b.Helper()
	must(b, b.m.run(nil, inbox+`
		const view = pane.gDBView;
		for (let i = 0; i < view.rowCount; i++) {
			if (view.getMsgHdrAt(i).mime2DecodedSubject != arguments[0]) continue;
			pane.threadTree.selectedIndex = i;
			`+then+`
			return;
		}
		throw new Error("not there");`, subject))
}

// deletes has a message deleted as with the key, which moves it to Trash, and looks at the server for it.
func (b *bird) deletes(victim string) {
	b.Helper()
	b.choose(victim, `pane.goDoCommand("cmd_delete");`)
	b.gone(victim)
	b.trash = append(b.trash, victim)
	b.settles("Thunderbird deleted " + victim)
	b.eventually("Trash", func() error {
		if got := b.subjects("Trash"); !slices.Equal(got, b.trash) {
			return fmt.Errorf("it has\n%v, want\n%v", got, b.trash)
		}
		return nil
	})
	b.lists()
}

// shows waits until the message that was chosen is shown to its end.
func (b *bird) shows(lines int) {
	b.Helper()
	b.eventually("the message's text", func() error {
		b.runs(b.p)
		var text string
		if err := b.m.run(&text, `return window.document.getElementById("tabmail").currentAboutMessage?.getMessagePaneBrowser()?.contentDocument?.body?.textContent ?? "";`); err != nil {
			return err
		}
		n := 0
		for i := range lines {
			if strings.Contains(text, bigLine(i)) {
				n++
			}
		}
		if n != lines {
			return fmt.Errorf("%d of %d lines are shown", n, lines)
		}
		return nil
	})
}

// content says that Thunderbird has told its user nothing, and asked nothing of the Internet.
func (b *bird) content() {
	b.Helper()
	var got []string
	must(b, b.m.run(&got, `return window.told;`))
	if len(got) > 0 {
		b.Errorf("Thunderbird tells its user: %q", got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) > 0 {
		b.Errorf("Thunderbird asks the Internet: %q", b.asked)
	}
	b.runs(b.p)
}

// parkedThunderbird is parked in each round while others change the mailbox.
func parkedThunderbird(a *account) {
	a.seed("seed", "")
	parkedBird(a, newBird(a))
}

func parkedBird(a *account, b *bird) {
	a.rounds(func() {
		a.parked()
		a.expunge(a.any(""))
		a.deliver(mail{"new", ""}, mail{"new", ""}, mail{"new", ""})
		b.lists()

		a.parked()
		victim := a.any("")
		other := a.any("")
		for other == victim {
			other = a.any("")
		}
		a.expunge(other) // it may not have heard of that yet
		b.deletes(victim)
		b.content()
	})
}

// bigLines are a message's: more than Thunderbird fetches at once.
const bigLines = 5000

func bigLine(i int) string { return fmt.Sprintf("This is line %06d of the text.", i) }

// killedThunderbird idles, and shows messages, while its server is killed and started again.
func killedThunderbird(a *account, tap *imaptest.Tap, state string) {
	a.seed("seed", "")
	b := newBird(a)
	kill := func() {
		a.l.server.Process.Kill()
		a.l.server.StartAgain(a.l.t)
		a.again()
	}
	works := func() {
		a.Helper()
		a.deliver(mail{"new", ""})
		b.lists()
		a.idles(state)
		b.deletes(a.any("seed"))
		a.idles(state)
		b.content()
	}
	a.idles(state)
	kill()
	works()
	for _, at := range []struct{ name, line string }{
		{"before the answer", "BODY[]"},
		{"in the answer", bigLine(500)},
	} {
		a.count++
		subject := fmt.Sprintf("big-%04d", a.count)
		text := message(subject)
		for i := range bigLines {
			text += bigLine(i) + "\r\n"
		}
		a.other.MustOK("APPEND INBOX {%d+}\r\n%s", len(text), text)
		a.have = append(a.have, subject)
		b.lists()
		a.idles(state)
		reached, killed := make(chan struct{}), make(chan struct{})
		var first sync.Once
		tap.OnDown(func(_ *imaptest.Tapped, line string) (goes bool) {
			goes = true
			if strings.Contains(line, at.line) {
				first.Do(func() {
					close(reached)
					<-killed
					goes = false
				})
			}
			return goes
		})
		b.choose(subject, "")
		select {
		case <-reached:
		case <-time.After(patience):
			a.Fatalf("Thunderbird doesn't fetch %s", subject)
		}
		a.l.server.Process.Kill()
		close(killed)
		a.l.server.StartAgain(a.l.t)
		a.again()
		b.shows(bigLines)
		a.Logf("%s: shown in whole", at.name)
		works()
	}
}

// idles waits until the client idles, parked or attached, and has all of its answers.
func (a *account) idles(state string) {
	a.Helper()
	if state == "parked" {
		a.parked()
		return
	}
	a.eventually("a session of "+a.user+" to idle", func() error {
		page, _ := a.l.srv.Sessions(proxy.Filter{User: a.user})
		idle := 0
		for _, s := range page {
			switch {
			case s.Attachment != state:
				return fmt.Errorf("%s, want %s", s.Attachment, state)
			case s.Idle:
				idle++
			case s.InFlight > 0:
				return fmt.Errorf("%d commands in flight", s.InFlight)
			}
		}
		if idle == 0 {
			return fmt.Errorf("none of %d does", len(page))
		}
		return nil
	})
}
