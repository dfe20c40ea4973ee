package e2e

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// question is a row of docs/operations.md.
type question struct{ words, command, page string }

// questions returns the questions of operators, with their commands.
func questions(t *testing.T) (all []question) {
	t.Helper()
	b, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "\n| question | command |")
	text, _, _ = strings.Cut(text, "\n\n")
	for _, row := range regexp.MustCompile("(?m)^\\| ([^|]+\\?) \\| `imapproxy ([^`]+)` \\| [^|]+ \\| ([^|]+) \\|$").FindAllStringSubmatch(text, -1) {
		all = append(all, question{row[1], row[2], row[3]})
	}
	return all
}

// What operators ask is answered by the command that the documentation gives, on a proxy of three Dovecots in Consul to which all of it has happened: a dead backend, a slow
// command, a guesser, a kicked user, parked sessions, a reload, and a file that was changed since.
func TestOperatorsQuestions(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "200ms")
	for _, id := range []string{"d1", "d2", "d3"} {
		registerBackend(t, k.consul, id, k.addBackend(id))
	}
	p := k.startWith("", proxyOptions{Consul: k.consul.Address(), Routing: `flap_damp = "0s"`, Guesses: true,
		Telemetry: "trace_url = \"https://traces.example.org/{trace_id}\"\ntraces {\n  endpoint = \"http://127.0.0.1:9\"\n  slow     = \"1us\"\n}"}) // each command is slow, and has a trace
	k.proxies = append(k.proxies, p)
	k.agreed()
	file, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}

	writeFile(t, p.Config, strings.Replace(string(file), "park {", "park {\n  backend_process_memory = \"4MiB\"", 1))
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, "with new settings", func() error { return k.tells(p, "backend_process_memory", "events") })

	users := k.usersAt(p, "d1", 3)
	slow, kicked, idles := login(t, p, users[0]), login(t, p, users[1]), login(t, p, users[2])
	done := idles.Idle()
	slow.MustOK("FETCH 1 (FLAGS)")
	p.eventually(t, "with a parked session", func() error { return k.tells(p, "parked", "sessions", "--user", users[2]) })
	k.must(p, "kick", users[1])
	kicked.Expect("* BYE {*}")
	for range 3 {
		guesser := imaptest.Dial(t, p.Plain)
		if a := guesser.TryLogin(servers.User(40), "guess"); a.OK() {
			t.Fatal("a guess is right")
		}
		_ = guesser.Close()
	}
	k.doves[2].Process.Kill()
	k.consul.TTL("service:d3", "critical")
	p.eventually(t, "without d3", func() error { return k.tells(p, "critical", "backends") })
	now, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.Config, strings.Replace(string(now), `drain = "1s"`, `drain = "2s"`, 1))

	answers := map[string][]string{ // expressions
		"why is a user slow?":                                      {`a login goes to +d1 \(`, `on d1, attached`, `(?m)^\S+ \S+ +\S+ +d1 +FETCH +OK +\d\.\d{3} s`},
		"which backend is sick, and why?":                          {`\ABACKEND .*\nd3 .* down .*critical`},
		"which backend is slow?":                                   {`(?m)^d1 +up +[\d.]+ms [\d.]+m?s +[\d.]+ms [\d.]+m?s +[\d.]+ms [\d.]+m?s +\d+$`},
		"who is logged in, from where?":                            {`(?m)^` + users[0] + ` +127\.0\.0\.1:\d+ +d1 .* attached`, `(?m)^` + users[2] + ` .* parked`},
		"why was a user disconnected at 10:32?":                    {`\d\d:\d\d:\d\d +\S+ +` + users[1] + ` +kicked +d1 +127\.0\.0\.1:\d+ `, `kick`},
		"how many connections are saved, and what are they worth?": {`(?m)^sessions +2 `, `(?m)^connections saved +-?\d+ `, `(?m)^processes saved +-?\d+ `, `(?m)^memory saved +\S+ [kMG]?B `},
		"is parking healthy?":                                      {`\nparking +on, mailboxes watched by 1 `, `\nresyncs `},
		"who guesses passwords?":                                   {`3 failed logins since`, `(?m)^address +127\.0\.0\.1 +3 `, `(?m)^user +` + servers.User(40) + ` +3 `},
		"when do certificates end?":                                {`\ncertificates +.*imaps ends in \S+ \(\d{4}-\d\d-\d\d\)`},
		"is the running configuration the one on disk?":            {`shutdown\.drain`},
		"which version runs?":                                      {`(?m)^PROXY .*VERSION`, ` devel `},
		"what has changed?":                                        {`reloaded .*backend_process_memory`, `admin: kick .*by=`, `backend is down .*d3`},
		"is it safe to restart now?":                               {`\na restart +imapproxy upgrade disconnects no client; systemctl restart would disconnect 2 sessions`},
		"how full is it?":                                          {`\nused +descriptors \d+ of \d+ \(\d+ %\), memory .+ of .+ \(\d+ %\), sessions 2`},
		"does Consul answer?":                                      {`\ndiscovery .*Consul answered \ds ago`},
		"does a trace explain a slow command?":                     {`FETCH +OK +\d\.\d{3} s +\d\.\d{3} s +\d\.\d{3} s +\d\.\d{3} s +\d\.\d{3} s +https://traces\.example\.org/[0-9a-f]{32}`},
	}
	all := questions(t)
	if len(all) != 16 || len(answers) != len(all) {
		t.Errorf("%d questions and %d answers, want 16", len(all), len(answers))
	}
	for _, q := range all {
		name := users[0]
		if strings.HasPrefix(q.command, "ended ") {
			name = users[1]
		}
		args := strings.Fields(strings.ReplaceAll(q.command, "NAME", name))
		begun := time.Now()
		var out string
		p.eventually(t, "answering: "+q.words, func() error { // the bill has a sample every ten seconds
			out = k.must(p, args...)
			return k.matches(out, answers[q.words]...)
		})
		t.Logf("%s imapproxy %s: %v\n%s", q.words, strings.Join(args, " "), time.Since(begun).Round(time.Millisecond), out)
	}
	for _, width := range []int{390, 1400} {
		k.onThePage(p, all, width, users)
	}
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
}

// tells says whether a verb's output has a text.
func (k *agreeing) tells(p *runningProxy, text string, args ...string) error {
	k.several.t.Helper()
	return k.matches(k.must(p, args...), regexp.QuoteMeta(text))
}

// matches says whether a text has matches of all expressions.
func (k *agreeing) matches(text string, expressions ...string) error {
	if len(expressions) == 0 {
		return errors.New("the question has no answer in this test")
	}
	for _, e := range expressions {
		if !regexp.MustCompile(e).MatchString(text) {
			return fmt.Errorf("there is no %s in\n%s", e, text)
		}
	}
	return nil
}
