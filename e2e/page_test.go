package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"imapproxy/internal/imaptest"
)

// browser is Debian's Chromium without windows, which ./test installs.
const browser = "chromium-headless-shell"

// The page shows problems first, in the tab's title and icon too, and is green only while there are none.
func TestThePageShowsProblemsFirst(t *testing.T) {
	model := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"imap1", model.Addr}}, Routing: `panic_threshold = "100%"`})
	good, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	page := func(width int) string {
		t.Helper()
		return rendered(t, p.Admin+"/", width)
	}
	p.eventually(t, "without problems", func() error { return p.problems() })
	for _, width := range []int{390, 1400} {
		shows(t, page(width), `<title>imapproxy imap.test</title>`, `href="well.svg"`, `<p id="well" role="status" class="well">`,
			`<section id="wrong" role="alert" hidden="">`, `<span id="state"><span class="well">ready</span></span>`)
	}

	// A reload that fails.
	writeFile(t, p.Config, strings.Replace(string(good), "admin {", "limitz {\n}\nadmin {", 1))
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, "with a reload that failed", func() error { return p.problems("reload_failed") })
	line := 1 + strings.Count(string(good[:strings.Index(string(good), "admin {")]), "\n")
	for _, width := range []int{390, 1400} {
		dom := page(width)
		shows(t, dom, `<title>(1) imapproxy imap.test</title>`, `href="warning.svg"`, `<section id="wrong" role="alert">`,
			`<p id="well" role="status" hidden="" class="well">`, `<span id="state"><span class="warning">ready</span></span>`,
			fmt.Sprintf("%s:%d: ", p.Config, line), "[reload_failed]")
		if strings.Index(dom, "[reload_failed]") > strings.Index(dom, `id="summary"`) {
			t.Error("something stands before the problems")
		}
	}
	if out := p.command(t, "status"); !strings.HasPrefix(out, "state") || !strings.Contains(strings.SplitN(out, "\n", 2)[0], "ready, 1 problem") ||
		!strings.Contains(strings.Split(out, "\n")[1], "the last reload failed") {
		t.Errorf("imapproxy status: %s", out)
	}
	writeFile(t, p.Config, string(good))
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, "without problems again", func() error { return p.problems() })

	// The only backend is gone.
	model.Close()
	p.eventually(t, "without a backend", func() error { return p.problems("no_backend", "backend_down") })
	shows(t, page(1400), `<title>(2) imapproxy imap.test</title>`, `href="critical.svg"`, `<li class="critical">no backend is up: logins are refused`, "imap1: is down")
}

// Without the token, or with a wrong one, nothing is known, and so nothing is green.
func TestThePageWithoutAnAnswerIsNotGreen(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, "0123456789abcdef0123456789abcdef\n")
	p := startProxy(t, proxyOptions{Backends: []backend{{"imap1", imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr}}, AdminToken: token})
	shows(t, rendered(t, p.Admin+"/", 1400), `<title>? imapproxy</title>`, `href="unknown.svg"`, "A token is needed.", `<form id="login">`, `<p id="well" role="status" hidden="">`)
}

// problems says whether these kinds are what is wrong, in this order.
func (p *runningProxy) problems(want ...string) error {
	var s struct {
		Problems []struct{ Kind, Text string }
	}
	if err := p.get("/v1/status", &s); err != nil {
		return err
	}
	var have []string
	for _, one := range s.Problems {
		have = append(have, one.Kind)
	}
	if strings.Join(have, " ") != strings.Join(want, " ") {
		return fmt.Errorf("%+v, want %q", s.Problems, want)
	}
	return nil
}

// rendered returns what a browser shows of a page when its first requests are answered.
func rendered(t testing.TB, url string, width int) string {
	t.Helper()
	out, err := exec.Command(browser, "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,900", width),
		"--virtual-time-budget=3000", "--dump-dom", url).Output()
	if err != nil {
		t.Fatalf("%s: %v", browser, err)
	}
	return regexp.MustCompile(`\s+`).ReplaceAllString(string(out), " ")
}

func shows(t testing.TB, dom string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(dom, part) {
			t.Errorf("the page doesn't show %s:\n%.6000s", part, dom)
		}
	}
}
