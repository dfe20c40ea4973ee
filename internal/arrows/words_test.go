package arrows

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// vague are words that documentation for operators does without: who is meant, a user, a client,
// a session or an operator, is said by name.
var vague = regexp.MustCompile(`(?i)\b(whoever|whomever|nobody|everybody|somebody|anybody|whom)\b`)

func TestWordsDocumentedForOperators(t *testing.T) {
	checked := 0
	for _, name := range tracked(t) {
		switch {
		case name == "config.hcl", strings.HasPrefix(name, "contrib/"), path.Ext(name) == ".md" && !strings.Contains(name, "testdata/"):
		default:
			continue
		}
		checked++
		for n, line := range strings.Split(read(t, filepath.Join(root, name)), "\n") {
			if word := vague.FindString(line); word != "" {
				t.Errorf("%s:%d: %q: name the user, client, session or operator that is meant", name, n+1, word)
			}
		}
	}
	if checked < 20 {
		t.Fatalf("only %d files: this test looks in the wrong place", checked)
	}
}
