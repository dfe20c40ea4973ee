package app

import (
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// settingsWithTLS returns settings with a second listener, and its certificate.
func settingsWithTLS(t *testing.T) (string, imaptest.Cert) {
	t.Helper()
	cert := imaptest.NewCert(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cert.pem"), string(cert.CertPEM))
	write(t, filepath.Join(dir, "key.pem"), string(cert.KeyPEM))
	return settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr) + `
listener "imaps" {
  address = "127.0.0.1:0"
  tls     = "implicit"
  certificate {
    cert_file = "` + dir + `/cert.pem"
    key_file  = "` + dir + `/key.pem"
  }
}
`, cert
}

// What is wrong is in the status and in the metric for as long as it is wrong.
func TestProblemsAreShownWhileTheyLast(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	text, _ := settingsWithTLS(t)
	path := file(t, text)
	var later atomic.Int64
	a := open(t, Options{File: path, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	running := task.Start(a.Run)
	<-a.Ready()
	client := &admin.Client{Address: a.AdminAddr(), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	expect := func(when string, critical bool, kind, words string) {
		t.Helper()
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Problems, func(p admin.Problem) bool {
			return p.Kind == kind && p.Critical == critical && strings.Contains(p.Subject+": "+p.Text, words)
		})
		if i < 0 {
			t.Errorf("%s: %+v, want %s %q", when, s.Problems, kind, words)
		}
		if got := scraped(t, a.AdminAddr()); !strings.Contains(got, `imapproxy_problems{kind="`+kind+`"`) || strings.Contains(metric(got, kind), "} 0") {
			t.Errorf("%s: the metric says %s", when, metric(got, kind))
		}
	}
	none := func(when string) {
		t.Helper()
		s, err := client.Status(t.Context())
		if err != nil || s.Problems == nil || len(s.Problems) != 0 {
			t.Errorf("%s: %v %+v", when, err, s.Problems)
		}
		if got := metric(scraped(t, a.AdminAddr()), "reload_failed"); !strings.HasSuffix(got, " 0") {
			t.Errorf("%s: the metric says %q", when, got)
		}
	}
	none("at the start")

	write(t, path, text+"limits {\n  per_usr = 1\n}\n")
	if a.Reload(t.Context()) == nil {
		t.Error("a file with a mistake")
	}
	line := strings.Count(text, "\n") + 2
	expect("after a reload that failed", false, "reload_failed", path+":"+strconv.Itoa(line)+": ")
	write(t, path, text)
	if err := a.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	none("after one that succeeded")

	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	imaptest.Eventually(t, "few descriptors are a problem", func() bool { // again if one was closed between the two counts
		few := files
		few.Cur = uint64(descriptorUse().Used)*5/4 - 1
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		problems := a.problems()
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			t.Fatal(err)
		}
		return len(problems) == 1 && problems[0].Kind == "descriptors"
	})

	before := debug.SetMemoryLimit(memoryUse().Used)
	expect("with little memory", true, "memory", " of memory are used")
	debug.SetMemoryLimit(before)
	none("with much of all")

	later.Store(int64(47 * time.Hour)) // it is valid for two days from now
	expect("before the certificate's end", false, "certificate", "imaps: the certificate ends in 59 minutes")
	later.Store(int64(49 * time.Hour))
	expect("after the certificate's end", true, "certificate", "imaps: the certificate has ended")
	later.Store(0)
	none("at last")
	end(t, a, running)
}

// The metrics show when certificates end, which settings hold since when, how the last reload went, and how much of each limit is used.
func TestTheMetricsShowWhatTheProcessWasGiven(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	text, cert := settingsWithTLS(t)
	text += `limits {
  connections = 100
}
park {
  backend_process_memory = "4MiB"
}
`
	path := file(t, text)
	a := open(t, Options{File: path})
	running := task.Start(a.Run)
	<-a.Ready()
	leaf, err := x509.ParseCertificate(cert.Server.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	value := func(series string) float64 {
		t.Helper()
		for line := range strings.Lines(scraped(t, a.AdminAddr())) {
			line = strings.TrimSpace(line)
			if n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil && strings.HasPrefix(line, series) {
				return n
			}
		}
		return -1
	}
	scope := func(name, labels string) string { return name + "{" + labels }
	if got := value(scope("imapproxy_certificate_end_seconds", `of="imaps"`)); got != float64(leaf.NotAfter.Unix()) {
		t.Errorf("the certificate ends at %v, the metric says %f", leaf.NotAfter, got)
	}
	// Without a session nothing is saved; the memory is shown since it is known.
	for _, saved := range []string{"connections", "memory_bytes", "logins"} {
		if got := value("imapproxy_park_saved_" + saved); got != 0 {
			t.Errorf("saved %s: %f", saved, got)
		}
	}
	if got := (past{a}).History(time.Time{}).Bill.BackendProcessMemory; got != 4<<20 {
		t.Errorf("the bill goes by %d bytes for a process", got)
	}
	digest := a.current.Load().digest
	if got := value(scope("imapproxy_config_info", `digest="`+digest+`"`)); got != 1 {
		t.Errorf("the digest %s isn't shown: %f", digest, got)
	}
	for _, resource := range []string{"descriptors", "memory", "sessions"} {
		used, limit := value(scope("imapproxy_resource_used", `resource="`+resource+`"`)), value(scope("imapproxy_resource_limit", `resource="`+resource+`"`))
		if limit <= 0 || used < 0 || used > limit || resource != "sessions" && used == 0 {
			t.Errorf("%s: %f of %f", resource, used, limit)
		}
	}
	if got := value("imapproxy_reload_ok "); got != -1 {
		t.Errorf("before a reload: %f", got)
	}
	write(t, path, strings.Replace(text, "connections", "conections", 1))
	if a.Reload(t.Context()) == nil {
		t.Error("a file with a mistake")
	}
	if got := value("imapproxy_reload_ok "); got != 0 {
		t.Errorf("after a reload that failed: %f", got)
	}
	write(t, path, strings.Replace(text, "connections = 100", "connections = 101", 1))
	if err := a.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	r := a.lastReload.Load()
	if got := value("imapproxy_reload_ok "); got != 1 {
		t.Errorf("after one that succeeded: %f", got)
	}
	if got := value("imapproxy_reload_time_seconds "); got != float64(r.Time.UnixMilli())/1000 {
		t.Errorf("the reload was at %v, the metric says %f", r.Time, got)
	}
	if again := a.current.Load(); again.digest == digest || value(scope("imapproxy_config_info", `digest="`+again.digest+`"`)) != 1 || value(scope("imapproxy_config_info", `digest="`+digest+`"`)) != -1 {
		t.Errorf("%s and then %s", digest, again.digest)
	}
	end(t, a, running)
}

// A backend that can't be reached is a problem, and so is that logins are refused since there is none.
func TestNoBackendIsAProblem(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	a := open(t, Options{File: file(t, settings("127.0.0.1:1"))})
	running := task.Start(a.Run)
	<-a.Ready()
	if answer := imaptest.Dial(t, a.Addrs()["plain"]).TryLogin("user1", "secret"); answer.OK() {
		t.Fatal(answer)
	}
	var all []string
	for _, p := range a.problems() {
		all = append(all, p.Kind+" "+p.Subject+": "+p.Text)
	}
	if len(all) != 2 || !strings.HasPrefix(all[0], "no_backend : no backend is up: logins are refused with NO [UNAVAILABLE], 1 in the last 5 minutes") || !strings.HasPrefix(all[1], "backend_down b1: ") {
		t.Errorf("%q", all)
	}
	end(t, a, running)
}

// The least limit of memory counts: those of the groups above too, and of both versions of control groups.
func TestTheMemoryLimitOfControlGroups(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), text)
	}
	if got := groupLimit(root); got != 1<<63-1 {
		t.Errorf("without groups: %d", got)
	}
	put("proc/self/cgroup", "9:name=systemd:/\n4:memory:/old\n0::/a/b\n")
	put("sys/fs/cgroup/a/b/memory.max", "max\n")
	put("sys/fs/cgroup/a/memory.max", "2000\n")
	if got := groupLimit(root); got != 2000 {
		t.Errorf("of the group above: %d", got)
	}
	put("sys/fs/cgroup/memory/old/memory.limit_in_bytes", "1500\n")
	if got := groupLimit(root); got != 1500 {
		t.Errorf("of the first version: %d", got)
	}
}

