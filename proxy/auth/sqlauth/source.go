package sqlauth

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// Source asks a database for a user's row, whose columns count by their names: password (in a scheme of a
// passwd-file; required), user, backend, backend_password, allowed. The proxy compares the password itself.
type Source struct {
	o      Options
	query  query
	db     *sql.DB
	asking *auth.Asking
	stored *auth.Stored
	scram  *auth.Scram
}

// Bounds of the connections to the database.
const (
	maxConns   = 16
	maxIdle    = maxConns // PostgreSQL makes a process for each connection
	idleFor    = time.Minute
	lifetime   = 30 * time.Minute // a name may have another address then
	maxColumns = 50
)

// New makes the source. It connects to nothing yet.
func New(o Options) (*Source, error) {
	q, err := parseQuery(o.Driver, o.Query)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	s := &Source{o: o, query: q, asking: auth.NewAsking(o.Asking), stored: auth.NewStored(o.Hashing), scram: auth.NewScram(o.Scram)}
	if s.db, err = open(o, s.asking.Timeout()); err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(maxConns)
	s.db.SetMaxIdleConns(maxIdle)
	s.db.SetConnMaxIdleTime(idleFor)
	s.db.SetConnMaxLifetime(lifetime)
	return s, nil
}

// open reads the DSN. Its errors don't repeat it: there may be a password in it.
func open(o Options, timeout time.Duration) (*sql.DB, error) {
	bad := errors.New("not a DSN of this driver, such as imapproxy@tcp(db.example.org:3306)/mail")
	switch o.Driver {
	case Postgres:
		bad = errors.New("not a DSN of this driver, such as postgres://imapproxy@db.example.org/mail")
		config, err := pgx.ParseConfig(o.DSN)
		if err != nil {
			return nil, bad
		}
		if o.Password != "" {
			config.Password = o.Password.Reveal()
		}
		config.ConnectTimeout = timeout
		for _, c := range append([]*pgconn.FallbackConfig{{TLSConfig: config.TLSConfig}}, config.Fallbacks...) {
			if o.RootCAs != nil && c.TLSConfig != nil {
				c.TLSConfig.RootCAs = o.RootCAs
			}
		}
		return stdlib.OpenDB(*config), nil
	case MySQL:
		config, err := mysql.ParseDSN(o.DSN)
		if err != nil {
			return nil, bad
		}
		if o.Password != "" {
			config.Passwd = o.Password.Reveal()
		}
		config.Timeout, config.ReadTimeout, config.WriteTimeout = timeout, timeout, timeout
		config.Logger = &mysql.NopLogger{}
		if o.RootCAs != nil {
			config.TLS = &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12} // the server's name is added by the driver
		}
		connector, err := mysql.NewConnector(config)
		if err != nil {
			return nil, bad
		}
		return sql.OpenDB(connector), nil
	case SQLite:
		if o.DSN == "" || strings.ContainsAny(o.DSN, "?#%\x00") {
			return nil, errors.New("not the path of a file")
		}
		return sql.Open("sqlite", "file:"+o.DSN+"?mode=ro&_pragma=busy_timeout(1000)")
	}
	return nil, fmt.Errorf("there is no driver %q", o.Driver)
}

// Name implements auth.Source.
func (s *Source) Name() string { return cmp.Or(s.o.Name, "sql") }

// Close implements auth.Source.
func (s *Source) Close() error { return s.db.Close() }

// Idle does what a wrong password costs, and says whether it could.
func (s *Source) Idle(ctx context.Context, c auth.Credentials) (spent bool, err error) {
	return s.stored.Idle(ctx, c)
}

// row is what the database says of a user.
type row struct {
	password, user, backend, backendPassword string
	locked                                   bool
}

// Authenticate implements auth.Source.
func (s *Source) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	r, v := s.ask(ctx, c)
	if v != nil {
		return v
	}
	// Without a place among the questions: hashing has its own.
	v = s.stored.Verdict(ctx, r.password, c)
	switch v.(type) {
	case auth.Unavailable:
		return v
	case auth.Accepted:
		if !r.locked {
			return s.accepted(r)
		}
	}
	if r.locked {
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}
	}
	return v
}

