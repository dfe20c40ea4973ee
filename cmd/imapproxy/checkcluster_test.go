package main

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imapproxy/internal/imaptest/consultest"
)

// backendsIn registers two backends.
func backendsIn(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	for n, address := range fleet(t, 2).Addresses() {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		agent.Register(consultest.Service{ID: "imap-" + itoa(n+1), Name: "imap", Address: host, Port: number})
	}
}

// agreeing is a configuration with the block cluster.
func agreeing(t *testing.T, agent *consultest.Agent, tokenFile, settings string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster.token")
	write(t, path, "of-all-proxies\n")
	text := consulFile(agent, "register {\n}\ncluster {\n  token_file = \""+path+"\"\n"+settings+"}\n")
	if tokenFile != "" {
		text = strings.Replace(text, "  service = \"imap\"\n", "  service = \"imap\"\n  token_file = \""+tokenFile+"\"\n", 1)
	}
	return text
}

const (
	readsAll = "service_prefix \"\" {\n  policy = \"read\"\n}\nnode_prefix \"\" {\n  policy = \"read\"\n}\n"
	sessions = "session_prefix \"\" {\n  policy = \"write\"\n}\n"
	keys     = "key_prefix \"imapproxy/\" {\n  policy = \"write\"\n}\n"
	readKeys = "key_prefix \"imapproxy/\" {\n  policy = \"read\"\n}\n"
)

// A proxy whose token isn't enough never joins, and serves no user. check says so before, and what the token needs; it changes
// nothing in Consul.
func TestCheckTriesWhatTheAgreementNeeds(t *testing.T) {
	agent := consultest.StartWithACLs(t)
	backendsIn(t, agent)
	agent.PutKV("imapproxy/placement/ann", "thing")
	for _, c := range []struct {
		rules string
		want  []string
		code  int
	}{
		{readsAll + keys, []string{"FAIL  cluster", `session "NAME OF THE AGENT'S NODE"`}, exitFailed},
		{readsAll + sessions, []string{"FAIL  cluster", `key_prefix "imapproxy/"`}, exitFailed},
		{readsAll + sessions + readKeys, []string{"FAIL  cluster", `key_prefix "imapproxy/"`}, exitFailed},
		{readsAll + sessions + keys, []string{"ok    cluster", "0 living proxies"}, exitOK},
	} {
		token := agent.NewToken("proxy"+itoa(len(c.rules)), c.rules)
		path := filepath.Join(t.TempDir(), "token")
		write(t, path, token.Secret+"\n")
		before, err := agent.Index("/v1/kv/imapproxy/?recurse")
		if err != nil {
			t.Fatal(err)
		}
		r := check(t, agreeing(t, agent, path, ""), "", "")
		for _, want := range c.want {
			if !strings.Contains(r.stdout.String(), want) {
				t.Errorf("%s\ndoesn't say %q:\n%s", c.rules, want, r.stdout)
			}
		}
		if r.code != c.code {
			t.Errorf("%s\nexit code %d\n%s", c.rules, r.code, r.stdout)
		}
		if after, err := agent.Index("/v1/kv/imapproxy/?recurse"); err != nil || after != before {
			t.Errorf("the keys' index is %d, was %d (%v)", after, before, err)
		}
		if left, _ := agent.Get("/v1/session/list"); strings.Contains(left, "check") {
			t.Errorf("a session is left: %s", left)
		}
	}
}

// Other proxies that decide alone, or agree by other settings, are named.
func TestCheckNamesProxiesThatDontAgree(t *testing.T) {
	agent := consultest.Start(t)
	backendsIn(t, agent)
	r, _, _, _ := launchServe(t, agreeing(t, agent, "", "  agree_within = \"5s\"\n  isolated = \"hold\"\n"))
	defer func() {
		r.interrupt()
		r.wait()
	}()
	await(t, "its entry", func() bool {
		text, _ := agent.Get("/v1/health/service/imapproxy?passing")
		return strings.Contains(text, `"agrees"`)
	})
	same := check(t, agreeing(t, agent, "", "  agree_within = \"5s\"\n  isolated = \"hold\"\n"), "", "")
	if out := same.stdout.String(); same.code != exitOK || !strings.Contains(out, "1 living proxy") || strings.Contains(out, "other settings") || strings.Contains(out, "other proxies") {
		t.Errorf("%d\n%s", same.code, out)
	}
	other := check(t, agreeing(t, agent, "", ""), "", "").stdout.String()
	for _, want := range []string{"warn  cluster", "agree_within (here 10s, there 5s)", "isolated (here serve, there hold)"} {
		if !strings.Contains(other, want) {
			t.Errorf("doesn't say %q:\n%s", want, other)
		}
	}
	users := check(t, agreeing(t, agent, "", "")+"users {\n  lowercase = false\n}\n", "", "")
	if users.code != exitFailed || !strings.Contains(users.stdout.String(), "it wouldn't join") {
		t.Errorf("%d\n%s", users.code, users.stdout)
	}
	plain := check(t, consulFile(agent, "register {\n}\n"), "", "")
	if plain.code != exitFailed || !strings.Contains(plain.stdout.String(), "serve doesn't start") || !strings.Contains(plain.stdout.String(), "block cluster") {
		t.Errorf("%d\n%s", plain.code, plain.stdout)
	}

	agent.Register(consultest.Service{ID: "imapproxy-other", Name: "imapproxy", Address: "192.0.2.1", Port: 993,
		Meta: map[string]string{"kind": "imapproxy"}, Check: &consultest.Check{TTL: "30m", Status: "passing"}})
	alone := check(t, agreeing(t, agent, "", ""), "", "")
	if out := alone.stdout.String(); alone.code != exitFailed || !strings.Contains(out, "FAIL  other proxies") || !strings.Contains(out, "imapproxy-other on") ||
		!strings.Contains(out, "without a block cluster") || strings.Contains(out, "live under") {
		t.Errorf("%d\n%s", alone.code, out)
	}
}
