package e2e

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Each transcript of testdata is run on each server that has what it requires,
// directly and through the proxy, and what the client saw is compared. Each run
// has users of its own, with names of the same length.
func TestTranscriptsAreTheSameThroughTheProxy(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	ran := map[string]int{}
	for _, start := range []func(testing.TB) *servers.Server{
		func(t testing.TB) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
		},
		func(t testing.TB) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
		},
		servers.StartCyrus,
		servers.StartCourier,
		servers.StartMox,
	} {
		server := start(t)
		t.Run(server.Name, func(t *testing.T) {
			backends := []backend{{"b1", server.Addr}}
			relaying := startProxy(t, proxyOptions{Backends: backends, Stays: true})
			parking := startProxy(t, proxyOptions{Backends: backends})
			caps := capabilities(t, server)
			for i, path := range paths {
				script, err := imaptest.LoadScript(path)
				if err != nil {
					t.Fatal(err)
				}
				if missing := script.Missing(caps); len(missing) > 0 || server.Kind == "mox" && slices.Contains(notOnMox(), filepath.Base(path)) {
					continue // the server hasn't got what the transcript is about
				}
				ran[path]++
				t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
					t.Parallel() // most of it waits
					first := 6*i + 1
					want := transcript(t, script, "direct", runOptions(server, server.Addr, first))
					through := runOptions(server, relaying.Plain, first+2)
					same(t, want, transcript(t, script, "through the proxy", through))
					through = runOptions(server, parking.TLS, first+4)
					through.Dial.TLS = parking.Cert.Client
					got := transcript(t, script, "through the proxy that parks, by TLS", through)
					same(t, farewell(want), farewell(got))
				})
			}
		})
	}
	for _, path := range paths {
		if ran[path] == 0 {
			t.Errorf("%s ran on no server", path)
		}
	}
}

// notOnMox are transcripts whose first run, with no proxy, mox answers otherwise than they want.
func notOnMox() []string {
	return []string{
		"big.txtar",           // it closes the connection at a large literal that it wasn't asked about
		"fetch.txtar",         // UID in each FETCH response, before the item that was asked for
		"idle.txtar",          // no RECENT
		"list-extended.txtar", // no selection option SPECIAL-USE
		"metadata.txtar",      // SETMETADATA takes no literal
		"move.txtar",          // UID MOVE of nothing is NO
		"notify.txtar",        // no STATUS with MESSAGES and UIDNEXT comes
		"qresync.txtar",       // a message of before the SELECT is told as new, and the connection closed
		"quota.txtar",         // no QUOTAROOT
		"search.txtar",        // SEARCH BODY by a literal finds nothing
	}
}

func same(t *testing.T, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Errorf("the proxy makes a difference:\n%s", diff.Diff("direct", want, "proxy", got))
	}
}

// farewell takes the words out of LOGOUT's answers: a proxy that keeps the connection for the
// next login gives them itself.
func farewell(transcript []byte) []byte {
	transcript = regexp.MustCompile(`(?m)^(S\d*: \* BYE) .*$`).ReplaceAll(transcript, []byte("$1"))
	for _, c := range regexp.MustCompile(`(?m)^C(\d*): (\S+) LOGOUT$`).FindAllSubmatch(transcript, -1) {
		words := regexp.MustCompile(`(?m)^(S` + string(c[1]) + `: ` + string(c[2]) + ` OK) .*$`)
		transcript = words.ReplaceAll(transcript, []byte("$1"))
	}
	return transcript
}

// transcript runs the script and returns what was said, less what differs
// between any two runs: times, ids, and the users' names.
func transcript(t *testing.T, script *imaptest.Script, how string, o imaptest.RunOptions) []byte {
	t.Helper()
	recording, err := script.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	text, err := recording.Transcript(imaptest.CompareOptions{
		IgnoreCaps: takenOver(), Normalise: []string{"objectid"},
		Replace: strings.NewReplacer(o.Vars["user"], "<user>", o.Vars["user2"], "<user2>"),
	})
	if err != nil {
		t.Fatal(err)
	}
	// Cyrus: "Completed (0.040 sec)", "(2 msgs in 0.000 secs)". Dovecot: "[2026-11-23 02:20:36]".
	times := regexp.MustCompile(`\d+\.\d{3} secs?|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]`)
	text = times.ReplaceAllString(text, "<time>")
	// Cyrus makes UIDVALIDITYs of the time: two mailboxes of one second have the same.
	return regexp.MustCompile(`<v\d+>`).ReplaceAll([]byte(text), []byte("<uidvalidity>"))
}

// runOptions are those for users number user and the next, at an address.
func runOptions(s *servers.Server, addr string, user int) imaptest.RunOptions {
	vars := map[string]string{
		"user": s.User(user), "user2": s.User(user + 1), "password": servers.Password,
		"p": "", "others": s.OtherUsers,
	}
	if s.Kind == "courier" {
		vars["p"] = "INBOX."
	}
	return imaptest.RunOptions{
		Addr: addr, Vars: vars,
		Conditions: map[string]bool{s.Kind: true, s.Name: true},
	}
}

// takenOver are the capabilities that a backend may have and the proxy answers
// for by itself.
func takenOver() []string {
	return []string{"STARTTLS", "AUTH=*", "LOGINDISABLED", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE", "COMPRESS", "COMPRESS=*"}
}

// capabilities returns the server's capabilities after a login.
func capabilities(t *testing.T, s *servers.Server) string {
	t.Helper()
	c := imaptest.Dial(t, s.Addr)
	c.Login(s.User(servers.Users), servers.Password)
	r, ok := c.MustOK("CAPABILITY").Find("CAPABILITY")
	if !ok {
		t.Fatalf("%s says no CAPABILITY", s.Name)
	}
	c.MustOK("LOGOUT")
	return strings.TrimPrefix(r.Text, "* CAPABILITY ")
}
