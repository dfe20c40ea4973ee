package servers

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cyrusConf is imapd.conf. conf/socket has to exist, or IDLE stays silent. From
// 3.10 on STARTTLS is off unless allowed; older releases don't know the setting.
const cyrusConf = `
configdirectory: %[1]s/conf
proc_path: %[1]s/conf/proc
mboxname_lockpath: %[1]s/conf/lock
partition-default: %[1]s/spool
defaultpartition: default
idlesocket: %[1]s/conf/socket/idle
notifysocket: %[1]s/conf/socket/notify
servername: localhost
altnamespace: yes
unixhierarchysep: yes
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: %[1]s/conf/sasldb2
sasl_mech_list: PLAIN LOGIN
admins: cyradmin
proxyservers: ` + MasterUser + `
autocreate_quota: 1048576
autocreate_post: yes
allowstarttls: yes
tls_server_cert: %[2]s
tls_server_key: %[3]s
tls_sessions_db_path: %[1]s/conf/tls_sessions.db
syslog_prefix: e2e
conversations: no
allowusermoves: no
failedloginpause: 0
`

// cyrusServices is cyrus.conf. Debian starts imapd with -U 30 (a process serves
// 30 connections), prefork=0 and maxchild=100.
const cyrusServices = `
START {
  recover cmd="%[1]s/ctl_cyrusdb -C %[2]s/imapd.conf -r"
}
SERVICES {
  imap cmd="%[1]s/imapd -C %[2]s/imapd.conf%[6]s" listen="%[3]s" prefork=%[7]d maxchild=%[8]d
  imaps cmd="%[1]s/imapd -C %[2]s/imapd.conf%[6]s -s" listen="%[4]s" prefork=0 maxchild=%[8]d
%[5]s}
DAEMON {
  idled cmd="%[1]s/idled -C %[2]s/imapd.conf"
}
EVENTS {
}
`

// CyrusOptions are the settings in which the Cyruses of the tests differ.
type CyrusOptions struct {
	// Settings of imapd.conf, in place of ours or besides them.
	Settings map[string]string
	// Notify makes the events of its mailboxes known to this program
	// (notify_external), which gets each as JSON on its standard input. It has
	// to be executable for the user cyrus. "" = no events.
	Notify string
	// Users is the number of users; 0: all. Making one takes Cyrus 10 ms.
	Users int
	// Stock leaves the limits and delays as Debian ships them: 100 processes, and
	// so connections, of which none waits in advance, and a pause after a wrong password.
	Stock bool
	// Flags of imapd in cyrus.conf, with a blank before; "": none, or Debian's.
	Flags string
	// MaxChild is how many connections it serves at a time; 0: 500, or Debian's 100.
	MaxChild int
}

