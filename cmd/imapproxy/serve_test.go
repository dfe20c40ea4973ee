package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/dev"
	"imapproxy/internal/imaptest"
)

// fleet runs backends in the process.
func fleet(t testing.TB, n int) *dev.Fleet {
	t.Helper()
	f, err := dev.Start(context.Background(), dev.Options{Backends: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// file is a configuration for a fleet, on free ports; nil for none.
func file(f *dev.Fleet, more string) string {
	text := `
hostname = "imap.test"
listener "plain" {
  address        = "127.0.0.1:0"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
}
discovery "static" {
`
	var addresses []string
	if f != nil {
		addresses = f.Addresses()
	}
	for n, address := range addresses {
		text += "  backend \"b" + itoa(n+1) + "\" {\n    address = \"" + address + "\"\n  }\n"
	}
	return text + `
}
routing {
  storage = "shared"
}
limits {
  auth_failure_delay = "0s"
}
admin {
  address = "127.0.0.1:0"
}
shutdown {
  drain = "200ms"
}
` + more
}

// launchServe serves a configuration and returns where, and the file's name.
func launchServe(t testing.TB, text string) (r *running, plain, api, config string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "config.hcl")
	write(t, config, text)
	r = launch(t, "serve", "--config", config)
	plain = r.await(r.stderr, `msg=listening listener=plain address=(\S+)`)[1]
	api = r.await(r.stderr, `msg=serving .*admin=(\S+)`)[1]
	r.await(r.stderr, `backend joined`)
	return r, plain, api, config
}

func TestServeReloadsAtHangup(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	first, second := fleet(t, 1), fleet(t, 1)
	text := file(first, "")
	r, plain, api, config := launchServe(t, text)
	alice := imaptest.Dial(t, plain)
	alice.Login("alice", "alice")

	// Nothing has changed.
	if log := r.reload(); !strings.Contains(log, `changed=[]`) || strings.Contains(log, "restart") {
		t.Errorf("a reload without a change: %s", log)
	}

	// A file with mistakes changes nothing, and all of them are said.
	write(t, config, strings.Replace(text, "shared", "sharde", 1)+"\nlimit {\n}\n")
	log := r.reload()
	if !regexp.MustCompile(`level=ERROR msg="reload failed, the old settings stay"`).MatchString(log) ||
		!strings.Contains(log, "config.hcl:15") || !strings.Contains(log, `the file has no block \"limit\"`) {
		t.Errorf("a reload with mistakes: %s", log)
	}
	alice.MustOK("NOOP")
	imaptest.Dial(t, plain).Login("bob", "bob")

	// What a reload can do, it does; what it can't, it says.
	changed := strings.Replace(file(second, ""), "auth_failure_delay", "per_user = 1\n  auth_failure_delay", 1)
	changed = strings.Replace(changed, `admin {
  address = "127.0.0.1:0"`, `admin {
  address = "127.0.0.1:1"`, 1)
	write(t, config, changed)
	log = r.reload()
	if !strings.Contains(log, `changed="[discovery.static.backend.b1.address limits.per_user]"`) ||
		!regexp.MustCompile(`level=WARN msg="these changes need a restart[^"]*" settings=\[admin.address\]`).MatchString(log) {
		t.Errorf("a reload: %s", log)
	}
	alice.MustOK("NOOP") // sessions stay
	if again := imaptest.Dial(t, plain).TryLogin("alice", "alice"); again.OK() {
		t.Errorf("limits.per_user doesn't hold: %s", again)
	}
	// New users go to the second fleet once its probe has answered, then the first
	// one isn't needed any more.
	await(t, "the new backend", func() bool {
		return strings.Contains(command(t, "backends", "--admin", api).stdout.String(), second.Addresses()[0])
	})
	if err := first.Close(); err != nil {
		t.Log(err)
	}
	imaptest.Dial(t, plain).Login("carol", "carol")

	r.interrupt()
	if code := r.wait(); code != exitOK || !strings.Contains(r.stderr.String(), "msg=stopped") {
		t.Errorf("exit code %d\n%s", code, r.stderr)
	}
}

// await waits for what no event tells a test from outside.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s doesn't come", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

func TestServeTellsSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, 512)
		if err := systemd.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := systemd.Read(buf)
		if err != nil || !regexp.MustCompile("^"+want+"$").Match(buf[:n]) {
			t.Fatalf("systemd was told %q (%v), want %s", buf[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	text := file(fleet(t, 1), "")
	r, _, api, config := launchServe(t, text)
	expect("READY=1\nSTATUS=serving")
	reloaded := func() {
		t.Helper()
		r.reload()
		expect("RELOADING=1\nMONOTONIC_USEC=\\d+\n*STATUS=reloading")
		expect("READY=1\nSTATUS=serving, reloaded at \\d\\d:\\d\\d:\\d\\d")
	}
	lastReload := func(want string) {
		t.Helper()
		if out := command(t, "status", "--admin", api).stdout.String(); !regexp.MustCompile(`(?m)^last reload +` + want).MatchString(out) {
			t.Errorf("status doesn't say %s:\n%s", want, out)
		}
	}
	reloaded()
	lastReload(`\d+s ago$`)

	// A failed reload is reported as neither RELOADING nor READY, and status shows it.
	write(t, config, strings.Replace(text, "shared", "sharde", 1)+"\nlimit {\n}\n")
	r.reload()
	expect(`STATUS=serving with the old settings; the reload of \d\d:\d\d:\d\d failed: \S+config.hcl:\d+: routing.storage: "sharde" isn't a value of it; [^\n]*\(and 1 mistake more\)`)
	lastReload(`FAILED \d+s ago, the old settings hold: \S+config.hcl:\d+: routing.storage`)
	write(t, config, strings.Replace(text, "hostname = \"imap.test\"", "hostname = \"imap.test\"\ntelemetry {\n  log {\n    format = \"json\"\n  }\n}", 1))
	reloaded()
	lastReload(`\d+s ago; a restart is needed for telemetry.log.format$`)
	metrics := get(t, "http://"+api+"/metrics")
	for _, want := range []string{`(?m)^imapproxy_reloads_total\{outcome="ok"[^}]*\} 2$`, `(?m)^imapproxy_reloads_total\{outcome="failed"[^}]*\} 1$`} {
		if !regexp.MustCompile(want).MatchString(metrics) {
			t.Errorf("no %s in the metrics:\n%s", want, metrics)
		}
	}
	r.interrupt()
	expect("STOPPING=1\nSTATUS=draining")
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestServeFailsWhereAnAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	text := file(fleet(t, 1), "")
	config := filepath.Join(t.TempDir(), "config.hcl")
	for what, changed := range map[string]string{
		"listener": strings.Replace(text, "127.0.0.1:0", taken.Addr().String(), 1),
		"admin":    strings.Replace(text, "admin {\n  address = \"127.0.0.1:0\"", "admin {\n  address = \""+taken.Addr().String()+"\"", 1),
	} {
		write(t, config, changed)
		r := command(t, "serve", "--config", config)
		if r.code != exitFailed || !strings.Contains(r.stderr.String(), taken.Addr().String()) {
			t.Errorf("%s: %d %s", what, r.code, r.stderr)
		}
	}
}

func TestTheAdminAPIWantsItsToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "open sesame\n")
	reads := token + ".reads"
	write(t, reads, "look at sesame\n")
	text := strings.Replace(file(fleet(t, 1), ""), "admin {", "admin {\n  token_file = \""+token+"\"\n  read_token_file = \""+reads+"\"", 1)
	r, _, api, _ := launchServe(t, text)
	if without := command(t, "status", "--admin", api); without.code != exitFailed || !strings.Contains(without.stderr.String(), "use --token-file") {
		t.Errorf("without the token: %d %s%s", without.code, without.stdout, without.stderr)
	}
	other := token + ".other"
	write(t, other, "another\n")
	if wrong := command(t, "kick", "alice", "--admin", api, "--token-file", other); wrong.code != exitFailed || !strings.Contains(wrong.stderr.String(), "another token than "+other) {
		t.Errorf("with another token: %d %s%s", wrong.code, wrong.stdout, wrong.stderr)
	}
	if with := command(t, "status", "--admin", api, "--token-file", token); with.code != exitOK {
		t.Errorf("with the token: %d %s", with.code, with.stderr)
	}
	if reading := command(t, "status", "--admin", api, "--token-file", reads); reading.code != exitOK {
		t.Errorf("with the token for reading: %d %s", reading.code, reading.stderr)
	}
	if kick := command(t, "kick", "alice", "--admin", api, "--token-file", reads); kick.code != exitFailed || !strings.Contains(kick.stderr.String(), "may only read") {
		t.Errorf("kick with the token for reading: %d %s%s", kick.code, kick.stdout, kick.stderr)
	}
	if strings.Contains(r.stderr.String(), "sesame") {
		t.Error("the token is in the log")
	}
}

func hostname(t testing.TB) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func port(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// get is the body of an HTTP answer.
func get(t testing.TB, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	return string(text)
}