func scraped(t testing.TB, address string) string {
	t.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metric returns the line of a kind of problem.
func metric(text, kind string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "imapproxy_problems{") && strings.Contains(line, `kind="`+kind+`"`) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// The ends of what clients' certificates are verified by are metrics, and problems before they come.
func TestTheEndsOfClientsAuthoritiesAreShown(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	text, _ := settingsWithTLS(t)
	ca, dir := imaptest.NewCA(t, "users"), t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), string(ca.CertPEM))
	write(t, filepath.Join(dir, "crl.pem"), string(ca.Revocations(nil, func(l *x509.RevocationList) { l.ThisUpdate = l.NextUpdate.Add(-7 * 24 * time.Hour) })))
	write(t, filepath.Join(dir, "users"), "alice:{PLAIN}x\n")
	write(t, filepath.Join(dir, "master"), "of-the-master\n")
	text = strings.Replace(text, "  tls     = \"implicit\"\n", "  tls     = \"implicit\"\n  client_certificates {\n    ca_file = \""+dir+"/ca.pem\"\n    crl_file = \""+dir+"/crl.pem\"\n  }\n", 1) +
		"auth \"passwd_file\" {\n  path = \"" + dir + "/users\"\n}\nbackend_login {\n  mode = \"master\"\n  username = \"master\"\n  password_file = \"" + dir + "/master\"\n}\n"
	a := open(t, Options{File: file(t, text)})
	running := task.Start(a.Run)
	<-a.Ready()
	metrics := scraped(t, a.AdminAddr())
	for _, name := range []string{"imapproxy_certificate_end_seconds", "imapproxy_revocations_end_seconds"} {
		if !strings.Contains(metrics, name+`{of="imaps clients CN=users"}`) {
			t.Errorf("there is no %s of the clients' authority:\n%s", name, metrics)
		}
	}
	found := ""
	for _, p := range a.found() {
		found += string(p.Kind) + " " + p.Subject + ": " + p.Text + "\n"
	}
	if !strings.Contains(found, "certificate imaps clients CN=users: the revocation list ends in 2") {
		t.Errorf("a list of a week that ends in a day isn't a problem:\n%s", found)
	}
	end(t, a, running)
}