// settings returns imapd.conf with the settings of o. Cyrus refuses a setting that
// stands there twice.
func (o CyrusOptions) settings(conf string) string {
	add := map[string]string{}
	if o.Notify != "" {
		add["event_notifier"] = "external"
		add["event_groups"] = "message flags mailbox subscription"
		add["event_extra_params"] = "timestamp modseq uidnext messages flagNames"
		add["notify_external"] = o.Notify
	}
	maps.Copy(add, o.Settings)
	var b strings.Builder
	for line := range strings.Lines(conf) {
		name, _, _ := strings.Cut(line, ":")
		if o.Stock && name == "failedloginpause" {
			continue
		}
		if _, replaced := add[name]; !replaced {
			b.WriteString(line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		fmt.Fprintf(&b, "%s: %s\n", name, add[name])
	}
	return b.String()
}

// StartCyrus runs a Cyrus as most tests want it.
func StartCyrus(t testing.TB) *Server {
	t.Helper()
	return StartCyrusWith(t, CyrusOptions{})
}

// StartCyrusWith runs a Cyrus. Its packages exclude Dovecot's, so ./test unpacked
// imapd beside the installed cyrus-common and says where in IMAPPROXY_CYRUS.
func StartCyrusWith(t testing.TB, o CyrusOptions) *Server {
	t.Helper()
	Real(t)
	const common = "/usr/lib/cyrus/bin"
	unpacked := filepath.Join(os.Getenv("IMAPPROXY_CYRUS"), common)
	if _, err := os.Stat(filepath.Join(unpacked, "imapd")); err != nil {
		t.Fatalf("no Cyrus imapd: %v (./test unpacks it and sets IMAPPROXY_CYRUS)", err)
	}
	dir := Folder(t)
	conf := filepath.Join(dir, "conf")
	for _, sub := range []string{"db", "lock", "log", "msg", "proc", "ptclient", "quota", "sieve", "socket", "sync", "user"} {
		mkdir(t, filepath.Join(conf, sub))
	}
	bin := filepath.Join(dir, "bin")
	// Two first deliveries at the same time would both make the folder stage., and one of them would fail.
	mkdir(t, filepath.Join(dir, "spool", "stage."), bin)
	// One folder with all of them, where the user cyrus may go: the cache need not be such a place.
	for _, name := range []string{"imapd", "idled"} {
		run(t, "", "install", "-m", "755", filepath.Join(unpacked, name), bin)
	}
	for _, name := range []string{"master", "ctl_cyrusdb", "notifyd"} {
		run(t, "", "ln", "-s", filepath.Join(common, name), bin)
	}
	cert := newCertificate(t, dir)
	addr, _ := FreeAddr(t)
	tlsAddr, _ := FreeAddr(t)
	services := ""
	if o.Notify != "" {
		services = fmt.Sprintf("  notify cmd=\"%s/notifyd -C %s/imapd.conf\" listen=\"%s/socket/notify\" proto=\"udp\" prefork=1\n", bin, dir, conf)
	}
	write(t, filepath.Join(dir, "imapd.conf"), o.settings(fmt.Sprintf(cyrusConf, dir, cert.CertFile, cert.KeyFile)))
	flags, prefork, maxChild := "", 4, 500
	if o.Stock {
		flags, prefork, maxChild = " -U 30", 0, 100
	}
	write(t, filepath.Join(dir, "cyrus.conf"), fmt.Sprintf(cyrusServices, bin, dir, addr, tlsAddr, services, cmp.Or(o.Flags, flags), prefork, cmp.Or(o.MaxChild, maxChild)))

	// saslpasswd2 takes one user at a time; one shell for all of them.
	var script strings.Builder
	command := func(user, password string) string {
		return fmt.Sprintf("printf %%s '%s' | saslpasswd2 -p -c -f '%s/sasldb2' -u localhost '%s'\n", password, conf, user)
	}
	add := func(user, password string) { script.WriteString(command(user, password)) }
	for i := 1; i <= cmp.Or(o.Users, Users); i++ {
		add(User(i), Password)
	}
	add(MasterUser, MasterPassword)
	add("cyradmin", MasterPassword)
	run(t, script.String(), "sh", "-e")
	run(t, "", "chown", "-R", "cyrus:mail", dir)

	start := func(t testing.TB) *Process {
		t.Helper()
		noneListens(t, filepath.Join(conf, "socket"), addr, tlsAddr)
		p := Start(t, "cyrus", exec.Command("setpriv", "--reuid=cyrus", "--regid=mail", "--init-groups", "--pdeathsig=TERM",
			filepath.Join(bin, "master"), "-C", dir+"/imapd.conf", "-M", dir+"/cyrus.conf", "-p", dir+"/master.pid"))
		p.WaitPort(addr)
		return p
	}
	expire := func(t testing.TB) {
		run(t, "", "setpriv", "--reuid=cyrus", "--regid=mail", "--init-groups", filepath.Join(common, "cyr_expire"), "-C", dir+"/imapd.conf", "-E", "0", "-X", "0", "-D", "0")
	}
	version := strings.TrimSpace(run(t, "", "dpkg-query", "-W", "-f=${Version}", "cyrus-common"))
	return &Server{
		Kind: "cyrus", Name: "cyrus", Version: version, Addr: addr, TLSAddr: tlsAddr,
		ProxyAuthz: true, OtherUsers: "Other Users/", Process: start(t), start: start, Mail: filepath.Join(dir, "spool"),
		setPassword: func(t testing.TB, user, password string) { run(t, command(user, password), "sh", "-e") },
		expire:      expire,
	}
}
