package sqlauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"imapproxy/proxy/auth"
)

// Try implements auth.Trier: it asks for the row of a user that doesn't exist.
func (s *Source) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.asking.Timeout())
	defer cancel()
	found, err := s.find(ctx, "imapproxy-check@check.invalid")
	if ctx.Err() != nil { // the drivers say it in other words
		err = fmt.Errorf("no answer in %v: %w", s.asking.Timeout(), context.DeadlineExceeded)
	}
	switch {
	case err != nil:
		return "", &auth.Fault{Err: fmt.Errorf("%s: %w", s.o.Driver, auth.Said(err)), Mend: mend(err)}
	case found != nil:
		return "", &auth.Fault{Err: errors.New(s.o.Driver + ": the query finds a row for a user that doesn't exist"), Mend: "have query find the row of %u alone"}
	}
	return s.o.Driver + " answers the query", nil
}

// What the databases' errors are about, by their codes.
var (
	ofLogin = []string{"28P01", "28000", "1045", "1698"}
	ofQuery = []string{"1146", "1054", "1064"}
	ofRight = []string{"42501", "1142", "1143", "1044"}
	ofName  = []string{"3D000", "1049"}
)

// codeOf is the code of a database's error, "" where it has none.
func codeOf(err error) string {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	switch {
	case errors.As(err, &pg):
		return pg.Code
	case errors.As(err, &my):
		return fmt.Sprint(my.Number)
	}
	return ""
}

// mend says what to do about an error.
func mend(err error) string {
	code, text := codeOf(err), err.Error()
	switch {
	case errors.Is(err, errNoPassword):
		return "name the column with the password in query: SELECT secret AS password …"
	case slices.Contains(ofLogin, code):
		return "correct the user in dsn, and password_file"
	case errors.Is(err, errSeveral):
		return "have query find the row of %u alone"
	case slices.Contains(ofRight, code):
		return "GRANT SELECT on the query's tables to the user in dsn"
	case slices.Contains(ofQuery, code), len(code) == 5 && (code[:2] == "42" || code[:2] == "22"), strings.Contains(text, "no such table"), strings.Contains(text, "no such column"), strings.Contains(text, "syntax error"):
		return "correct query"
	case slices.Contains(ofName, code):
		return "correct the database's name in dsn"
	case strings.Contains(text, "unable to open database file"), strings.Contains(text, "file is not a database"), strings.Contains(text, "disk I/O error"):
		return "correct dsn, and let the proxy's user read the file"
	case strings.Contains(text, "server refused TLS connection"), errors.Is(err, mysql.ErrNoTLS):
		return "switch TLS on in the database's configuration, or correct dsn"
	}
	return cmp.Or(auth.MendConnection(err, "the database", "dsn"), "correct dsn or query")
}
