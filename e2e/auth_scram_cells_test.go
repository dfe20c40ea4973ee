package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// scramLogin logs in by SCRAM-SHA-256 without channel binding.
func scramLogin(c *imaptest.Client, user, password string) imaptest.Answer {
	client, err := scram.SHA256.NewClientUnprepped(user, password, "")
	if err != nil {
		panic(err) // such names can't be
	}
	conversation := client.NewConversation()
	c.Write("x AUTHENTICATE SCRAM-SHA-256")
	said := ""
	for {
		r := c.Read()
		if r.Tag() != "+" {
			return imaptest.Answer{Tagged: r}
		}
		if text := strings.TrimSpace(strings.TrimPrefix(r.String(), "+")); text != "" {
			said = decoded(text)
		}
		if conversation.Valid() {
			c.Write("")
			continue
		}
		next, err := conversation.Step(said)
		if err != nil {
			panic(err) // the server's proof is wrong
		}
		c.Write(base64.StdEncoding.EncodeToString([]byte(next)))
	}
}

// decoded is a challenge without its base64.
func decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err) // servers know base64
	}
	return string(b)
}

// firstMessage sends a first message that no client makes, and is told the end.
func firstMessage(message string) func(c *imaptest.Client, _, _ string) imaptest.Answer {
	return func(c *imaptest.Client, _, _ string) imaptest.Answer {
		return c.Cmd("AUTHENTICATE SCRAM-SHA-256 %s", base64.StdEncoding.EncodeToString([]byte(message)))
	}
}