// ask asks for a user's row in turn. The verdict is nil if there is one.
func (s *Source) ask(ctx context.Context, c auth.Credentials) (r row, v auth.Verdict) {
	v = s.asking.Ask(ctx, c, func(ctx context.Context) auth.Verdict {
		found, err := s.find(ctx, c.User)
		switch {
		case err != nil:
			return auth.Unavailable{Err: auth.Said(err)}
		case found == nil:
			return auth.Unknown{}
		}
		r = *found
		return nil
	})
	return r, v
}

// Scram implements auth.Keeper.
func (s *Source) Scram() *auth.Scram { return s.scram }

// Keys implements auth.Keeper.
func (s *Source) Keys(ctx context.Context, c auth.Credentials) (auth.Keys, auth.Verdict) {
	r, v := s.ask(ctx, c)
	if v != nil {
		return auth.Keys{}, v
	}
	k, v := auth.StoredKeys(c.Mechanism, r.password)
	if _, ok := v.(auth.Unavailable); ok {
		return k, v
	}
	if r.locked {
		return k, auth.Rejected{Reason: auth.ReasonAccountDisabled}
	}
	if _, ok := v.(auth.Accepted); ok {
		return k, s.accepted(r)
	}
	return k, v
}

// Certified implements auth.Certifier.
func (s *Source) Certified(ctx context.Context, c auth.Credentials) auth.Verdict {
	r, v := s.ask(ctx, c)
	if v != nil {
		return v
	}
	v = auth.StoredUsable(r.password)
	if _, ok := v.(auth.Accepted); !ok {
		return v
	}
	if r.locked {
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}
	}
	return s.accepted(r)
}

// accepted is the verdict of a row whose password is right.
func (s *Source) accepted(r row) auth.Verdict {
	a := auth.Accepted{Placement: r.backend, Password: telemetry.Secret(r.backendPassword)}
	if r.user != "" {
		canonical, err := s.o.Names.Given(r.user)
		if err != nil {
			return auth.Unavailable{Err: fmt.Errorf("column user: %w", err)}
		}
		a.User = canonical
	}
	return a
}

// errNoPassword: the query has no column of that name.
var errNoPassword = errors.New("the query has no column password")

// errSeveral: one user's password would be another's.
var errSeveral = errors.New("the query finds several rows for one user")

// find asks for a user's row; nil: there is none. Two rows are an error.
func (s *Source) find(ctx context.Context, user string) (*row, error) {
	rows, err := s.db.QueryContext(ctx, s.query.text, s.query.values(user)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	if len(names) > maxColumns {
		return nil, fmt.Errorf("the query has more than %d columns", maxColumns)
	}
	values, pointers := make([]sql.NullString, len(names)), make([]any, len(names))
	columns := map[string]*sql.NullString{}
	for i, name := range names {
		pointers[i], columns[strings.ToLower(name)] = &values[i], &values[i]
	}
	if columns["password"] == nil {
		return nil, errNoPassword
	}
	var found *row
	for rows.Next() {
		if found != nil {
			return nil, errSeveral
		}
		if err := rows.Scan(pointers...); err != nil {
			return nil, errors.New("a column can't be read as text") // the error may have the value
		}
		found = newRow(columns)
	}
	return found, rows.Err()
}

// newRow reads the columns that are there. A password that is NULL locks the account, as an empty one does,
// and so does allowed where it is NULL, empty, 0, f, false, n or no.
func newRow(columns map[string]*sql.NullString) *row {
	text := func(name string) string {
		if c := columns[name]; c != nil && c.Valid {
			return c.String
		}
		return ""
	}
	r := &row{password: text("password"), user: text("user"), backend: text("backend"), backendPassword: text("backend_password")}
	if columns["allowed"] != nil {
		switch strings.ToLower(strings.TrimSpace(text("allowed"))) {
		case "", "0", "f", "false", "n", "no":
			r.locked = true
		}
	}
	return r
}
