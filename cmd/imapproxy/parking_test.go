package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
)

// parkingStatus is what status says, as a program reads it.
func parkingStatus(t testing.TB, api string) admin.Status {
	t.Helper()
	var st admin.Status
	if text := command(t, "status", "--admin", api, "--json").stdout.String(); json.Unmarshal([]byte(text), &st) != nil {
		t.Fatalf("status: %s", text)
	}
	return st
}

func TestDevParksWhoIdles(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	r, plain, _, api := launchDev(t)
	alice, bob := imaptest.Dial(t, plain), imaptest.Dial(t, plain)
	alice.Login("alice", "alice")
	alice.MustOK("SELECT INBOX")
	done := alice.Idle()
	bob.Login("bob", "bob")
	bobDone := bob.Idle() // nothing is selected: there is nothing to park
	await(t, "the parking, and the end of the warm connection", func() bool {
		st := parkingStatus(t, api)
		return st.Attachments["parked"] == 1 && st.Parking != nil && st.Parking.WatchConnections == 1 && st.Parking.WarmConnections == 0
	})
	if text := command(t, "sessions", "--admin", api, "--user", "bob").stdout.String(); !strings.Contains(text, "attached (idle_unselected)") ||
		!strings.Contains(text, "  idle_unselected: in IDLE with no mailbox selected\n") {
		t.Errorf("sessions:\n%s", text)
	}
	st := parkingStatus(t, api)
	if st.Parking == nil || st.Parking.Mailboxes["idle"] != 1 || st.Parking.WatchConnections != 1 || st.Parking.WarmConnections != 0 || st.BackendConnections != 1 {
		t.Errorf("status: %+v %+v", st, st.Parking)
	}
	text := command(t, "status", "--admin", api).stdout.String()
	for _, want := range []string{"2 client sessions : 2 backend connections (1.0 : 1)", "2 (1 of sessions, 1 of watches)", "watched by 1 idle"} {
		if !strings.Contains(text, want) {
			t.Errorf("status doesn't say %q:\n%s", want, text)
		}
	}

	other := imaptest.Dial(t, plain)
	other.Login("alice", "alice")
	other.Literal("APPEND INBOX ", imaptest.GeneratedMessage(2000, 1), "")
	alice.Expect("* 6 EXISTS")
	bobDone()
	if a := done(); !a.OK() {
		t.Errorf("IDLE's end: %s", a)
	}
	alice.MustOK("FETCH 6 (UID)")

	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// TestPushEventsReachTheHub posts events where each setting has them, and then a parked session has
// no connection.
func TestPushEventsReachTheHub(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	const token = "a-token-of-the-backends"
	for name, own := range map[string]bool{"on the admin address": false, "on an address of their own": true} {
		t.Run(name, func(t *testing.T) {
			file1 := filepath.Join(t.TempDir(), "token")
			write(t, file1, token+"\nand-one-that-comes-next\n")
			address := ""
			if own {
				address = "    address = \"127.0.0.1:0\"\n"
			}
			r, plain, api, config := launchServe(t, file(fleet(t, 1), `
park {
  enabled  = true
  linger   = "0s"
  warm_for = "0s"
  events {
    token_file = "`+file1+`"
`+address+`  }
}
`))
			events := api
			if own {
				events = r.await(r.stderr, `msg="push events" address=(\S+)`)[1]
			}
			post := func(secret, user string) int {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+events+"/v1/events",
					strings.NewReader(`{"user":"`+user+`","events":[{"mailbox":"INBOX"}]}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+secret)
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				return res.StatusCode
			}
			alice := imaptest.Dial(t, plain)
			alice.Login("alice", "alice")
			alice.MustOK("SELECT INBOX")
			done := alice.Idle()
			await(t, "the parking", func() bool { st := parkingStatus(t, api); return st.Attachments["parked"] == 1 })
			st := parkingStatus(t, api)
			if st.BackendConnections+st.Parking.WatchConnections+st.Parking.WarmConnections != 0 || st.Parking.Mailboxes["push"] != 1 {
				t.Errorf("parked with events: %+v %+v", st, st.Parking)
			}
			if code := post("not-the-right-token", "alice"); code != http.StatusUnauthorized {
				t.Errorf("a wrong token: %d", code)
			}
			resyncs := st.Parking.Resyncs["ok"]
			if code := post(token, "Alice"); code != http.StatusNoContent { // made canonical as at login
				t.Errorf("an event: %d", code)
			}
			await(t, "the resync", func() bool { return parkingStatus(t, api).Parking.Resyncs["ok"] > resyncs })
			if p := parkingStatus(t, api).Parking; p.Events["own"] != 1 || p.Events["unauthorized"] != 1 || p.Hints["push"] != 1 {
				t.Errorf("counted: %+v", p)
			}

			// What a reload can do with parking on, and what it can't.
			write(t, file1, "and-one-that-comes-next\n")
			write(t, config, file(fleet(t, 1), "park {\n  enabled = true\n  watch = \"idle\"\n  linger = \"1m\"\n}\n"))
			if log := r.reload(); !strings.Contains(log, "park.watch") || !strings.Contains(log, "park.linger") || !strings.Contains(log, "need a restart") {
				t.Errorf("reload: %s", log)
			}
			if code := post(token, "alice"); code != http.StatusUnauthorized {
				t.Errorf("a token that isn't in the file any more: %d", code)
			}
			if code := post("and-one-that-comes-next", "alice"); code != http.StatusNoContent {
				t.Errorf("the token that came next: %d", code)
			}
			if a := done(); !a.OK() {
				t.Errorf("IDLE's end: %s", a)
			}
			r.interrupt()
			if code := r.wait(); code != exitOK || strings.Contains(r.stderr.String(), token) {
				t.Errorf("exit code %d, or the token is in the log", code)
			}
		})
	}
}

func TestParkingIsSwitchedOffAndOnByAReload(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	backends := fleet(t, 1)
	settings := func(enabled string) string {
		return file(backends, "park {\n  enabled = "+enabled+"\n  linger = \"0s\"\n}\n")
	}
	r, plain, api, config := launchServe(t, settings("true"))
	idle := func() (c *imaptest.Client, done func() imaptest.Answer) {
		c = imaptest.Dial(t, plain)
		c.Login("alice", "alice")
		c.MustOK("SELECT INBOX")
		return c, c.Idle()
	}
	sessions := func() string { return command(t, "sessions", "--admin", api).stdout.String() }
	alice, done := idle()
	await(t, "the parking", func() bool { return parkingStatus(t, api).Attachments["parked"] == 1 })

	write(t, config, settings("false"))
	if log := r.reload(); !strings.Contains(log, "park.enabled") || strings.Contains(log, "need a restart") {
		t.Errorf("reload: %s", log)
	}
	await(t, "the session to get its connection back", func() bool { return strings.Contains(sessions(), "attached (off)") })
	_, later := idle()
	await(t, "parking to be over", func() bool {
		p := parkingStatus(t, api).Parking
		return p == nil || !p.Enabled
	})
	if st := parkingStatus(t, api); st.Attachments["attached"] != 2 {
		t.Errorf("off: %+v", st.Attachments)
	}
	if a := done(); !a.OK() { // its own IDLE has outlived both
		t.Errorf("IDLE's end: %s", a)
	}
	alice.MustOK("FETCH 1 (UID)")
	done = alice.Idle()

	write(t, config, settings("true"))
	r.reload()
	await(t, "the parking", func() bool { return parkingStatus(t, api).Attachments["parked"] == 1 })
	await(t, "the reason why not the other", func() bool { return strings.Contains(sessions(), "attached (before_on)") })
	for _, done := range []func() imaptest.Answer{done, later} {
		if a := done(); !a.OK() {
			t.Errorf("IDLE's end: %s", a)
		}
	}
	r.interrupt()
	if code := r.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
