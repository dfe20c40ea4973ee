package admin_test

import (
	"fmt"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
	"imapproxy/routing"
)

// yard is a crowd with three backends: b2 is down, b1 is drained and paused.
type yard struct{ crowd }

func (y *yard) Backends() []routing.BackendStatus {
	return append(y.crowd.Backends(),
		routing.BackendStatus{Backend: routing.Backend{ID: "b3", Name: "imap3", Address: "10.0.0.3:143", Weight: 300, State: routing.Up, Tags: []string{"<b>nvme</b>"}}, Since: now(), Pins: 6, Sessions: 9})
}

// options returns those of the yard's API.
func (y *yard) options() admin.Options {
	o := options(&y.fake)
	o.Proxy, o.Past, o.Kick, o.Router = y, y, y.kick, y
	o.Mover, o.Pauser = &mover{}, &mover{}
	o.SessionsOn = func(ids ...string) map[string]proxy.SessionsAt {
		all := map[string]proxy.SessionsAt{}
		for _, id := range ids {
			all[id] = proxy.SessionsAt{Attachments: map[string]int{}}
		}
		all["b3"] = proxy.SessionsAt{Attachments: map[string]int{"attached": 2, "parked": 7}}
		return all
	}
	o.Lately = func(name string) admin.BackendLately {
		l := admin.BackendLately{Seconds: 300}
		switch name {
		case "imap3":
			l.Dial, l.Login, l.Answer = admin.Lasting{Count: 4, P50: 0.2, P99: 1.4}, admin.Lasting{Count: 3, P50: 20, P99: 120}, admin.Lasting{Count: 999, P50: 3, P99: 2300}
			l.Slow = 12
		case "b2":
			l.FailedDials, l.RefusedLogins, l.Silent = 40, 5, 1
		}
		return l
	}
	return o
}

// A backend's part of the users and of the weights, its sessions and what was seen of it lately stand in the answer.
func TestBackendsTellWhatTheyDo(t *testing.T) {
	y := &yard{}
	got := decode[admin.Backends](t, ask(handler(t, y.options()), "/v1/backends"))
	if len(got.Backends) != 3 {
		t.Fatalf("%+v", got)
	}
	b1, b2, b3 := got.Backends[0], got.Backends[1], got.Backends[2]
	if b1.UserShare != 0.25 || b1.WeightShare != 0.25 || b3.UserShare != 0.75 || b3.WeightShare != 0.75 || b2.UserShare != 0 || b2.WeightShare != 0 {
		t.Errorf("shares: %+v %+v %+v", b1, b2, b3)
	}
	if b3.Attachments["parked"] != 7 || b1.Attachments == nil || b3.Lately.Answer.P99 != 2300 || b2.Lately.FailedDials != 40 {
		t.Errorf("%+v %+v", b2, b3)
	}
	if empty := decode[admin.Backends](t, ask(handler(t, options(&fake{})), "/v1/backends")); empty.Backends[0].Attachments == nil {
		t.Error("attachments is null")
	}
}

