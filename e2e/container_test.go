package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// inContainer is what a runtime makes of the image "$1": it is the root, nothing of it can be written, and what a runtime mounts is there.
// "$2" has the pod's files, "$3" the authorities that the program shall trust; then comes what is run.
const inContainer = `
set -eu
root=$1
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind "$2" "$root/etc/imapproxy"
mount -o remount,bind,ro "$root/etc/imapproxy"
mount --bind "$3" "$root/etc/ssl/certs/ca-certificates.crt"
mount -o remount,bind,ro "$root"
shift 3
exec "$@"
`

// layOut writes a volume's files as the kubelet does: in a folder of their own, to which links lead, so that all of them are replaced at once.
func layOut(t *testing.T, dir string, generation int, files map[string]podFile, group int) {
	t.Helper()
	data := fmt.Sprintf("..%d", generation)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, data), 0o755))
	for name, f := range files {
		path := filepath.Join(dir, data, name)
		writeFile(t, path, f.Content)
		must(os.Chown(path, 0, group))
		must(os.Chmod(path, f.Mode))
		if generation == 0 {
			must(os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
		}
	}
	must(os.Symlink(data, filepath.Join(dir, "..new")))
	must(os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
}

// firstChild is the process that a process has started.
func firstChild(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	var child int
	if _, scan := fmt.Sscan(string(text), &child); err != nil || scan != nil {
		t.Fatal(err, scan)
	}
	return child
}

// The image serves the Kubernetes example's configuration, as the first process of a container with a root that can't be written, without
// capabilities. Stopped as Kubernetes stops it, it is unready at once, still takes clients, and ends with success.
func TestTheContainerImageServes(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	if !servers.OwnNetwork(t) { // the example has fixed ports
		return
	}
	manifests := tool(t, "manifests")
	pod, wrong := understand(t, manifests, kubernetesExample)
	if wrong != "" {
		t.Fatal(wrong)
	}
	const authorities, program = "/etc/ssl/certs/ca-certificates.crt", "/usr/bin/imapproxy"
	made := buildImage(t, manifests, "../packaging/Dockerfile", "1.0")
	made.contains(t, authorities, program)
	made.isBuiltAgain(t, program, "1.0")
	if want := fmt.Sprintf("%d:%d", pod.User, pod.Group); made.user != want {
		t.Errorf("the image's user is %s, the pod's %s", made.user, want)
	}
	if !slices.Equal(made.entrypoint, []string{program}) || len(made.cmd) != len(pod.Args) || made.cmd[0] != pod.Args[0] {
		t.Errorf("the image runs %v %v, the pod %v", made.entrypoint, made.cmd, pod.Args)
	}
	for _, port := range pod.Ports {
		if !slices.Contains(made.ports, fmt.Sprint(port)) {
			t.Errorf("the image doesn't name the port %d", port)
		}
	}
	for _, name := range []string{"proc", "dev", "etc/imapproxy"} { // a runtime makes what it mounts on
		if err := os.MkdirAll(filepath.Join(made.root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	trusted := servers.NewCertificate(t)
	server, consul := servers.StartDovecot(t, servers.DovecotOptions{Certificate: trusted}), consultest.StartWithACLs(t)
	registerBackend(t, consul, "b1", server.Addr)
	policy, err := os.ReadFile("../packaging/consul/policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	const token = "a-long-random-text-of-this-test"
	volumes, dir := map[string]map[string]podFile{}, servers.Folder(t)
	cert := imaptest.NewCert(t)
	for path, f := range pod.Files {
		volume, name := filepath.Split(path)
		switch name {
		case "admin.token":
			f.Content = token + "\n"
		case "consul.token":
			f.Content = consul.NewToken("proxy", string(policy)).Secret + "\n"
		case "tls.crt":
			f.Content = string(cert.CertPEM)
		case "tls.key":
			f.Content = string(cert.KeyPEM)
		}
		volume = filepath.Join(dir, strings.TrimPrefix(volume, "/etc/imapproxy"))
		if volumes[volume] == nil {
			volumes[volume] = map[string]podFile{}
		}
		volumes[volume][name] = f
	}
	for volume, files := range volumes {
		layOut(t, volume, 0, files, pod.Group)
	}

	// What the kubelet puts in place of the fields, but for Consul's port.
	variables := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range pod.Env {
		switch v.Name {
		case "POD_IP", "HOST_IP":
			v.Value = "127.0.0.1"
		case "CONSUL_HTTP_ADDR":
			if v.Value != "$(HOST_IP):8500" {
				t.Errorf("Consul's agent is looked for at %s", v.Value)
			}
			v.Value = consul.Address()
		}
		variables = append(variables, v.Name+"="+v.Value)
	}
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--propagation", propagation(t), "/bin/sh", "-c", inContainer, "sh",
		made.root, dir, trusted.CertFile, "env", "-i"}
	args = append(args, variables...)
	args = append(args, "setpriv", "--no-new-privs", "--bounding-set=-all,+sys_chroot,+setuid,+setgid",
		"unshare", "--root", made.root, "--wd", "/", "--setgid", fmt.Sprint(pod.Group), "--setuid", fmt.Sprint(pod.User))
	args = append(append(args, made.entrypoint...), pod.Args...)
	p := &runningProxy{TLS: fmt.Sprint("127.0.0.1:", pod.Ports["imaps"]), StartTLS: fmt.Sprint("127.0.0.1:", pod.Ports["imap"]), Admin: fmt.Sprint("http://127.0.0.1:", pod.Ports["admin"])}
	p.Process = servers.Start(t, "the container", exec.Command("unshare", args...))
	p.waitReady(t)

	pid := firstChild(t, p.Pid())
	p.hasNoRights(t, pid, pod.User)
	client := imaptest.DialTLS(t, p.TLS, cert.Client)
	client.Login(servers.User(1), servers.Password)
	client.MustOK("SELECT INBOX")
	starts := imaptest.DialStartTLS(t, p.StartTLS, cert.Client)
	starts.Login(servers.User(2), servers.Password)
	starts.MustOK("LOGOUT")
	p.runs(t, token, "1.0")

	// A renewed certificate, as cert-manager and the kubelet bring it.
	renewed, volume := imaptest.NewCert(t), filepath.Join(dir, "tls")
	files := volumes[volume]
	for name, pem := range map[string][]byte{"tls.crt": renewed.CertPEM, "tls.key": renewed.KeyPEM} {
		f := files[name]
		f.Content = string(pem)
		files[name] = f
	}
	layOut(t, volume, 1, files, pod.Group)
	p.eventually(t, "using the renewed certificate", func() error {
		c, err := tls.Dial("tcp", p.TLS, renewed.Client)
		if err == nil {
			err = c.Close()
		}
		return err
	})

	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.says(t, "stopping soon")
	if status, reason := p.readiness(t); status != http.StatusServiceUnavailable || !strings.Contains(reason, "lame_duck") {
		t.Errorf("/readyz: %d %s", status, reason)
	}
	after := imaptest.DialTLS(t, p.TLS, renewed.Client)
	after.Login(servers.User(3), servers.Password)
	after.MustOK("SELECT INBOX")
	after.MustOK("LOGOUT")
	client.MustOK("LOGOUT")
	<-p.Done()
	if code := p.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

// hasNoRights checks that the process is its namespace's first, runs as that user, has no capabilities and can't write its root.
func (p *runningProxy) hasNoRights(t *testing.T, pid, user int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		all[name] = strings.Join(strings.Fields(value), " ")
	}
	const none = "0000000000000000"
	for name, want := range map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Uid": fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", user), "Groups": ""} {
		if all[name] != want {
			t.Errorf("%s is %q, not %q", name, all[name], want)
		}
	}
	if !strings.HasSuffix(all["NSpid"], " 1") {
		t.Errorf("it isn't the container's first process: %s", all["NSpid"])
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == "/" && !strings.HasPrefix(f[3], "ro") {
			t.Errorf("its root can be written: %s", line)
		}
	}
}

// runs checks the version that the proxy tells to who has the token.
func (p *runningProxy) runs(t *testing.T, token, version string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Admin+"/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), fmt.Sprintf("\"version\":%q", version)) {
		t.Errorf("%v: %s", err, body)
	}
}
