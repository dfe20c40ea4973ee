package chaos

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/e2e/servers"
)

// patience is how long a part may take to do what it is asked to, on a busy machine.
const patience = 90 * time.Second

// eventually tries until there is no error.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("not in %v: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond) // between two tries
	}
}

func readlink(path string) (string, error) { return os.Readlink(path) }

// A lab is all machines with what runs on them.
type lab struct {
	t        testing.TB
	servers  []*agent
	mail     *agent // registers and checks the backends
	backends []*backend
	proxies  []*proxy
	mailDir  string
}

// labOptions choose what differs between labs.
type labOptions struct {
	backends, proxies int
	together          bool // the proxies have a cluster block
	isolated          string
	ttl               time.Duration // session_ttl
}

func startLab(t testing.TB, o labOptions) *lab {
	t.Helper()
	servers.Real(t)
	l := &lab{t: t}
	startSwitch(t)
	l.mailDir = servers.DovecotMail(t)
	var addrs []string
	for i := range 3 {
		addrs = append(addrs, fmt.Sprintf("10.77.0.%d", 11+i))
	}
	for i, addr := range addrs {
		l.servers = append(l.servers, startAgent(t, startMachine(t, fmt.Sprint("c", i+1), addr), true, addrs...))
	}
	l.mail = startAgent(t, startMachine(t, "mail", "10.77.0.41"), false, addrs...)
	for i := range o.backends {
		l.backends = append(l.backends, startBackend(t, l, fmt.Sprint("d", i+1), fmt.Sprintf("10.77.0.%d", 31+i)))
	}
	eventually(t, "a leader", func() error {
		_, err := l.leader()
		return err
	})
	for _, b := range l.backends {
		b.register(100)
	}
	cert := servers.NewCertificate(t)
	for i := range o.proxies {
		l.proxies = append(l.proxies, startProxy(t, l, fmt.Sprint("p", i+1), fmt.Sprintf("10.77.0.%d", 21+i), o, cert, addrs))
	}
	t.Cleanup(l.keep)
	for _, p := range l.proxies {
		p.awaitReady()
	}
	return l
}

// keep copies the logs of a test that has failed to the folder CHAOS_KEEP.
func (l *lab) keep() {
	dir := os.Getenv("CHAOS_KEEP")
	if dir == "" || !l.t.Failed() {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Error(err)
		return
	}
	logs := map[string]string{}
	for _, p := range l.proxies {
		logs[p.name] = p.log
	}
	for _, b := range l.backends {
		logs[b.name] = b.Log
	}
	for name, file := range logs {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".log"), text, 0o644)
		}
		if err != nil {
			l.t.Error(err)
		}
	}
}

// A backend is a Dovecot on a machine.
type backend struct {
	*servers.Server
	t    testing.TB
	lab  *lab
	name string
	on   *machine
	raw  string // the folder of the commands' log

	mu    sync.Mutex
	log   *backendLog
	seen  int64     // octets of the log that were read
	kills []killing // after that
}

// A killing is when a backend's processes were killed: with the lines of the log before that.
type killing struct {
	at    time.Time
	lines int64 // octets of the log
}

// The backend logs times in microseconds, and each command with its time. It trusts no proxy, so that the address it logs is the proxy's.
const backendExtra = `
log_timestamp = "%%Y-%%m-%%d %%H:%%M:%%S.%%{usecs} "
rawlog_dir = %s
`

func startBackend(t testing.TB, l *lab, name, addr string) *backend {
	t.Helper()
	b := &backend{t: t, lab: l, name: name, log: newBackendLog(name), on: startMachine(t, name, addr), raw: filepath.Join(servers.Folder(t), "commands")}
	if err := os.Mkdir(b.raw, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.raw, 0o777); err != nil { // whatever the umask: Dovecot's users write there
		t.Fatal(err)
	}
	b.Server = servers.StartDovecot(t, servers.DovecotOptions{
		Name: name, Store: "maildir", Mail: l.mailDir, Host: addr, Command: b.on.command, Extra: fmt.Sprintf(backendExtra, b.raw),
	})
	b.hurryLog()
	return b
}

