package sqlauth

import (
	"fmt"
	"strings"
	"testing"
)

func TestNamesAreParametersOfTheQuery(t *testing.T) {
	for _, c := range []struct{ driver, query, want, args string }{
		{Postgres, "SELECT p FROM u WHERE n = %u", "SELECT p FROM u WHERE n = $1", "[al@ice@example.org]"},
		{Postgres, "SELECT p FROM u WHERE l = %n AND d = %d OR n=%u;", "SELECT p FROM u WHERE l = $1 AND d = $2 OR n=$3;", "[al@ice example.org al@ice@example.org]"},
		{MySQL, "SELECT `%x` FROM u WHERE n=%u AND a %% 2 = 0 AND b % 2 = 0", "SELECT `%x` FROM u WHERE n=? AND a % 2 = 0 AND b % 2 = 0", "[al@ice@example.org]"},
		{SQLite, "SELECT p FROM u WHERE n = %u AND d LIKE '%%x%name'", "SELECT p FROM u WHERE n = ? AND d LIKE '%%x%name'", "[al@ice@example.org]"},
	} {
		q, err := parseQuery(c.driver, c.query)
		if err != nil || q.text != c.want || fmt.Sprint(q.values("al@ice@example.org")) != c.args {
			t.Errorf("%s: %q %v (%v)", c.query, q.text, q.values("al@ice@example.org"), err)
		}
	}
	for _, bad := range []string{"SELECT p FROM u WHERE n = '%u'", `SELECT p FROM u WHERE n = "%n"`, "SELECT p FROM u", "SELECT p FROM u WHERE n = '%x'"} {
		if _, err := parseQuery(MySQL, bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestADSNIsNotRepeated(t *testing.T) {
	for driver, dsn := range map[string]string{Postgres: "postgres://u:hunter2@h:x/", MySQL: "hunter2", SQLite: "/a?hunter2", "oracle": "hunter2"} {
		_, err := New(Options{Driver: driver, DSN: dsn, Query: "SELECT password FROM u WHERE n = %u"})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", driver, err)
		}
	}
}
