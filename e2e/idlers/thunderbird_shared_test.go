//go:build thunderbird

package idlers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
)

// sharedPassword is that of every user as a master user.
const sharedPassword = "pw-Shared.1"

// Thunderbird shows a mailbox that a user of another Dovecot shares.
func TestThunderbirdUsesASharedMailbox(t *testing.T) {
	servers.Real(t)
	extra := "passdb {\n  driver = static\n  args = password=" + sharedPassword + "\n  master = yes\n  result_success = continue\n  override_fields = userdb_acl_user=%u\n}\n"
	if servers.DovecotRelease(t) == "2.4" {
		extra = "passdb shared {\n  driver = static\n  passdb_static_password = " + sharedPassword + "\n  master = yes\n  result_success = continue\n  fields {\n    userdb_acl_user = %{user}\n  }\n}\n"
	}
	user, owner := servers.User(1), servers.User(2)
	first, second := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1", Extra: extra}), servers.StartDovecot(t, servers.DovecotOptions{Name: "d2", Extra: extra})
	dir := servers.Folder(t)
	users, password := filepath.Join(dir, "users"), filepath.Join(dir, "password")
	must(t, os.WriteFile(users, fmt.Appendf(nil, "%s:{PLAIN}%s::::::backend=b1\n%s:{PLAIN}%s::::::backend=b2\n", user, servers.Password, owner, servers.Password), 0o600))
	must(t, os.WriteFile(password, []byte(sharedPassword+"\n"), 0o600))
	l := newLab(t, first, labOptions{watch: "idle", compress: true, change: func(c *apptest.Config) {
		c.Storage, c.Auth = "separate", fmt.Sprintf("auth \"passwd_file\" {\n  path = %q\n}\n", users)
		c.Discovery = fmt.Sprintf("discovery \"static\" {\n  backend \"b1\" { address = %q }\n  backend \"b2\" { address = %q }\n  probe {\n    interval = \"1h\"\n    timeout = \"1m\"\n  }\n}\n", first.Addr, second.Addr)
		c.More = fmt.Sprintf("shared {\n  namespace = \"others/\"\n  owner_login = \"master\"\n  password_file = %q\n}\n", password)
	}})
	t.Run("thunderbird", func(t *testing.T) {
		other := imaptest.Dial(t, second.Addr)
		other.Login(owner, servers.Password)
		sharedThunderbird(newAccount(t, l, user), other, owner)
	})
	l.nobodySentAway(t)
}

// sharedThunderbird opens an owner's mailbox, hears what the owner does to it, reads a message there, and deletes one, which is a move to the user's own Trash.
func sharedThunderbird(a *account, owner *imaptest.Client, name string) {
	owner.MustOK("CREATE team")
	owner.MustOK("SETACL team %s lrswite", a.user)
	owner.MustOK("SELECT team")
	var team []string
	delivers := func() {
		a.count++
		subject := fmt.Sprintf("team-%04d", a.count)
		text := message(subject)
		owner.MustOK("APPEND team {%d+}\r\n%s", len(text), text)
		team = append(team, subject)
	}
	removes := func(subject string) {
		found, _ := owner.MustOK("UID SEARCH HEADER SUBJECT %s", subject).Find("SEARCH")
		uid := found.Text[strings.LastIndexByte(found.Text, ' ')+1:]
		owner.MustOK(`UID STORE %s +FLAGS.SILENT (\Deleted)`, uid)
		owner.MustOK("UID EXPUNGE %s", uid)
		team = slices.DeleteFunc(team, func(s string) bool { return s == subject })
	}
	for range seeded {
		delivers()
	}
	a.seed("own", "")
	b := newBird(a)
	a.eventually("the shared mailbox", func() error {
		var got string
		if err := b.m.run(&got, inbox+`
			for (const f of server.rootFolder.descendants) {
				if (!f.URI.endsWith(arguments[0])) continue;
				pane.displayFolder(f.URI);
				return "";
			}
			return server.rootFolder.descendants.map(f => f.URI).join(" ");`, "/others/"+name+"/team"); err != nil {
			return err
		}
		if got != "" {
			return fmt.Errorf("it has %s", got)
		}
		return nil
	})
	b.listsAll("team", team)
	for range 2 {
		delivers()
		removes(team[a.rand.IntN(len(team)-1)])
		b.listsAll("team", team)
		victim := team[a.rand.IntN(len(team))]
		b.choose(victim, "")
		a.eventually("what the user has read", func() error {
			owner.MustOK("NOOP")
			if found, _ := owner.MustOK("UID SEARCH SEEN HEADER SUBJECT %s", victim).Find("SEARCH"); len(strings.Fields(found.Text)) != 3 {
				return fmt.Errorf("%s isn't: %q", victim, found.Text)
			}
			return nil
		})
		b.choose(victim, `pane.goDoCommand("cmd_delete");`)
		team = slices.DeleteFunc(team, func(s string) bool { return s == victim })
		b.trash = append(b.trash, victim)
		b.listsAll("team", team)
		a.eventually("team at its owner's", func() error {
			owner.MustOK("NOOP")
			if found, _ := owner.MustOK("UID SEARCH ALL").Find("SEARCH"); len(strings.Fields(found.Text))-2 != len(team) {
				return fmt.Errorf("it has %q, want %v", found.Text, team)
			}
			return nil
		})
		a.eventually("Trash", func() error {
			if got := a.subjects("Trash"); !slices.Equal(got, b.trash) {
				return fmt.Errorf("it has\n%v, want\n%v", got, b.trash)
			}
			return nil
		})
		b.content()
	}
	if n := a.l.tally(a.user); n.compressed < n.sessions {
		a.Errorf("%d of its %d sessions were compressed", n.compressed, n.sessions)
	}
	must(a, b.m.run(nil, inbox+`pane.displayFolder(inbox.URI);`))
	b.lists()
}
