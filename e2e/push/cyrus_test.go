package push

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// notifyProgram puts contrib/cyrus/notify, with a file for each proxy, where
// Cyrus's notifyd may run it.
func notifyProgram(t *testing.T, urls ...string) string {
	t.Helper()
	program := filepath.Join(servers.Folder(t), "notify")
	writeFile(t, program, repository(t, "contrib/cyrus/notify"), 0o755)
	for i, url := range urls {
		writeFile(t, fmt.Sprintf("%s.d/%d.conf", program, i), fmt.Sprintf("url = %q\nheader = %q\n", url, "Authorization: Bearer "+token), 0o644)
	}
	return program
}

func TestCyrusTellsOfEveryChange(t *testing.T) {
	for _, names := range []struct{ altnamespace, unixhierarchysep, virtdomains, prefix, sep, others string }{
		{"yes", "yes", "off", "", "/", "Other Users/"},
		{"no", "yes", "off", "INBOX/", "/", "user/"},
		{"no", "no", "off", "INBOX.", ".", "user."},
		{"yes", "no", "userid", "", ".", "Other Users."},
	} {
		t.Run(fmt.Sprintf("altnamespace=%s,unixhierarchysep=%s,virtdomains=%s", names.altnamespace, names.unixhierarchysep, names.virtdomains), func(t *testing.T) {
			servers.Real(t)
			l := listen(t)
			s := servers.StartCyrusWith(t, servers.CyrusOptions{Notify: notifyProgram(t, l.url), Settings: map[string]string{
				"altnamespace": names.altnamespace, "unixhierarchysep": names.unixhierarchysep, "virtdomains": names.virtdomains,
			}})
			c := everyChange(t, l, s, 1, names.prefix, names.sep, map[string]string{
				"Entw&APw-rfe": "Entwürfe", "a b": "a b", "x&-y": "x&y", "q?u#": "q?u#", "p+q": "p+q", "a@b": "a@b",
			})

			// What another does in a shared mailbox is told of its owner.
			c.MustOK(`SETACL INBOX %s lrswipte`, servers.User(2))
			l.expect("SETACL", servers.User(1)+" INBOX")
			l.fresh(c, servers.User(1), names.prefix)
			appendTo(login(t, s, 2), names.others+servers.User(1))
			l.expect("APPEND by another user", servers.User(1)+" INBOX")

			c = imaptest.Dial(t, s.Addr)
			if a := c.Plain(servers.User(3), servers.MasterUser, servers.MasterPassword); !a.OK() {
				t.Fatal(a)
			}
			c.MustOK("SELECT INBOX")
			appendTo(c, "INBOX")
			l.expect("APPEND by way of the master", servers.User(3)+" INBOX")
			if st := l.events.Stats(); st.Malformed+st.Unauthorized+st.BadUser != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestCyrusWithAProxyThatHangs: no command waits, and the other proxy is told of
// all, later.
func TestCyrusWithAProxyThatHangs(t *testing.T) {
	servers.Real(t)
	l := listen(t)
	hang := make(chan struct{})
	stuck := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer close(hang)
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Notify: notifyProgram(t, stuck, l.url)})
	c := login(t, s, 1)
	l.expect("the first login", servers.User(1)+" INBOX")
	started := time.Now()
	appendTo(c, "INBOX")
	appendTo(c, "INBOX")
	if took := time.Since(started); took > 1500*time.Millisecond {
		t.Errorf("two APPENDs took %v: Cyrus doesn't wait for its events", took)
	}
	l.expect("APPEND", servers.User(1)+" INBOX")
}

// TestCyrusTellsOneOfSeveral: proxies that tell each other. The first that takes an event is the only
// one that gets it.
func TestCyrusTellsOneOfSeveral(t *testing.T) {
	servers.Real(t)
	second, third := listen(t), listen(t)
	addr, _ := servers.FreeAddr(t)
	program := notifyProgram(t, "http://"+addr+"/v1/events", second.url, third.url)
	writeFile(t, program+".d/one", "", 0o644)
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Notify: program})
	c := login(t, s, 1)
	for range 3 {
		appendTo(c, "INBOX")
	}
	second.expect("APPEND, the first being down", servers.User(1)+" INBOX")
	second.fresh(c, servers.User(1), "")
	if n := third.requests(); n != 0 {
		t.Errorf("%d requests to one behind the one that takes them", n)
	}
}

func TestCyrusTellsOfWhatCanBeSeen(t *testing.T) {
	servers.Real(t)
	l := listen(t)
	changesAreSeen(t, l, servers.StartCyrusWith(t, servers.CyrusOptions{Notify: notifyProgram(t, l.url)}))
}
