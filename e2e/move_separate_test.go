package e2e

import (
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// placementPrefix is that of placements in Consul's KV.
const placementPrefix = "imapproxy/placement/"

// With separate storage a move changes the user's placement where it stands in Consul, and all proxies follow: sessions end, since the other store
// has another mailbox, and logins go there. What the proxies can't change is refused with the reason, and nothing is changed.
func TestAMoveChangesThePlacement(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	for _, id := range []string{"d1", "d2"} {
		k.mail = servers.DovecotMail(t) // one for each
		registerBackend(t, k.consul, id, k.addBackend(id))
	}
	user, fixed, unplaced := servers.User(1), servers.User(2), servers.User(3)
	placement := func(user string) string {
		t.Helper()
		value, _ := k.consul.Get("/v1/kv/" + placementPrefix + user + "?raw")
		return value
	}
	k.consul.PutKV(placementPrefix+user, "d1")
	k.consul.PutKV(placementPrefix+fixed, "d2") // the passwd-file's stands before it
	passwords := servers.Folder(t) + "/users"
	writeFile(t, passwords, fixed+":{PLAIN}"+servers.Password+"::::::backend=d1\n")
	for range 2 {
		k.proxies = append(k.proxies, k.startWith("", proxyOptions{
			Consul: k.consul.Address(), Storage: "separate", PasswdFile: passwords, Routing: "flap_damp = \"0s\"\nfailover_after = \"1s\"",
		}))
	}
	k.agreed()
	first, second := k.proxies[0], k.proxies[1]
	a, b := login(t, first, user), login(t, second, user)
	a.MustOK("APPEND INBOX {8+}\r\nA: b\r\n\r\n") // a mailbox without a message may have no mod-sequences
	a.MustOK("NOOP")
	b.MustOK("NOOP")
	login(t, first, fixed).MustOK("LOGOUT")
	k.isAt(first, user, "d1")

	k.refuses(second, "it is in passwd_file", "move", fixed, "d2")
	k.refuses(first, unplaced+" has no placement in Consul", "move", unplaced, "d2")
	k.refuses(first, "move users one by one", "drain", "d1")
	if out := k.must(second, "move", user, "d2", "--dry-run"); !strings.Contains(out, "would go to d2, from d1") {
		t.Errorf("a dry run says\n%s", out)
	}
	a.MustOK("NOOP")
	if at := placement(user); at != "d1" {
		t.Errorf("after a dry run the placement is %q", at)
	}

	if out := k.must(second, "move", user, "d2"); !strings.Contains(out, user+" goes to d2, for all proxies") || !strings.Contains(out, "placement") {
		t.Errorf("move says\n%s", out)
	}
	if at := placement(user); at != "d2" {
		t.Errorf("the placement is %q", at)
	}
	for _, c := range []*imaptest.Client{a, b} {
		c.Expect("* BYE [UNAVAILABLE] {*}moved to another server{*}")
	}
	k.isAt(first, user, "")
	for _, p := range k.proxies {
		login(t, p, user)
		k.isAt(p, user, "d2")
		if out := k.must(p, "user", user); !strings.Contains(strings.Join(strings.Fields(out), " "), "placement d2 moved to d2") {
			t.Errorf("user says\n%s", out)
		}
	}
	for name, want := range map[string]string{fixed: "d2", unplaced: ""} {
		if at := placement(name); at != want {
			t.Errorf("the placement of %s is %q", name, at)
		}
	}
}
