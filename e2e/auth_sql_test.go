package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// bcryptOfRight is rightPassword at cost 4.
const bcryptOfRight = "{BLF-CRYPT}$2y$04$P.3NB72.Q.itUPQF.JiqXu.98oQ6xSRwNxkVP0aO2fP5QdE6WV.Qa"

const usersQuery = "SELECT password, allowed, host AS backend, canonical AS user FROM users WHERE name = %u"

// usersTable is the users of the tests, as statements. user is a word of the language in PostgreSQL.
func usersTable() string {
	quoted := func(s string) string {
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''") + "'"
	}
	q := "CREATE TABLE users (name VARCHAR(255), password VARCHAR(255), allowed BOOLEAN, host VARCHAR(20), canonical VARCHAR(255));\n"
	add := func(name, password, allowed, host, canonical string) {
		q += fmt.Sprintf("INSERT INTO users VALUES (%s, %s, %s, %s, %s);\n", quoted(name), quoted(password), allowed, host, canonical)
	}
	add(servers.User(1), bcryptOfRight, "TRUE", "NULL", "NULL")
	add(servers.User(2), "{PLAIN}"+wideA, "TRUE", "NULL", "NULL")
	add(servers.User(3), "{PLAIN}"+lockedPassword, "FALSE", "NULL", "NULL")
	add("alias", bcryptOfRight, "TRUE", "'b2'", "'"+servers.User(4)+"'")
	add("both", bcryptOfRight, "TRUE", "NULL", "NULL")
	add("both", bcryptOfRight, "TRUE", "NULL", "NULL")
	add("odd", "pw-Stored", "TRUE", "NULL", "NULL")
	return q
}

// sqlProxy is a proxy that asks a database.
func sqlProxy(t *testing.T, driver, dsn, query string, o proxyOptions) *runningProxy {
	t.Helper()
	password := ""
	if driver != "sqlite" {
		file := filepath.Join(servers.Folder(t), "sql.password")
		writeFile(t, file, servers.DatabasePassword+"\n")
		password = fmt.Sprintf("  password_file = %q\n", file)
	}
	o.Master = true
	o.Further += fmt.Sprintf("auth \"sql\" {\n  driver = %q\n  dsn = %q\n  query = %q\n  timeout = %q\n%s}\n", driver, dsn, query, o.timeout(), password)
	return startProxy(t, o)
}

func TestAuthSQL(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	o := proxyOptions{Backends: []backend{{"b1", dovecot.Addr}, {"b2", dovecot.Addr}}}
	names := []string{"x'OR'1'='1", "x';DROP/**/TABLE/**/users;--", `x\'OR/**/1=1--`, "%u", `"`, "user00_", "user00%"}
	seen := func(t *testing.T, p *runningProxy) {
		t.Helper()
		c := imaptest.Dial(t, p.Plain)
		c.Login("alias", rightPassword)
		_ = c.Close()
		if said := p.Output(); !strings.Contains(said, "user="+servers.User(4)+" backend=b2") || !strings.Contains(said, "login=alias") {
			t.Errorf("the row's name and backend don't count:\n%s", said)
		}
		for _, user := range []string{"both", "odd"} {
			p.cell(t, "sql", "PLAIN", cell{user, user, rightPassword, "UNAVAILABLE", "unavailable"}, mechanisms["PLAIN"])
		}
		p.toldNoSecrets(t, "pw-Stored", servers.DatabasePassword, bcryptOfRight[20:])
	}
	for driver, start := range map[string]func(testing.TB) *servers.Database{"postgres": servers.StartPostgres, "mysql": servers.StartMariaDB} {
		t.Run(driver, func(t *testing.T) {
			db := start(t)
			table := usersTable()
			if driver == "postgres" {
				table = strings.ReplaceAll(table, `\\`, `\`)
			}
			db.Exec(table)
			query := usersQuery
			if driver == "postgres" {
				query = strings.Replace(query, "AS user", `AS "user"`, 1)
			}
			o := o
			token := filepath.Join(servers.Folder(t), "admin.token")
			p := sqlProxy(t, driver, db.DSN, query, o)
			p.sourceTable(t, "sql", "unknown_user", names...)
			seen(t, p)
			p.hangs(t, "sql", db.Process)
			db.Stop()
			p.unavailable(t, "sql", "down")
			db.Start()
			p.comesBack(t, "restarted")
			if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, driver+" answers the query") {
				t.Errorf("imapproxy check:\n%s", out)
			}
			plain, err := os.ReadFile(p.Config)
			if err != nil {
				t.Fatal(err)
			}
			ca := fmt.Sprintf("auth \"sql\" {\n  ca_file = %q\n", db.Cert.CertFile)
			for ca, want := range map[string]string{ca: driver + " answers the query", "auth \"sql\" {\n": "name the authority's certificate in ca_file"} {
				writeFile(t, p.Config, strings.NewReplacer(db.DSN, db.TLSDSN, "auth \"sql\" {\n", ca, "timeout = \""+o.timeout()+"\"", "timeout = \"30s\"").Replace(string(plain)))
				if out, well := p.check("--user", servers.User(1)); well != strings.Contains(ca, "ca_file") || !strings.Contains(out, want) {
					t.Errorf("check with TLS doesn't say %q:\n%s", want, out)
				}
			}
			for query, want := range map[string]string{"SELECT x FROM users WHERE name = %u": "correct query", "SELECT name FROM users WHERE name = %u": "SELECT secret AS password"} {
				bad := sqlProxy(t, driver, db.DSN, query, o)
				if out, well := bad.check(); well || !strings.Contains(out, want) {
					t.Errorf("check doesn't say %q:\n%s", want, out)
				}
				bad.Stop()
			}
			bad := sqlProxy(t, driver, strings.Replace(db.DSN, "imapproxy@", "nobody@", 1), query, o)
			if out, well := bad.check(); well || !strings.Contains(out, "correct the user in dsn") {
				t.Errorf("check of a user that isn't there:\n%s", out)
			}
			bad.Stop()
			writeFile(t, token, "of-the-admin\n")
			o.Linger, o.AdminToken, o.Further = "1s", token, recheckSoon
			sqlProxy(t, driver, db.DSN, query, o).locksOut(t, token, func() {
				db.Exec("UPDATE users SET allowed = FALSE WHERE name = '" + servers.User(1) + "';")
			})
		})
	}
	t.Run("sqlite", func(t *testing.T) {
		file := filepath.Join(servers.Folder(t), "users.db")
		db, err := sql.Open("sqlite", file)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(strings.ReplaceAll(usersTable(), `\\`, `\`)); err != nil {
			t.Fatal(err)
		}
		p := sqlProxy(t, "sqlite", file, usersQuery, o)
		p.sourceTable(t, "sql", "unknown_user", names...)
		seen(t, p)
		if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, "sqlite answers the query") {
			t.Errorf("imapproxy check:\n%s", out)
		}
		bad := sqlProxy(t, "sqlite", file+".none", usersQuery, o)
		bad.unavailable(t, "sql", "no file")
		if out, well := bad.check(); well || !strings.Contains(out, "correct dsn") {
			t.Errorf("check of a file that isn't there:\n%s", out)
		}
	})
}