// By SCRAM, too, each source decides about all that a client may send, and what becomes of a login while the source is slow, hangs, is
// down and starts again.
func TestAuthSCRAMCells(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	folder := servers.Folder(t)
	right := scramKeys(t, "SCRAM-SHA-256", rightPassword, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p")
	wide := scramKeys(t, "SCRAM-SHA-256", wideA, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p")
	locked := scramKeys(t, "SCRAM-SHA-256", lockedPassword, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p")
	secret := filepath.Join(folder, "scram.secret")
	writeFile(t, secret, "of-the-proxies-0123456789abcdefghij\n")
	start := func(t *testing.T, source string) *runningProxy {
		return startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Further: fmt.Sprintf("users {\n  scram_secret_file = %q\n}\n", secret) + source})
	}
	type running struct {
		*holder
		proxy   *runningProxy
		process *servers.Process // nil: it is none of its own
		again   func()
	}
	for source, starts := range map[string]func(t *testing.T) running{
		"passwd_file": func(t *testing.T) running {
			file := filepath.Join(folder, "users")
			writeFile(t, file, servers.User(1)+":"+right+"\n"+servers.User(2)+":"+wide+"\n"+servers.User(3)+":"+locked+"::::::nologin\n")
			return running{proxy: start(t, fmt.Sprintf("auth \"passwd_file\" {\n  path = %q\n  scram = [\"SCRAM-SHA-256\"]\n}\n", file))}
		},
		"sql": func(t *testing.T) running {
			db := servers.StartPostgres(t)
			db.Exec(fmt.Sprintf("CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT, allowed BOOLEAN);\nINSERT INTO users VALUES ('%s', '%s', TRUE), ('%s', '%s', TRUE), ('%s', '%s', FALSE);\n",
				servers.User(1), right, servers.User(2), wide, servers.User(3), locked))
			h := hold(t, db.Addr, "")
			password := filepath.Join(folder, "sql.password")
			writeFile(t, password, servers.DatabasePassword+"\n")
			return running{h, start(t, fmt.Sprintf("auth \"sql\" {\n  driver = \"postgres\"\n  dsn = %q\n  password_file = %q\n  query = \"SELECT password, allowed FROM users WHERE name = %%u\"\n  scram = [\"SCRAM-SHA-256\"]\n  timeout = \"3s\"\n}\n",
				strings.ReplaceAll(db.DSN, db.Addr, h.Addr), password)), db.Process, db.Start}
		},
		"ldap": func(t *testing.T) running {
			keys := func(user, keys, kind string) string {
				return person(user, "of-the-bind", "employeeType: "+kind+"\ndescription: "+keys+"\n")
			}
			directory := servers.StartSlapd(t, keys(servers.User(1), right, "mail")+keys(servers.User(2), wide, "mail")+keys(servers.User(3), locked, "gone"))
			h := hold(t, strings.Trim(strings.TrimPrefix(directory.TLSURL, "ldaps:"), "/"), "")
			password := filepath.Join(folder, "bind.password")
			writeFile(t, password, servers.DirectoryPassword+"\n")
			_, port, _ := net.SplitHostPort(h.Addr)
			return running{h, start(t, fmt.Sprintf("auth \"ldap\" {\n  url = \"ldaps://localhost:%s\"\n  ca_file = %q\n  base = \"ou=people,dc=example,dc=org\"\n  filter = \"(uid=%%u)\"\n  allow = \"(employeeType=mail)\"\n  bind_dn = %q\n"+
				"  password_file = %q\n  scram_attribute = \"description\"\n  scram = [\"SCRAM-SHA-256\"]\n  timeout = \"3s\"\n}\n",
				port, directory.Cert.CertFile, servers.DirectoryReader, password)), directory.Process, directory.Start}
		},
	} {
		t.Run(source, func(t *testing.T) {
			const mechanism = "SCRAM-SHA-256"
			s := starts(t)
			p, user := s.proxy, servers.User(1)
			in := cell{"right", user, rightPassword, "", ""}
			wrong := cell{"wrong", user, wrongPassword, "AUTHENTICATIONFAILED", "bad_password"}
			for _, c := range []cell{
				in, wrong,
				{"right, 8-bit", servers.User(2), wideA, "", ""},
				{"another's", servers.User(2), rightPassword, "AUTHENTICATIONFAILED", "bad_password"},
				{"8-bit, not UTF-8", servers.User(2), "pw-Gr\xfcn", "AUTHENTICATIONFAILED", "bad_password"},
				{"unknown", "nobody", rightPassword, "AUTHENTICATIONFAILED", "unknown_user"},
				{"locked", servers.User(3), lockedPassword, "AUTHENTICATIONFAILED", "account_disabled"},
				{"empty", user, "", "AUTHENTICATIONFAILED", "bad_password"},
				{"long", user, strings.Repeat("pw-Long.", 800), "AUTHENTICATIONFAILED", "bad_password"}, // isn't sent
				{"injection", "x)(uid=" + user, rightPassword, "AUTHENTICATIONFAILED", "unknown_user"},
				{"injection", "x'OR'1'='1", rightPassword, "AUTHENTICATIONFAILED", "unknown_user"},
				{"injection", user + ":" + right, rightPassword, "AUTHENTICATIONFAILED", "unknown_user"},
				{"injection", "user00*", rightPassword, "AUTHENTICATIONFAILED", "bad_name"},
			} {
				p.cell(t, source, mechanism, c, scramLogin)
			}
			for what, c := range map[string]struct{ message, code, reason string }{
				"NUL":                            {"n,,n=" + user + "\x00,r=abcdefgh", "AUTHENTICATIONFAILED", "malformed"},
				"8-bit, not UTF-8":               {"n,,n=\xfc,r=abcdefgh", "AUTHENTICATIONFAILED", "bad_name"},
				"empty name":                     {"n,,n=,r=abcdefgh", "AUTHENTICATIONFAILED", "malformed"},
				"no nonce":                       {"n,,n=" + user, "AUTHENTICATIONFAILED", "malformed"},
				"a bad escape":                   {"n,,n=a=2Db,r=abcdefgh", "AUTHENTICATIONFAILED", "malformed"},
				"line break":                     {"n,,n=" + user + "\r\nx,r=abcdefgh", "AUTHENTICATIONFAILED", "bad_name"},
				"an unknown mandatory extension": {"n,,m=x,n=" + user + ",r=abcdefgh", "AUTHENTICATIONFAILED", "malformed"},
			} {
				p.cell(t, source, mechanism, cell{what, user, "none", c.code, c.reason}, firstMessage(c.message))
			}
			c := imaptest.Dial(t, p.Plain)
			_ = c.Send("x AUTHENTICATE " + mechanism + " " + strings.Repeat("QUFB", 1<<18))
			if said := c.ExpectEOF(); !slices.ContainsFunc(said, func(r imaptest.Response) bool { return strings.Contains(r.Text, "BYE [TOOBIG]") }) {
				t.Errorf("1 MB: %v", said)
			}
			if s.process != nil {
				for _, c := range []cell{{"slow, right", user, rightPassword, "", ""}, {"slow, wrong", user, wrongPassword, "AUTHENTICATIONFAILED", "bad_password"}} {
					s.holdOn()
					p.cell(t, source, mechanism, c, s.lets(t, scramLogin))
				}
				unavailable := func(what string) {
					t.Helper()
					p.cell(t, source, mechanism, cell{what, user, rightPassword, "UNAVAILABLE", "unavailable"}, scramLogin)
				}
				again := func(what string) {
					t.Helper()
					p.eventually(t, what, func() error {
						c := imaptest.Dial(t, p.Plain)
						defer c.Close()
						if a := scramLogin(c, user, rightPassword); !a.OK() {
							return fmt.Errorf("%s", a.Tagged)
						}
						return nil
					})
				}
				s.process.Freeze()
				unavailable("hangs")
				s.process.Thaw()
				again("thawed")
				s.process.Stop()
				unavailable("down")
				s.again()
				again("restarted")
			}
			p.toldNoSecrets(t, right[40:], wide[40:], locked[40:], "of-the-proxies-0123456789abcdefghij", servers.DirectoryPassword, servers.DatabasePassword)
		})
	}
}
