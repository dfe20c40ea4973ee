package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// DatabasePassword is that of the databases' user imapproxy.
const DatabasePassword = "pw-Database.1"

// Database is a running database server.
type Database struct {
	*Process
	DSN  string // of its user imapproxy, without a password and without TLS
	Addr string
	// TLSDSN is DSN with TLS, and the certificate verified.
	TLSDSN string
	Cert   Certificate

	t testing.TB

	start func() *exec.Cmd
	exec  func(sql string)
	ready func() error // of PostgreSQL, which accepts connections before it serves them
}

// Start runs the server, again after its Stop.
func (d *Database) Start() {
	d.t.Helper()
	p := Start(d.t, "database", d.start())
	d.Process = p
	d.t.Cleanup(func() { fast(p) })
	d.WaitAccepts("tcp", d.Addr)
	if d.ready != nil {
		d.wait("the database", d.ready)
	}
}

// Stop ends the server with its clients' connections.
func (d *Database) Stop() {
	fast(d.Process)
	d.Process.Stop()
}

// fast has PostgreSQL not wait for its clients. MariaDB ignores it.
func fast(p *Process) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.Pid(), syscall.SIGINT) // it may end meanwhile
	}
}

// Exec executes statements as the database's owner.
func (d *Database) Exec(sql string) {
	d.t.Helper()
	d.exec(sql)
}

// as runs a program as a user of this machine.
func as(user, name string, args ...string) []string {
	return append([]string{"--reuid=" + user, "--regid=" + user, "--clear-groups", name}, args...)
}

// StartPostgres runs a PostgreSQL with a database "mail", owned by imapproxy.
func StartPostgres(t testing.TB) *Database {
	t.Helper()
	Real(t)
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		t.Fatal("PostgreSQL isn't installed: run ./test")
	}
	bin, dir := bins[len(bins)-1], Folder(t)
	write(t, filepath.Join(dir, "pw"), DatabasePassword+"\n")
	cert := newCertificate(t, dir)
	run(t, "", "chmod", "600", cert.KeyFile)
	run(t, "", "chown", "-R", "postgres:postgres", dir)
	run(t, "", "setpriv", as("postgres", filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-A", "scram-sha-256", "-U", "imapproxy", "--pwfile="+filepath.Join(dir, "pw"), "--no-sync", "-E", "UTF8", "--locale=C")...)
	addr, port := FreeAddr(t)
	d := &Database{t: t, Addr: addr, Cert: cert, DSN: "postgres://imapproxy@" + addr + "/mail?sslmode=disable", TLSDSN: "postgres://imapproxy@" + addr + "/mail?sslmode=verify-full"}
	d.start = func() *exec.Cmd {
		return exec.Command("setpriv", as("postgres", filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-p", port, "-h", "127.0.0.1", "-k", "", "-F",
			"-c", "ssl=on", "-c", "ssl_cert_file="+cert.CertFile, "-c", "ssl_key_file="+cert.KeyFile)...)
	}
	d.ready = func() error {
		out, err := exec.Command(filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", port).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	in := func(database, sql string) {
		t.Helper()
		run(t, sql, "env", "PGPASSWORD="+DatabasePassword, filepath.Join(bin, "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port, "-U", "imapproxy", database)
	}
	d.exec = func(sql string) { in("mail", sql) }
	d.Start()
	in("postgres", "CREATE DATABASE mail;")
	return d
}

// StartMariaDB runs a MariaDB with a database "mail" for the user imapproxy.
func StartMariaDB(t testing.TB) *Database {
	t.Helper()
	Real(t)
	dir := Folder(t)
	run(t, "", "chown", "mysql:mysql", dir)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "sock")
	run(t, "", "mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	addr, port := FreeAddr(t)
	cert := newCertificate(t, dir)
	d := &Database{t: t, Addr: addr, Cert: cert, DSN: "imapproxy@tcp(" + addr + ")/mail", TLSDSN: "imapproxy@tcp(" + addr + ")/mail?tls=true"}
	d.start = func() *exec.Cmd {
		return exec.Command("mariadbd", "--no-defaults", "--user=mysql", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"), "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0",
			"--ssl-cert="+cert.CertFile, "--ssl-key="+cert.KeyFile)
	}
	d.exec = func(sql string) {
		t.Helper()
		run(t, sql, "mariadb", "--no-defaults", "--socket="+socket, "-u", "root", "mail")
	}
	d.Start()
	run(t, fmt.Sprintf("CREATE DATABASE mail; CREATE USER imapproxy@'%%' IDENTIFIED BY '%s'; GRANT SELECT ON mail.* TO imapproxy@'%%';", DatabasePassword),
		"mariadb", "--no-defaults", "--socket="+socket, "-u", "root")
	return d
}