// hurryLog has the process that writes the log run before all others, so that the times in the log are those of what is logged.
func (b *backend) hurryLog() {
	b.t.Helper()
	eventually(b.t, b.name+"'s log process", func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.Process.Pid()))
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(text)) {
			if name, _ := os.ReadFile("/proc/" + pid + "/comm"); strings.TrimSpace(string(name)) != "log" {
				continue
			}
			var id int
			if _, err := fmt.Sscan(pid, &id); err != nil {
				return err
			}
			err := unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
			if err == unix.EPERM || err == unix.EINVAL { // no real time in this container
				err = unix.Setpriority(unix.PRIO_PROCESS, id, -20)
			}
			if err != nil {
				b.t.Logf("%s's log process runs like all others: %v", b.name, err)
			}
			return nil
		}
		return fmt.Errorf("not among its children")
	})
}

// register has Consul know the backend, with this weight.
func (b *backend) register(weight int) {
	b.t.Helper()
	b.lab.mail.put("/v1/agent/service/register", map[string]any{
		"ID": b.name, "Name": "imap", "Address": b.on.addr, "Port": 143, "Weights": map[string]int{"Passing": weight, "Warning": weight},
		"Check": map[string]string{"TCP": b.on.addr + ":143", "Interval": "1s", "Timeout": "2s", "Status": "passing"},
	})
}

func (b *backend) drain(on bool) {
	b.t.Helper()
	b.lab.mail.put(fmt.Sprintf("/v1/agent/service/maintenance/%s?enable=%v&reason=chaos", b.name, on), nil)
}

// kill kills all processes of the backend at once.
func (b *backend) kill() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	b.Process.Kill()
	size, err := os.Stat(b.Log)
	if err != nil {
		b.t.Fatal(err)
	}
	b.kills = append(b.kills, killing{at, size.Size()})
}

func (b *backend) again() {
	b.t.Helper()
	b.StartAgain(b.t)
	b.hurryLog()
}

// read reads what the log has more than at the last call, and returns all of it. The caller may use it until the next call.
func (b *backend) read() (*backendLog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := os.Open(b.Log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, b.seen, math.MaxInt64-b.seen))
	if err != nil {
		return nil, err
	}
	lines := func(text []byte) error {
		for line := range bytes.Lines(text) {
			b.seen += int64(len(line))
			if !bytes.HasSuffix(line, []byte("\n")) {
				continue // its process was killed
			}
			if err := b.log.line(strings.TrimSuffix(string(line), "\n")); err != nil {
				return err
			}
		}
		return nil
	}
	for ; len(b.kills) > 0; b.kills = b.kills[1:] {
		k := b.kills[0]
		before := text[:k.lines-b.seen]
		text = text[len(before):]
		if err := lines(before); err != nil {
			return nil, err
		}
		b.log.killed(k.at)
	}
	err = lines(text[:bytes.LastIndexByte(text, '\n')+1]) // the last line may be being written
	b.log.name(lives)
	return b.log, err
}

// lives says whether the process of a session runs. A process that began after the session is another one.
func lives(s *session) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the third on: proc_pid_stat(5)
	ticks, err := strconv.ParseInt(fields[22-3], 10, 64)
	var up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return true
	}
	began := time.Now().Add(-time.Duration(up.Nano()) + time.Duration(ticks)*10*time.Millisecond)
	return began.Before(s.from.Add(time.Second))
}

// commands are the commands that the backend has read from proxies in a session.
func (b *backend) commands(s session) ([]command, error) {
	files, err := filepath.Glob(filepath.Join(b.raw, fmt.Sprintf("*.%d.*.in", s.pid)))
	if err != nil {
		return nil, err
	}
	var found []command
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all := commands(string(text))
		// A process id may have served another session long ago.
		if len(all) > 0 && !all[0].at.Before(s.from.Add(-time.Second)) && (s.open || !all[0].at.After(s.to)) {
			found = append(found, all...)
		}
	}
	return found, nil
}

