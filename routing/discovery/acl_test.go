package discovery

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/imaptest/consultest"
)

// readAll is what a proxy has to read.
const readAll = `
service "imap" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
key_prefix "imapproxy/" {
  policy = "read"
}
`

// tokenFile is a file with a token, which write replaces.
func tokenFile(t *testing.T) (path string, write func(secret string)) {
	path = filepath.Join(t.TempDir(), "token")
	return path, func(secret string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const denies = "denies what the proxy has to read"

func TestATokenThatIsReplacedIsReadAgain(t *testing.T) {
	a := consultest.StartWithACLs(t)
	a.Register(instance("b1"))
	old, next := a.NewToken("old", readAll), a.NewToken("next", readAll)
	file, write := tokenFile(t)
	write(old.Secret)
	router, r, log := routed(t, a, func(o *ConsulOptions) { o.TokenFile = file })
	r.waitFleet(t, "b1")

	old.Delete()
	a.Register(instance("b2")) // wakes the query whose token is gone
	log.wait(t, denies)
	if got := fleetOf(router); got != "b1" {
		t.Errorf("without a token the fleet is %q", got)
	}
	if _, err := router.Pick("ann", ""); err != nil {
		t.Error(err)
	}
	write(next.Secret)
	r.waitFleet(t, "b1 b2")
	log.wait(t, "answers again")
	if n := strings.Count(log.String(), denies); n != 1 {
		t.Errorf("%d errors of one refusal:\n%s", n, log)
	}
	if text := log.String(); strings.Contains(text, old.Secret) || strings.Contains(text, next.Secret) {
		t.Errorf("the log holds a token:\n%s", text)
	}
}

// A token that may not read a node any more gets an answer without that node's backends, and a
// success. Half of the backends seemed to have gone, and their users went elsewhere.
func TestAnAnswerThatLeavesOutWhatTheTokenMayNotReadIsNotTaken(t *testing.T) {
	a := consultest.StartWithACLs(t)
	for node, id := range map[string]string{"n1": "b1", "n2": "b2"} {
		a.Catalog(consultest.Node{Name: node, Address: "192.0.2.1"}, instance(id))
	}
	token := a.NewToken("proxy", readAll)
	file, write := tokenFile(t)
	write(token.Secret)
	router, r, log := routed(t, a, func(o *ConsulOptions) { o.TokenFile = file })
	r.waitFleet(t, "b1 b2")

	token.Allow("proxy", strings.Replace(readAll, `node_prefix ""`, `node_prefix "n1"`, 1))
	a.Catalog(consultest.Node{Name: "n1", Address: "192.0.2.1"}, instance("b3"))
	log.wait(t, denies)
	if got := fleetOf(router); got != "b1 b2" {
		t.Errorf("while a part is left out the fleet is %q", got)
	}
	token.Allow("proxy", readAll)
	r.waitFleet(t, "b1 b2 b3")
	log.wait(t, "answers again")
}

// Placements are read with a token of the same file.
func TestPlacementsAreReadWithTheTokenThatReplacedAnother(t *testing.T) {
	a := consultest.StartWithACLs(t)
	old, next := a.NewToken("old", readAll), a.NewToken("next", readAll)
	file, write := tokenFile(t)
	write(old.Secret)
	c, err := NewConsul(ConsulOptions{Address: a.Address(), Service: "imap", TokenFile: file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.kv.closeIdle()
	a.PutKV("imapproxy/placement/ann", "b1")
	if id, _, err := c.Placement(context.Background(), "ann"); id != "b1" {
		t.Fatalf("%q %v", id, err)
	}
	old.Delete()
	write(next.Secret)
	c.kv.mu.Lock()
	c.kv.made = c.kv.made.Add(-tokenReadEvery) // the last reading was a while ago
	c.kv.mu.Unlock()
	if id, _, err := c.Placement(context.Background(), "ann"); err == nil {
		t.Errorf("a deleted token reads %q", id)
	}
	if id, _, err := c.Placement(context.Background(), "ann"); id != "b1" {
		t.Errorf("the next login: %q %v", id, err)
	}
}
