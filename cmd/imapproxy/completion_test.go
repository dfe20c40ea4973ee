package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
)

// completes returns what bash offers for a command line whose last word is being typed.
func completes(t *testing.T, script string, words ...string) []string {
	t.Helper()
	quoted := "COMP_WORDS=(imapproxy"
	for _, w := range words {
		quoted += " '" + w + "'"
	}
	out, err := exec.Command("bash", "--norc", "-c", "source "+script+"; "+quoted+"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _imapproxy; printf '%s\\n' \"${COMPREPLY[@]}\"").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletesVerbsFlagsAndFiles(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "imapproxy.bash")
	r := command(t, "completion", "bash")
	write(t, script, r.stdout.String())
	write(t, filepath.Join(dir, "config.hcl"), "")
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"und"}, "undrain"},
		{[]string{"backends", "--wa"}, "--watch"},
		{[]string{"drain", "imap1", "--dr"}, "--dry-run"},
		{[]string{"proxies", "rem"}, "remove"},
		{[]string{"proxies", "remove", "--token"}, "--token-file"},
		{[]string{"check", "--config", filepath.Join(dir, "con")}, filepath.Join(dir, "config.hcl")},
		{[]string{"completion", "f"}, "fish"},
	} {
		if got := completes(t, script, c.words...); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%v: %v, want %s", c.words, got, c.want)
		}
	}
}

// All that can be typed is in each script and in the manual page.
func TestVerbsAndFlagsAreCompletedAndInTheManual(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	app, err := grammar(environment{stdout: t.Output(), stderr: t.Output()}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, args := range [][]string{{"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}, {"man"}} {
		r := command(t, args...)
		if r.code != exitOK {
			t.Fatalf("%v: %s", args, r.stderr)
		}
		texts[args[len(args)-1]] = strings.ReplaceAll(r.stdout.String(), `\-`, "-")
	}
	all := completions(app.Model.Node, "")
	if len(all) < 20 {
		t.Fatalf("%d verbs", len(all))
	}
	for _, c := range all[1:] {
		for name, text := range texts {
			for _, verb := range strings.Fields(c.path) {
				if !strings.Contains(text, verb) {
					t.Errorf("%s lacks %s", name, c.path)
				}
			}
			for _, f := range c.flags {
				flag := "--" + f.Name
				if name == "fish" {
					flag = "-l " + f.Name
				}
				if !strings.Contains(text, flag) {
					t.Errorf("%s lacks %s of %s", name, flag, c.path)
				}
			}
		}
	}
	for line := range strings.Lines(texts["man"]) {
		if macro, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(macro, ".") && !slices.Contains([]string{".TH", ".SH", ".SS", ".TP", ".B", ".I"}, macro) {
			t.Errorf("the manual page has the macro %s", macro)
		}
	}
}

func TestBackendsThatNeedAttentionComeFirst(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	var b strings.Builder
	columns, _, _ := chosen(environment{}, columnsFlag{}, false, backendColumns())
	if err := showBackends(columns)(&b, someBackends()); err != nil {
		t.Fatal(err)
	}
	var order []string
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if i > 0 {
			order = append(order, strings.Fields(line)[0])
		}
	}
	if want := []string{"d", "c", "b", "a", "e"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// someBackends are backends by id, one in each state of urgency and two that are well.
func someBackends() admin.Backends {
	return admin.Backends{Backends: []admin.Backend{
		{ID: "a", State: "up"}, {ID: "b", State: "draining"}, {ID: "c", State: "up", Suspect: true}, {ID: "d", State: "down"}, {ID: "e", State: "up"},
	}}
}

// A fleet of fifty gives fifty times the same advice: it is said once.
func TestASummaryHasEachAdviceOnce(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	var b strings.Builder
	r := &report{w: &b, summary: true}
	part := &report{}
	part.warn("backend b2", "set this", "%s has not set it", "b2")
	part.ok("backend b2", "reached")
	r.ok("configuration", "well")
	r.warn("backend b1", "set this", "%s has not set it", "b1")
	r.add(part)
	r.fail("backend b3", "start it", "refused")
	if err := r.verdict(); err == nil {
		t.Error("a fault is no failure")
	}
	want := "FAIL  backend b3: refused -> start it\nwarn  backend b1, backend b2: set this (the first: b1 has not set it)\nok    2 things\n\n1 fault to fix, 2 warnings.\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestWatchShowsTheStateAgain(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var b strings.Builder
	n := 0
	err := watchFlag{Watch: true}.watched(environment{ctx: ctx, stdout: &b}, func() error {
		if n++; n == 2 {
			cancel()
		}
		b.WriteString("state\n")
		return nil
	})
	if err != nil || b.String() != "state\n\nstate\n" {
		t.Errorf("%v, %q", err, b.String())
	}
}