// Each backend has a card, the one with a fault first, in a phone's width and a desk's.
func TestThePagesBackends(t *testing.T) {
	b := imaptest.NewBrowser(t)
	y := &yard{crowd{n: 3}}
	url := serveHandler(t, handler(t, y.options()))
	card := func(id string, parts ...string) {
		t.Helper()
		contains(t, b, "backend-"+id, parts...)
	}
	for _, width := range []int{390, 1400} {
		b.Open(url, width)
		b.Await("document.querySelectorAll('#backends article').length", "3")
		b.Await("[...document.querySelectorAll('#backends article')].map((e) => e.id).join()", "backend-b2,backend-b1,backend-b3")
		b.Await("document.documentElement.scrollWidth <= innerWidth", "true")
		card("b2", "b2 down", "critical, can't be reached", "40 failed connects, 5 refused clients, 1 silent connections given up", "2 in a row: refused", "dial––0")
		card("b1", "b1 up", "25 % of the users, 25 % of the weight", "by jane until", "2 connections left, held by: 1 command", "held by1 command")
		card("b3", "imap3 up", "75 % of the users, 75 % of the weight", "9 (7 parked, 2 attached)", "<b>nvme</b>", "dial0.2 ms1.4 ms4", "login20.0 ms0.12 s3", "first answer3.0 ms2.30 s999", "12 slow answers")
		b.Await("document.querySelector('#backend-b3 .bar.users').style.width", "75%")
		b.Await("document.querySelector('#backend-b3 .bar.users').getBoundingClientRect().height > 2", "true")
		if b.Run("[...document.querySelectorAll('.verbs button')].some((e) => e.checkVisibility())") != "false" {
			t.Error("there are commands, without a token")
		}
		phone := b.Run("new Set([...document.querySelectorAll('#backends article')].map((e) => e.getBoundingClientRect().top)).size")
		if want := map[int]string{390: "3", 1400: "1"}[width]; phone != want {
			t.Errorf("at %d pixels the cards are in %s rows, want %s", width, phone, want)
		}
	}
	if b.Run("document.querySelectorAll('#backends b').length") != "0" {
		t.Error("a tag was taken for markup")
	}
}

// The verbs of a card are tried dry, and done once they are confirmed.
func TestTheVerbsOfABackendsCard(t *testing.T) {
	b := imaptest.NewBrowser(t)
	y := &yard{crowd{n: 3}}
	o, m := y.options(), &mover{}
	o.Token, o.Mover, o.Pauser = operatorsToken, m, m
	b.Open(serveHandler(t, handler(t, o)), 1400)
	b.Await(text("error"), "A token is needed.")
	b.Run("document.getElementById('token').value = '" + operatorsToken + "'; document.querySelector('#login button').click()")
	b.Await(shown("move"), "true")
	press := func(id, verb string) {
		t.Helper()
		b.Await(fmt.Sprintf("document.getElementById('backend-%s') !== null", id), "true")
		if b.Run(fmt.Sprintf("((e) => { e?.click(); return !!e })([...document.querySelectorAll('#backend-%s button')].find((e) => e.textContent === '%s'))", id, verb)) != "true" {
			t.Fatalf("%s has no %s", id, verb)
		}
	}
	for _, c := range []struct {
		id, verb string
		dry, wet any
	}{
		{"b3", "drain", admin.DrainRequest{Backend: "imap3", By: "page", DryRun: true}, admin.DrainRequest{Backend: "imap3", By: "page"}},
		{"b1", "undrain", admin.UndrainRequest{Backend: "b1", By: "page", DryRun: true}, admin.UndrainRequest{Backend: "b1", By: "page"}},
		{"b3", "pause", admin.PauseRequest{Backend: "imap3", By: "page", DryRun: true}, admin.PauseRequest{Backend: "imap3", By: "page"}},
		{"b1", "resume", nil, admin.ResumeRequest{Backend: "b1", By: "page"}},
	} {
		m.all()
		press(c.id, c.verb)
		b.Await("document.getElementById('confirm').open", "true")
		if did := m.all(); c.dry != nil && (len(did) != 1 || did[0] != c.dry) || c.dry == nil && len(did) > 0 {
			t.Errorf("%s, dry: %+v, want %+v", c.verb, did, c.dry)
		}
		b.Run("document.getElementById('done').className = ''; document.getElementById('confirm-yes').click()")
		b.Await("document.getElementById('done').className", "well")
		if did := m.all(); len(did) != 1 && c.verb != "resume" || c.verb != "resume" && did[0] != c.wet {
			t.Errorf("%s: %+v, want %+v", c.verb, did, c.wet)
		}
	}
	press("b3", "move a user here")
	b.Await("document.getElementById('move-to').value", "imap3")
	b.Await("document.activeElement.id", "move-user")
}
