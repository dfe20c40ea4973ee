package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// A token with the rules that we ship is enough for a proxy that finds its backends in Consul, registers itself and agrees with others. Without
// any one of them something is refused, and the log says so.
func TestTheConsulPolicyIsEnoughAndNoRuleTooMuch(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	text, err := os.ReadFile("../packaging/consul/policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	policy := string(text)
	rules := map[string]string{}
	for _, found := range regexp.MustCompile(`(?ms)^(\w+ "[^"]*") \{\n.*?^\}\n`).FindAllStringSubmatch(policy, -1) {
		rules[found[1]] = found[0]
	}
	server, consul := servers.StartDovecot(t, servers.DovecotOptions{}), consultest.StartWithACLs(t)
	registerBackend(t, consul, "b1", server.Addr)
	dir := servers.Folder(t)
	shared := filepath.Join(dir, "cluster.token")
	writeFile(t, shared, clusterToken+"\n")
	with := func(name, rules string) *runningProxy {
		t.Helper()
		file := filepath.Join(dir, name+".token")
		writeFile(t, file, consul.NewToken(name, rules).Secret+"\n")
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		p := configureProxy(t, proxyOptions{Consul: consul.Address(), Service: service, ConsulACL: file,
			Further: fmt.Sprintf("register {\n}\ncluster {\n  token_file = %q\n}\n", shared)})
		p.Process = servers.Start(t, "imapproxy", p.serveCommand())
		return p
	}

	const refused, denied, notAgreed = "consul refuses the proxy's registration", "denies what the proxy has to read", "Consul denies what this proxy needs to agree"
	without := map[string]string{
		`service "imap"`: denied, `node_prefix ""`: denied, `service "imapproxy"`: refused, `key_prefix "imapproxy/"`: notAgreed, `session_prefix ""`: notAgreed,
	}
	if len(rules) != len(without) {
		t.Errorf("the policy has %d rules, and %d are known here", len(rules), len(without))
	}
	for rule, complaint := range without {
		if rules[rule] == "" {
			t.Errorf("the policy has no %s", rule)
			continue
		}
		p := with("without-"+strings.Trim(regexp.MustCompile(`\W+`).ReplaceAllString(rule, "-"), "-"), strings.Replace(policy, rules[rule], "", 1))
		p.says(t, complaint)
		p.Stop()
	}

	p := with("all", policy)
	p.waitReady(t)
	p.eventually(t, "registered", func() error {
		if text, _ := consul.Get("/v1/health/service/imapproxy?passing"); !strings.Contains(text, `"agrees"`) {
			return errors.New(text)
		}
		return nil
	})
	c := imaptest.Dial(t, p.Plain)
	c.Login(servers.User(1), servers.Password)
	c.MustOK("SELECT INBOX")
	p.Stop()
	if text, _ := consul.Get("/v1/agent/services"); strings.Contains(text, `"imapproxy"`) {
		t.Errorf("the entry is left: %s", text)
	}
	for _, complaint := range []string{refused, denied, notAgreed, "Permission denied"} {
		if strings.Contains(p.Output(), complaint) {
			t.Errorf("with all rules: %s", complaint)
		}
	}
}