// sessions are all backends' logins.
func (l *lab) sessions() (all []session, troubles []string) {
	l.t.Helper()
	for _, b := range l.backends {
		log, err := b.read()
		if err != nil {
			l.t.Fatal(err)
		}
		for _, s := range log.sessions {
			all = append(all, *s)
		}
		troubles = append(troubles, log.troubles...)
	}
	return all, troubles
}

// A proxy is an imapproxy serve on a machine, with an agent of its own.
type proxy struct {
	*servers.Process
	t      testing.TB
	name   string
	on     *machine
	agent  *agent
	config string
	log    string
	addr   string // for clients
	admin  string // http://…
}

const proxyConfig = `
hostname = "%[1]s.test"
listener "plain" {
  address        = "%[2]s:143"
  tls            = "none"
  cleartext_from = ["10.77.0.0/24"]
}
auth "backend" {}
backend_login {
  mode = "user"
}
backend_defaults {
  tls           = "none"
  login_timeout = "20s"
}
discovery "consul" {
  address = "127.0.0.1:8500"
  service = "imap"
}
routing {
  storage        = "shared"
  failover_after = "5s"
  flap_damp      = "2s"
  pin_grace      = "1s"
}
park {
  linger      = "1s"
  quiet_after = "1s"
  warm_for    = "10s"
}
telemetry {
  log {
    level = "debug"
    file  = "%[3]s"
  }
}
admin {
  address    = "%[2]s:8143"
  token_file = "%[4]s"
}
shutdown {
  drain = "1s"
}
%[5]s
`

const clusterConfig = `
register {
}
cluster {
  token_file   = "%s"
  session_ttl  = "%s"
  agree_within = "5s"
  isolated     = "%s"
  move_rate    = 200
  rebalance_rate = 200
}
`

// token is the token of the admin API.
const token = "0123456789abcdef-of-the-chaos"

func startProxy(t testing.TB, l *lab, name, addr string, o labOptions, cert servers.Certificate, consuls []string) *proxy {
	t.Helper()
	dir := servers.Folder(t)
	p := &proxy{
		t: t, name: name, on: startMachine(t, name, addr), config: filepath.Join(dir, "config.hcl"), log: filepath.Join(dir, "log"),
		addr: addr + ":143", admin: "http://" + addr + ":8143",
	}
	p.agent = startAgent(t, p.on, false, consuls...)
	secret := filepath.Join(dir, "token")
	write(t, secret, token+"\n")
	further := ""
	if o.together {
		further = fmt.Sprintf(clusterConfig, secret, o.ttl, o.isolated)
	}
	write(t, p.config, fmt.Sprintf(proxyConfig, name, addr, p.log, secret, further))
	p.start()
	return p
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *proxy) start() {
	p.t.Helper()
	cmd := p.on.command(os.Getenv(servers.ProxyBinary), "serve", "--config", p.config)
	// A race that the detector sees ends the process, and so the test.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	p.Process = servers.Start(p.t, "imapproxy "+p.name, cmd, p.log)
}

// awaitReady asks /readyz until it says yes.
func (p *proxy) awaitReady() {
	p.t.Helper()
	eventually(p.t, p.name+" is ready", func() error {
		select {
		case <-p.Done():
			p.t.Fatalf("%s has ended", p.name)
		default:
		}
		_, err := p.get("/readyz")
		return err
	})
}

var adminClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (p *proxy) get(path string) (string, error) {
	r, err := http.NewRequest(http.MethodGet, p.admin+path, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := adminClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), nil
}

func (p *proxy) stop()        { signal(p.t, p.Process, syscall.SIGSTOP) }
func (p *proxy) goOn()        { signal(p.t, p.Process, syscall.SIGCONT) }
func (a *agent) stop()        { signal(a.t, a.Process, syscall.SIGSTOP) }
func (a *agent) goOn()        { signal(a.t, a.Process, syscall.SIGCONT) }
func (p *proxy) peer() string { return p.on.addr }
