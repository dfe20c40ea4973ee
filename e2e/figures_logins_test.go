//go:build figures

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// cpuOf is the processor time that a process and the processes of its group have used, children that have ended included.
func cpuOf(t *testing.T, pid int) (used time.Duration) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// proc(5): behind the name in parentheses come state, ppid, pgrp, …; utime, stime, cutime and cstime are the 14th to 17th.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if fields[2] != strconv.Itoa(pid) {
			continue
		}
		for _, f := range fields[11:15] {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			used += time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100
		}
	}
	return used
}

// loginBy logs in by a mechanism of the figures.
func loginBy(c *imaptest.Client, mechanism, user, password string) imaptest.Answer {
	if mechanism != "SCRAM-SHA-256" {
		return mechanisms[mechanism](c, user, password)
	}
	return scramLogin(c, user, password)
}

// A front is a proxy whose logins are measured.
type front struct {
	name, addr string
	pid        int

	rate, cpu []float64 // by round: logins a second; milliseconds of processor time a login
}

// round has clients log in and out, each logins times.
func (f *front) round(t *testing.T, mechanism string, clients, logins int) {
	t.Helper()
	begun, before := time.Now(), cpuOf(t, f.pid)
	var g sync.WaitGroup
	for i := range clients {
		g.Go(func() {
			for n := range logins {
				user := servers.User(1 + (i*logins+n)%figureUsers)
				c := imaptest.Dial(t, f.addr)
				if a := loginBy(c, mechanism, user, rightPassword); !a.OK() {
					t.Errorf("%s: %s by %s: %s", f.name, user, mechanism, a.Tagged)
				}
				c.MustOK("LOGOUT")
				_ = c.Conn.Close()
			}
		})
	}
	g.Wait()
	took, all := time.Since(begun), float64(clients*logins)
	f.rate = append(f.rate, all/took.Seconds())
	f.cpu = append(f.cpu, (cpuOf(t, f.pid)-before).Seconds()*1000/all)
}

// figureUsers is the number of users who log in.
const figureUsers = 100

