package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// place is where the page answers a question: a click or an entry, the element with the answer, and an expression for the answer.
type place struct{ do, at, says string }

// filter is what a person does to see one user's.
func filter(user string) string {
	return fmt.Sprintf("document.getElementById('user').value = %q; document.querySelector('#filter button').click()", user)
}

// opens is a click on the heading of a list.
func opens(list string) string {
	return "((e) => { if (!e.open) e.querySelector('summary').click() })(document.getElementById('" + list + "-box'))"
}

// places are the parts of the page that docs/operations.md names, by its words, with what a person sees there.
func places(users []string) map[string][]place {
	problems := []place{{"", "#problems", `d3: .*down.*\[backend_down\]`}}
	used := []place{{"", "#used", `^Used: descriptors \d+ of \d+ \(\d+ %\), memory .+ sessions 2.* A restart by imapproxy upgrade disconnects no client; systemctl restart would disconnect 2 sessions`}}
	slow := []place{{filter(users[0]) + ";" + opens("slow"), "#slow", users[0] + `\s+d1\s+FETCH`}}
	return map[string][]place{
		"Sessions, by user: an id opens the session's page": {
			{filter(users[0]), "#sessions", users[0] + `\s+d1\s`},
			{"[...document.querySelectorAll('#sessions tr')].find((r) => r.textContent.includes('" + users[0] + "')).querySelector('.link').click()", "#one", `Session \S+[^]*` + users[0] + `[^]*Its last commands[^]*FETCH[^]*Its backend connection[^]*attached`}},
		"Slow commands":                    slow,
		"Slow commands: the link":          append(slow, place{"", "#slow a[href^='https://traces.example.org/']", `^trace$`}),
		"Backends: the first cards":        {{"", "#backends article:first-child", `^d3 down[^]*why[^]*critical[^]*since`}},
		"Backends: the table of each card": {{"", "#backends", `dial\s+[\d.]+ m?s\s+[\d.]+ m?s\s+\d+\s+login\s+[\d.]+ m?s[^]*first answer\s+[\d.]+ m?s`}},
		"Problems":                         problems,
		"Sessions":                         {{filter(""), "#sessions", users[0] + `[^]*127\.0\.0\.1:\d+`}, {"", "#sessions", users[2] + `[^]*parked`}},
		"Ended sessions, by user":          {{filter(users[1]) + ";" + opens("ended"), "#ended", `^\S+( [AP]M)?\s+\S+\s+` + users[1] + `\s+kicked`}},
		"What parking saves":               {{"", "#billing", `now\s+2\s+\d+\s+-?\d+\s+\S+ \S+[^]*connections saved = `}},
		"above the backends":               {{"", "#summary", `\d+ client sessions : \d+ backend connections.*Discovery: last good set \d+ s ago\. Consul answered \d+ s ago`}, {"", "#parked", `^1 of them are parked`}},
		"Who fails to log in":              {{opens("failing"), "#failing", `address\s+127\.0\.0\.1\s+3\s[^]*user\s+` + servers.User(40) + `\s+3\s`}},
		"Certificates, above the backends": {{"", "#ends", `^Certificates: .*imaps ends in \d+ days`}},
		"Running configuration":            {{opens("config"), "#config-box", `its file differs[^]*it differs in [^]*shutdown\.drain`}},
		"beside the title":                 {{"", "#hostname", `imap\.test devel`}},
		"with several proxies: Proxies":    {{"", "#hostname", `.`}}, // it isn't there with one: the tests of several proxies look at it
		"Events":                           {{opens("changes"), "#changes", `reloaded[^]*backend_process_memory`}, {"", "#changes", `admin: kick[^]*by=`}, {"", "#changes", `backend is down[^]*d3`}},
		"Used, above the backends":         used,
		"the tiles":                        {{"", "#tile-descriptors", `Descriptors\s+\d+ of \d+`}, {"", "#tile-memory", `Memory\s+[\d.]+ MB of `}},
	}
}

// onThePage looks for the answer of each question where docs/operations.md says that the page has it, as a person with the token would.
func (k *agreeing) onThePage(p *runningProxy, all []question, width int, users []string) {
	t := k.several.t
	t.Helper()
	known := places(users)
	named := map[string]bool{}
	b := imaptest.NewBrowser(t)
	b.Open(p.Admin+"/#token="+clusterToken, width)
	b.Await("document.querySelectorAll('#backends article').length", "3")
	for _, q := range all {
		begun := time.Now()
		for _, name := range strings.Split(q.page, "; ") {
			steps, ok := known[name]
			if !ok {
				t.Errorf("%s the page's part %q isn't looked at", q.words, name)
			}
			named[name] = true
			for _, s := range steps {
				if s.do != "" {
					b.Run(s.do)
				}
				b.Await(fmt.Sprintf("((e) => !!e && e.checkVisibility() && /%s/.test(e.innerText))(document.querySelector(%q))", s.says, s.at), "true")
			}
		}
		t.Logf("at %d px: %s %s: %v", width, q.words, q.page, time.Since(begun).Round(time.Millisecond))
	}
	b.Await("document.documentElement.scrollWidth <= innerWidth", "true")
	for name := range known {
		if !named[name] {
			t.Errorf("docs/operations.md doesn't name %q", name)
		}
	}
	if slices.ContainsFunc(all, func(q question) bool { return q.page == "" }) {
		t.Error("a question has no place on the page")
	}
}
