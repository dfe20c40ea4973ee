package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What real backends do stands on the page's cards, in /v1/backends and in imapproxy backends: one that is killed, one whose users are held by what can't be parked
// while it is drained from the page, and one that is paused from there.
func TestTheCardsOfBackends(t *testing.T) {
	t.Parallel()
	b := imaptest.NewBrowser(t)
	k := startAgreeing(t, 1, 3, "  move_rate = 1000\n")
	p := k.proxies[0]
	user := k.usersAt(p, "d1", 1)[0]
	c := login(t, p, user)
	c.MustOK("SEARCH RETURN (SAVE) ALL") // its result belongs to the connection
	c.MustOK("FETCH 1 (FLAGS)")
	k.doves[2].Process.Kill()
	k.consul.TTL("service:d3", "critical")
	p.eventually(t, "without d3", func() error {
		if out := k.must(p, "backends"); !strings.HasPrefix(strings.Split(out, "\n")[1], "d3 ") || !strings.Contains(out, "down") && !strings.Contains(out, "can't be reached") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})

	type lasting struct {
		Count    int
		P50, P99 float64
	}
	var list struct {
		Backends []struct {
			ID          string
			StableID    string  `json:"stable_id"`
			UserShare   float64 `json:"user_share"`
			WeightShare float64 `json:"weight_share"`
			Attachments map[string]int
			Lately      struct{ Dial, Login, Answer lasting }
		}
	}
	if err := json.Unmarshal([]byte(k.must(p, "backends", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, one := range list.Backends {
		ids[one.ID] = "backend-" + one.StableID
		if one.ID != "d1" {
			continue
		}
		if one.UserShare <= 0 || one.WeightShare < 0.3 || one.WeightShare > 0.5 || one.Attachments["attached"] != 1 {
			t.Errorf("d1: %+v", one)
		}
		for what, l := range map[string]lasting{"dial": one.Lately.Dial, "login": one.Lately.Login, "answer": one.Lately.Answer} {
			if l.Count == 0 || l.P50 <= 0 || l.P99 < l.P50 {
				t.Errorf("d1: %s: %+v", what, l)
			}
		}
	}

	text := func(id string) string { return "document.getElementById('" + ids[id] + "').innerText" }
	says := func(id, what string, is bool) {
		t.Helper()
		b.Await(fmt.Sprintf("document.getElementById('%s') !== null && %s.includes(%q)", ids[id], text(id), what), fmt.Sprint(is))
	}
	press := func(id, verb string) {
		t.Helper()
		says(id, verb, true)
		b.Run(fmt.Sprintf("[...document.querySelectorAll('[id=\"%s\"] button')].find((e) => e.textContent === '%s').click()", ids[id], verb))
		b.Await("document.getElementById('confirm').open", "true")
		b.Run("document.getElementById('done').className = ''; document.getElementById('confirm-yes').click()")
		b.Await("document.getElementById('done').className", "well")
	}
	b.Open(p.Admin+"/", 390)
	b.Await("document.getElementById('error').textContent", "A token is needed.")
	b.Run("document.getElementById('token').value = '" + clusterToken + "'; document.querySelector('#login button').click()")
	b.Await("document.querySelectorAll('#backends article').length", "3")
	b.Await("document.querySelector('#backends article').id", ids["d3"])
	says("d1", " % of the users, ", true)
	says("d1", "1 attached", true)

	press("d1", "drain")
	says("d1", "draining", true)
	says("d1", "1 saved_search", true)
	says("d1", "connections of 1 user left", true)
	b.Open(p.Admin+"/", 1400)
	says("d1", "drain ends", true)
	press("d1", "undrain")
	says("d1", "draining", false)
	says("d1", "up", true)
	press("d2", "pause")
	says("d2", "paused", true)
	press("d2", "resume")
	says("d2", "paused", false)
	c.MustOK("NOOP")
}