// Logins a second, and the proxy's processor time for each, by source and mechanism, and those of Dovecot's proxy with the same source
// in the same rounds: FIGURE_ROUNDS rounds of FIGURE_LOGINS logins of each of FIGURE_CLIENTS clients. Both proxies log in to the same Dovecot as
// a master, over a new connection for each login. Dovecot's side of LDAP and of PostgreSQL needs the packages dovecot-ldap and dovecot-pgsql, and 2.3.
func TestFigureLoginsBySource(t *testing.T) {
	servers.Real(t)
	service := map[string]string{"2.3": "service_count = 0", "2.4": "restart_request_count = unlimited"}[servers.DovecotRelease(t)]
	backendServer := servers.StartDovecot(t, servers.DovecotOptions{Extra: "service imap {\n  " + service + "\n  client_limit = 1\n  process_min_avail = 16\n}\n"})
	host, backendPort, _ := net.SplitHostPort(backendServer.Addr)
	fields := []string{"proxy=y", "host=" + host, "port=" + backendPort, "master=" + servers.MasterUser, "pass=" + servers.MasterPassword}
	o := proxyOptions{Backends: []backend{{"b1", backendServer.Addr}}, Master: true, Stays: true, Patient: true}
	warm := o
	warm.Stays = false

	keys := scramKeys(t, "SCRAM-SHA-256", rightPassword, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p")
	folder := servers.Folder(t)
	var plain, scrams, withFields, scramsWithFields, entries strings.Builder
	table := "CREATE TABLE users (name VARCHAR(255) PRIMARY KEY, password VARCHAR(255));\n"
	for i := 1; i <= figureUsers; i++ {
		user := servers.User(i)
		plain.WriteString(servers.PasswdLine(user, rightPassword))
		withFields.WriteString(servers.PasswdLine(user, rightPassword, fields...))
		scrams.WriteString(user + ":" + keys + "\n")
		scramsWithFields.WriteString(user + ":" + keys + "::::::" + strings.Join(fields, " ") + "\n")
		entries.WriteString(person(user, rightPassword, "employeeType: mail\n"))
		table += "INSERT INTO users VALUES ('" + user + "', '{PLAIN}" + strings.ReplaceAll(rightPassword, "'", "''") + "');\n"
	}
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		publicFile(t, path, text)
		return path
	}
	secret := file("scram.secret", "of-the-proxies-0123456789abcdefghij\n")
	ofFile := func(o proxyOptions) *runningProxy {
		o.PasswdFile = file("plain", plain.String())
		return startProxy(t, o)
	}
	ofScram := o
	ofScram.Further = fmt.Sprintf("users {\n  scram_secret_file = %q\n}\nauth \"passwd_file\" {\n  path = %q\n  scram = [\"SCRAM-SHA-256\"]\n}\n", secret, file("scram", scrams.String()))
	dovecot := func(passdb, mechanisms string) *front {
		addr, conf := dovecotProxyConf(t, passdb, mechanisms)
		d := servers.StartDovecotFront(t, addr, conf)
		return &front{name: "Dovecot's proxy", addr: addr + ":143", pid: d.Pid()}
	}
	passdb := func(path string) string {
		if servers.DovecotRelease(t) == "2.4" {
			return "passdb passwd-file {\n  passwd_file_path = " + path + "\n  auth_username_format = %{user}\n}\n"
		}
		return "passdb {\n  driver = passwd-file\n  args = username_format=%u " + path + "\n}\n"
	}
	ours := func(name string, p *runningProxy) *front { return &front{name: name, addr: p.Plain, pid: p.Pid()} }

	auth := servers.StartDovecotAuth(t, "plain", plain.String())
	directory := servers.StartSlapd(t, entries.String())
	postgres, mariadb := servers.StartPostgres(t), servers.StartMariaDB(t)
	postgres.Exec(table)
	mariadb.Exec(strings.ReplaceAll(table, `\`, `\\`))
	web := httptest.NewServer(figureService{})
	t.Cleanup(web.Close)
	const query = "SELECT password FROM users WHERE name = %u"
	type measured struct {
		source, mechanism string
		fronts            []*front
	}
	all := []measured{}
	for _, mechanism := range []string{"PLAIN", "LOGIN", "LOGIN-COMMAND"} {
		all = append(all, measured{"passwd_file", mechanism, []*front{ours("imapproxy", ofFile(o)), ours("imapproxy, warm connections", ofFile(warm)),
			dovecot(passdb(file("fields", withFields.String())), "plain login")}})
	}
	all = append(all,
		measured{"passwd_file", "SCRAM-SHA-256", []*front{ours("imapproxy", startProxy(t, ofScram)), dovecot(passdb(file("scram-fields", scramsWithFields.String())), "plain scram-sha-256")}},
		measured{"dovecot", "PLAIN", []*front{ours("imapproxy", checkedProxy(t, auth.Socket, o))}},
		measured{"http", "PLAIN", []*front{ours("imapproxy", httpProxy(t, web.URL+"/auth", o))}},
		measured{"sql, MariaDB", "PLAIN", []*front{ours("imapproxy", sqlProxy(t, "mysql", mariadb.DSN, query, o))}},
	)
	sql := measured{"sql, PostgreSQL", "PLAIN", []*front{ours("imapproxy", sqlProxy(t, "postgres", postgres.DSN, query, o))}}
	ldap := measured{"ldap", "PLAIN", []*front{ours("imapproxy", ldapProxy(t, directory.TLSURL, directory.Cert.CertFile, searchAndBind, o))}}
	if servers.DovecotRelease(t) == "2.3" {
		constant := "'y' AS proxy, '" + host + "' AS host, '" + backendPort + "' AS port, '" + servers.MasterUser + "' AS master, '" + servers.MasterPassword + "' AS pass"
		sqlHost, sqlPort, _ := net.SplitHostPort(postgres.Addr)
		sql.fronts = append(sql.fronts, installed(t, "libdriver_pgsql.so", "dovecot-pgsql", func() *front {
			return dovecot("passdb {\n  driver = sql\n  args = "+file("sql.conf", "driver = pgsql\nconnect = host="+sqlHost+" port="+sqlPort+" dbname=mail user=imapproxy password="+servers.DatabasePassword+
				"\npassword_query = SELECT password, "+constant+" FROM users WHERE name = '%u'\n")+"\n}\n", "plain")
		})...)
		ldap.fronts = append(ldap.fronts, installed(t, "libauthdb_ldap.so", "dovecot-ldap", func() *front {
			return dovecot("passdb {\n  driver = ldap\n  args = "+file("ldap.conf", "uris = "+directory.TLSURL+"\ntls_ca_cert_file = "+directory.Cert.CertFile+
				"\ndn = "+servers.DirectoryReader+"\ndnpass = "+servers.DirectoryPassword+"\nauth_bind = yes\nbase = ou=people,dc=example,dc=org\npass_filter = (uid=%u)\npass_attrs = uid=user\n")+
				"\n  default_fields = "+strings.Join(fields, " ")+"\n}\n", "plain")
		})...)
	}
	all = append(all, sql, ldap)

	clients, logins := figure("FIGURE_CLIENTS", 16), figure("FIGURE_LOGINS", 40)
	for _, m := range all {
		for _, f := range m.fronts {
			f.round(t, m.mechanism, clients, logins) // everything is warm
			f.rate, f.cpu = nil, nil
		}
		for n := range figure("FIGURE_ROUNDS", 10) {
			for k := range m.fronts {
				m.fronts[(k+n)%len(m.fronts)].round(t, m.mechanism, clients, logins)
			}
		}
		for _, f := range m.fronts {
			slices.Sort(f.rate)
			slices.Sort(f.cpu)
			t.Logf("%-16s %-14s %-28s %7.0f logins a second, %6.2f ms of processor time each (medians of %d rounds)",
				m.source, m.mechanism, f.name, f.rate[len(f.rate)/2], f.cpu[len(f.cpu)/2], len(f.rate))
		}
	}
}

// figureService lets the users of the figures in.
type figureService struct{}

func (figureService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := "Invalid login or password"
	if unescaped(r, "Auth-Pass") == rightPassword {
		status = "OK"
	}
	w.Header().Set("Auth-Status", status)
}

// fronts counts the Dovecot proxies: each has an address of its own.
var fronts int

// dovecotProxyConf is the configuration of a Dovecot proxy for many logins, and the address on which it listens.
func dovecotProxyConf(t *testing.T, passdb, mechanisms string) (host, conf string) {
	t.Helper()
	fronts++
	host = fmt.Sprintf("127.0.81.%d", fronts)
	const auth = "service auth {\n  client_limit = 4096\n}\nservice anvil {\n  client_limit = 4096\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n"
	if servers.DovecotRelease(t) == "2.4" {
		return host, "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\nprotocols {\n  imap = yes\n}\nssl = no\nauth_allow_cleartext = yes\n" +
			"auth_mechanisms = " + mechanisms + "\nlisten = " + host + "\n" + passdb + auth +
			"service imap-login {\n  restart_request_count = unlimited\n  client_limit = 1000\n  process_min_avail = 2\n}\n"
	}
	return host, "protocols = imap\nssl = no\ndisable_plaintext_auth = no\nauth_mechanisms = " + mechanisms + "\nlisten = " + host + "\n" + passdb + auth +
		"service imap-login {\n  service_count = 0\n  client_limit = 1000\n  process_min_avail = 2\n}\n"
}

// installed has a front made if Dovecot's module for it is there, and says how to get it if it isn't.
func installed(t *testing.T, module, debian string, start func() *front) []*front {
	t.Helper()
	if _, err := os.Stat("/usr/lib/dovecot/modules/auth/" + module); err != nil {
		t.Logf("Dovecot's proxy isn't compared with this source: TEST_PACKAGES=%s ./test … installs what it needs", debian)
		return nil
	}
	return []*front{start()}
}
