package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What check says of a source that has a mistake, of a user whom it refuses, and of nothing that follows from that alone.
func TestCheckSaysWhatToMendAtASource(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	file1 := file(fleet(t, 1), "")
	dir := t.TempDir()
	path := filepath.Join(dir, "users.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE users (name TEXT, password TEXT, allowed BOOLEAN); INSERT INTO users VALUES ('alice', '{PLAIN}alice', TRUE), ('bob', '{PLAIN}bob', FALSE)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dsn, query, user, says, mend string }{
		"no name in the query": {path, "SELECT password FROM users", "alice", "FAIL  auth  ", "-> correct auth.sql"},
		"all rows":             {path, "SELECT password FROM users WHERE name = %u OR TRUE", "alice", "several rows", "-> have query find the row of %u alone"},
		"no table":             {path, "SELECT password FROM user WHERE name = %u", "alice", "no such table", "-> correct query"},
		"no database":          {filepath.Join(dir, "config.hcl"), "SELECT password FROM users WHERE name = %u", "alice", "not a database", "-> correct dsn, and let the proxy's user read the file"},
		"no file":              {filepath.Join(dir, "x"), "SELECT password FROM users WHERE name = %u", "alice", "unable to open", "-> correct dsn, and let the proxy's user read the file"},
		"unknown":              {path, "SELECT password, allowed FROM users WHERE name = %u", "carol", "refuses carol: unknown_user", "-> name a user that is there with --user, or correct by what"},
		"locked":               {path, "SELECT password, allowed FROM users WHERE name = %u", "bob", "refuses bob: account_disabled", "-> unlock the user's entry"},
		"wrong":                {path, "SELECT password, allowed FROM users WHERE name = %u", "alice", "refuses alice: bad_password", "-> correct the password"},
	} {
		write(t, filepath.Join(dir, "config.hcl"), "not a database, and longer than a page's header is: "+strings.Repeat("x", 100))
		password := c.user
		if name == "wrong" {
			password = "not-it"
		}
		r := check(t, file1+"auth \"sql\" {\n  driver = \"sqlite\"\n  dsn = \""+c.dsn+"\"\n  query = \""+c.query+"\"\n}\n", c.user, password)
		out := r.stdout.String()
		if r.code != exitFailed || !strings.Contains(out, c.says) || !strings.Contains(out, c.mend) {
			t.Errorf("%s: want %q and %q\n%s", name, c.says, c.mend, out)
		}
		if strings.Contains(out, "empty user name") {
			t.Errorf("%s: the same is said twice:\n%s", name, out)
		}
	}
}
