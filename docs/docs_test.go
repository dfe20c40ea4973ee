package docs

import (
	"strings"
	"testing"
)

func TestReasonsAreReadFromTheTables(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if r.Name == "" || r.What == "" || seen[r.Name+r.Kind] || strings.ContainsAny(r.Name+r.What+r.Do, "`|") || strings.Contains(r.What+r.Do, "](") {
			t.Errorf("%+v", r)
		}
		seen[r.Name+r.Kind] = true
	}
	if !seen["bad_password"+WhyFailed] || !seen["backend_slow"+"Problems"] || !seen["command"+"Why isn't it parked"] {
		t.Error("a table isn't read")
	}
	for _, want := range []string{"loggedout", "kicked"} {
		if seen[want+"Why sessions end"] != (want == "kicked") {
			t.Errorf("%s", want)
		}
	}
	if got := cell("`a` ([failures.md](failures.md)), see [Upgrade](#upgrade)"); got != "a (docs/failures.md), see Upgrade" {
		t.Errorf("%q", got)
	}
}
