package servers

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"
)

// dovecotSettings are the values for the templates of the configuration.
type dovecotSettings struct {
	Dir, Mail, Store, Cert, Key string
	Host, Port, TLSPort         string
	Stock, Compress             bool
}

// dovecotTemplate chooses the configuration for a release, "2.3.19.1 (9b53…)". 2.4 changed the name
// of nearly every setting; later releases are unknown.
func dovecotTemplate(version string) (string, error) {
	switch {
	case strings.HasPrefix(version, "2.3."):
		return dovecot23, nil
	case strings.HasPrefix(version, "2.4."):
		return dovecot24, nil
	}
	return "", fmt.Errorf("dovecot --version says %q; there are configurations for 2.3 and 2.4 only: write one for this release in e2e/servers", version)
}

// DovecotRelease is the installed Dovecot's: "2.3" or "2.4".
func DovecotRelease(t testing.TB) string {
	t.Helper()
	Real(t)
	return run(t, "", "dovecot", "--version")[:3]
}

// StartDovecot runs a Dovecot with ACLs and shared mailboxes, quota, metadata,
// NOTIFY, and a master user.
func StartDovecot(t testing.TB, o DovecotOptions) *Server {
	t.Helper()
	Real(t)
	out := strings.TrimSpace(run(t, "", "dovecot", "--version"))
	text, err := dovecotTemplate(out)
	if err != nil {
		t.Fatal(err)
	}
	if o.Store == "" {
		o.Store = "sdbox"
	}
	if o.Name == "" {
		o.Name = "dovecot-" + o.Store
	}
	dir := Folder(t)
	if o.Certificate.CertFile == "" {
		o.Certificate = newCertificate(t, dir)
	}
	if o.Mail == "" {
		o.Mail = DovecotMail(t)
	}
	s := dovecotSettings{Dir: dir, Mail: o.Mail, Store: o.Store, Cert: o.Certificate.CertFile, Key: o.Certificate.KeyFile, Stock: o.Stock, Compress: o.Compress,
		Host: o.Host, Port: "143", TLSPort: "993"}
	if o.Host == "" {
		s.Host = "127.0.0.1"
		_, s.Port = FreeAddr(t)
		_, s.TLSPort = FreeAddr(t)
	}
	addr, tlsAddr := net.JoinHostPort(s.Host, s.Port), net.JoinHostPort(s.Host, s.TLSPort)
	var conf strings.Builder
	if err := template.Must(template.New("dovecot").Parse(text)).Execute(&conf, s); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "dovecot.conf")
	write(t, config, conf.String()+dovecotExtras(o, strings.HasPrefix(out, "2.4."))+strings.ReplaceAll(o.Extra, "%DIR%", dir))
	file := filepath.Join(dir, "users")
	var mu sync.Mutex // guards both
	passwords, changed := map[string]string{}, time.Now()
	setPassword := func(t testing.TB, user, password string) {
		mu.Lock()
		defer mu.Unlock()
		passwords[user] = password
		var users strings.Builder
		for i := 1; i <= Users; i++ {
			// With uid and home in this file, too, a user's session may look another user up, to find shared mailboxes.
			fmt.Fprintf(&users, "%s:%s:%d:%d::%s/%s::\n", User(i), cmp.Or(passwords[User(i)], Password), mailUID, mailUID, o.Mail, User(i))
		}
		write(t, file+".new", users.String())
		// Dovecot looks at the time, in seconds, once a second.
		changed = changed.Add(time.Second)
		if err := errors.Join(os.Chtimes(file+".new", changed, changed), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	setPassword(t, "", "")
	write(t, filepath.Join(dir, "masters"), MasterUser+":"+MasterPassword+"\n")

	version, _, _ := strings.Cut(out, " ")
	t.Logf("%s is Dovecot %s", o.Name, version)
	if o.Command == nil {
		o.Command = exec.Command
	}
	d := &Server{
		Kind: "dovecot", Name: o.Name, Version: version, Addr: addr, TLSAddr: tlsAddr,
		ProxyAuthz: true, OtherUsers: "shared/", Mail: o.Mail, Log: filepath.Join(dir, "log"),
		setPassword: setPassword,
	}
	d.start = func(t testing.TB) *Process {
		t.Helper()
		noneListens(t, filepath.Join(dir, "run"), addr, tlsAddr)
		p := Start(t, o.Name, o.Command("dovecot", "-F", "-c", config), d.Log)
		p.WaitPort(addr)
		return p
	}
	d.Process = d.start(t)
	return d
}

// DovecotMail makes a folder for mail that several Dovecots may share.
func DovecotMail(t testing.TB) string {
	t.Helper()
	dir := Folder(t)
	// Dovecot makes the users' homes in it as mailUID.
	run(t, "", "chown", fmt.Sprintf("%d:%d", mailUID, mailUID), dir)
	return dir
}

// mailUID owns the mail. It needs no name: on a Debian machine no user has it, unless an administrator
// created one, and then it does no harm.
const mailUID = 5000
