package sqlauth

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
)

// PostgreSQL makes a process for each connection, so those that logins side by side have made wait for the next ones.
func TestLoginsSideBySideKeepTheirConnections(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Driver: SQLite, DSN: users, Query: "SELECT password FROM u WHERE name = %u"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var held []*sql.Conn
	for range maxConns {
		c, err := s.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.db.Stats(); got.Idle != maxConns || got.MaxIdleClosed != 0 {
		t.Errorf("of %d connections %d are kept, %d were closed", maxConns, got.Idle, got.MaxIdleClosed)
	}
}
