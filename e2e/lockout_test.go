package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// sessionsOf asks the proxy where a user's sessions stand.
func (p *runningProxy) sessionsOf(t *testing.T, token, user string) (attachments []string) {
	t.Helper()
	var all struct{ Sessions []struct{ Attachment string } }
	out, err := exec.Command(os.Getenv(proxyBinary), "sessions", "--admin", p.Admin, "--token-file", token, "--json", "--user", user).Output()
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range all.Sessions {
		attachments = append(attachments, s.Attachment)
	}
	return attachments
}

// behindAlive is the next response that doesn't only say that the proxy is there.
func behindAlive(c *imaptest.Client) imaptest.Response {
	for {
		if r := c.Read(); !strings.HasPrefix(r.Text, "* OK Still here") {
			return r
		}
	}
}

// The proxy logs in as a master, so that the backend doesn't know of a user who was locked in the
// passwd-file: their parked session must not read what comes after.
func TestALockedUsersParkedSessionReadsNoNewMail(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *servers.Server{
		func(t testing.TB) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) },
		servers.StartCyrus,
	} {
		server := start(t)
		t.Run(server.Name, func(t *testing.T) {
			dir := servers.Folder(t)
			passwd, token := filepath.Join(dir, "users.passwd"), filepath.Join(dir, "admin.token")
			entry := func(i int, locked string) string {
				return servers.User(i) + ":" + locked + "{PLAIN}" + userPassword + "\n"
			}
			writeFile(t, passwd, entry(1, "")+entry(2, "")+entry(3, ""))
			writeFile(t, token, "of-the-admin\n")
			p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Master: true, PasswdFile: passwd, Linger: "1s", AdminToken: token})
			parked := map[int]*imaptest.Client{}
			for i := 1; i <= 3; i++ {
				c := imaptest.Dial(t, p.Plain)
				c.Login(servers.User(i), userPassword)
				c.MustOK("SELECT INBOX")
				c.Write("i IDLE")
				c.Expect("+{*}")
				parked[i] = c
			}
			deadline := time.Now().Add(imaptest.DefaultTimeout)
			for i := 1; i <= 3; i++ {
				for strings.Join(p.sessionsOf(t, token, servers.User(i)), " ") != "parked" {
					if time.Now().After(deadline) {
						t.Fatalf("%s: %v", servers.User(i), p.sessionsOf(t, token, servers.User(i)))
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
			writeFile(t, passwd+".new", entry(1, "!")+entry(2, "")+entry(3, ""))
			if err := os.Rename(passwd+".new", passwd); err != nil {
				t.Fatal(err)
			}
			if r := behindAlive(parked[1]); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
				t.Errorf("the locked user hears %s", r)
			}
			parked[1].ExpectEOF()
			if a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), userPassword); a.OK() {
				t.Errorf("and logs in: %s", a)
			}

			out, err := exec.Command(os.Getenv(proxyBinary), "kick", "--admin", p.Admin, "--token-file", token, "--json", "--forget", servers.User(2)).Output()
			var kicked struct {
				Proxies []struct {
					Answer struct {
						Sessions []string
						Warm     int `json:"warm_connections"`
					}
				}
			}
			if err != nil || json.Unmarshal(out, &kicked) != nil || len(kicked.Proxies) != 1 || len(kicked.Proxies[0].Answer.Sessions) != 1 || kicked.Proxies[0].Answer.Warm == 0 {
				t.Errorf("kick: %v %s", err, out)
			}
			if r := behindAlive(parked[2]); r.Status() != "BYE" || !strings.Contains(r.Text, "administrator") {
				t.Errorf("who was kicked hears %s", r)
			}
			imaptest.Dial(t, p.Plain).Login(servers.User(2), userPassword) // it locks no user out
			parked[3].Write("DONE")
			if r := behindAlive(parked[3]); r.Tag() != "i" || r.Status() != "OK" {
				t.Errorf("who is let in hears %s", r)
			}
			parked[3].MustOK("UID FETCH 1:* (FLAGS)")
		})
	}
}
