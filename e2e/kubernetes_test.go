package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

const (
	kubernetesExample = "../packaging/kubernetes/imapproxy.yaml"
	podConfig         = "/etc/imapproxy/config/config.hcl"
)

// kubernetesPod is what tools/manifests says that the kubelet would run.
type kubernetesPod struct {
	Args                []string
	Env                 []struct{ Name, Value string }
	Ports               map[string]int
	Files               map[string]podFile
	User, Group         int
	Readiness, Liveness string
	Notices             int `json:"notices_seconds"`
	Grace               int `json:"grace_seconds"`
}

type podFile struct {
	Content string
	Mode    os.FileMode
	Known   bool
}

// understand reads Kubernetes' objects; wrong is what doesn't fit.
func understand(t *testing.T, manifests, file string) (p kubernetesPod, wrong string) {
	t.Helper()
	var complaint strings.Builder
	c := exec.CommandContext(t.Context(), manifests, "kubernetes", file)
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		return p, complaint.String() + err.Error()
	}
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p, ""
}

// setting returns the first value of a setting that is a text.
func setting(t *testing.T, config, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^\s*` + name + `\s*= "(.*)"$`).FindStringSubmatch(config)
	if found == nil {
		t.Fatalf("the configuration has no %s", name)
	}
	return found[1]
}

// The objects are read as strictly as Kubernetes can, and fit together: names, labels, ports, rights, times. The proxy understands the
// configuration in them, and doesn't start before the Secret has tokens.
func TestTheKubernetesExampleIsUnderstood(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	manifests := tool(t, "manifests")
	p, wrong := understand(t, manifests, kubernetesExample)
	if wrong != "" {
		t.Fatal(wrong)
	}
	if p.Readiness != "/readyz" || p.Liveness != "/healthz" {
		t.Errorf("the probes ask %s and %s", p.Readiness, p.Liveness)
	}
	if !slices.Equal(p.Args, []string{"serve", "--config", podConfig}) {
		t.Error(p.Args)
	}
	config := p.Files[podConfig].Content
	seconds := func(name string) int {
		d, err := time.ParseDuration(setting(t, config, name))
		if err != nil {
			t.Fatal(err)
		}
		return int(d.Seconds())
	}
	if lame := seconds("lame_duck"); lame <= p.Notices || p.Grace <= lame+seconds("drain") {
		t.Errorf("the lame duck takes %d s, Kubernetes notices it in %d s; it kills after %d s", lame, p.Notices, p.Grace)
	}

	// The ports are those that the configuration listens at.
	var listens, ports []string
	for _, found := range regexp.MustCompile(`address\s*= ":(\d+)"`).FindAllStringSubmatch(config, -1) {
		listens = append(listens, found[1])
	}
	for _, number := range p.Ports {
		text, err := json.Marshal(number)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, string(text))
	}
	slices.Sort(listens)
	slices.Sort(ports)
	if !slices.Equal(listens, ports) {
		t.Errorf("the proxy listens at %v, the container has %v", listens, ports)
	}

	dir := servers.Folder(t)
	for path, f := range p.Files {
		inside := filepath.Join(dir, strings.TrimPrefix(path, "/etc/imapproxy/"))
		if err := os.MkdirAll(filepath.Dir(inside), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, inside, strings.ReplaceAll(f.Content, "/etc/imapproxy", dir))
		if err := os.Chmod(inside, f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	cert := servers.NewCertificate(t)
	for name, from := range map[string]string{"tls/tls.crt": cert.CertFile, "tls/tls.key": cert.KeyFile} {
		if err := os.Rename(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), p.Files["/etc/imapproxy/"+name].Mode); err != nil {
			t.Fatal(err)
		}
	}
	check := func() (string, error) {
		c := exec.CommandContext(t.Context(), os.Getenv(proxyBinary), "check", "--file-only", "--config", filepath.Join(dir, "config/config.hcl"))
		c.Env = append(os.Environ(), "POD_IP=192.0.2.1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	out, err := check()
	if err == nil || !strings.Contains(out, "admin.token is empty") || !strings.Contains(out, "consul.token is empty") {
		t.Errorf("without tokens: %v\n%s", err, out)
	}
	for _, name := range []string{"admin.token", "consul.token"} {
		writeFile(t, filepath.Join(dir, "secrets", name), "a-long-random-text-of-this-test\n")
	}
	if out, err := check(); err != nil || strings.Contains(out, "warn") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Mistakes in the objects are seen.
func TestMistakesInTheKubernetesExampleAreSeen(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	manifests := tool(t, "manifests")
	text, err := os.ReadFile(kubernetesExample)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(servers.Folder(t), "example.yaml")
	for _, c := range []struct{ from, to, want string }{
		{"readOnlyRootFilesystem", "readOnlyRootFileSystem", "unknown field"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root can be written"},
		{"  minReadySeconds: 10\n", "  minReadySeconds: 10\n  minReadySeconds: 10\n", "already set"},
		{"replicas: 2", "replicas: two", "cannot unmarshal"},
		{"replicas: 2", "replicas: 1", "fewer than two replicas"},
		{"maxUnavailable: 0", "maxUnavailable: 1", "before another one is ready"},
		{"apiVersion: policy/v1", "apiVersion: policy/v1beta1", "no kind"},
		{"  namespace: mail\n", "  namespace: post\n", "is in the namespace"},
		{"  selector:\n    app.kubernetes.io/name: imapproxy", "  selector:\n    app.kubernetes.io/name: imap", "the service doesn't select"},
		{"  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: imapproxy", "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app: imapproxy", "budget doesn't select"},
		{"port: admin", "port: web", "is no port of the container"},
		{"targetPort: imaps", "targetPort: tls", "is no port of the container"},
		{"externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", "hides the clients' addresses"},
		{"- name: secrets\n          secret", "- name: tokens\n          secret", "isn't among the volumes"},
		{"secretName: imapproxy\n", "secretName: tokens\n", "neither here"},
		{"defaultMode: 0440", "defaultMode: 0400", "readable by the group"},
		{"defaultMode: 0440", "defaultMode: 0444", "readable by the group"},
		{"fsGroup: 65532", "fsGroup: 1000", "isn't its files'"},
		{"runAsUser: 65532", "runAsUser: 0", "may run as root"},
		{"runAsNonRoot: true", "runAsNonRoot: false", "may run as root"},
		{"drop: [\"ALL\"]", "drop: [\"NET_RAW\"]", "keeps capabilities"},
		{"allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "may get more rights"},
		{"automountServiceAccountToken: false", "automountServiceAccountToken: true", "token for the API server"},
		{"type: RuntimeDefault", "type: Unconfined", "all of the kernel"},
	} {
		changed := strings.Replace(string(text), c.from, c.to, 1)
		if changed == string(text) {
			t.Errorf("the example has no %q", c.from)
			continue
		}
		writeFile(t, file, changed)
		if _, wrong := understand(t, manifests, file); !strings.Contains(wrong, c.want) {
			t.Errorf("%q isn't seen as %q: %q", c.to, c.want, wrong)
		}
	}
}
