package arrows

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// private are words that comments do without: vague ones, and "he" or "she" for a user.
var private = regexp.MustCompile(`(?i)\b(whoever|whomever|nobody|everybody|somebody|anybody|he|him|his|himself|she|her|hers|herself)\b`)

func TestWordsInComments(t *testing.T) {
	comments := 0
	for _, name := range tracked(t) {
		if filepath.Ext(name) != ".go" || filepath.Dir(name) == "internal/arrows" { // whose comments name the words
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Comments {
			for _, c := range group.List {
				comments++
				for n, line := range strings.Split(c.Text, "\n") {
					if word := private.FindString(line); word != "" {
						t.Errorf("%s:%d: %q in %q: say who or what is meant", name, set.Position(c.Pos()).Line+n, word, strings.TrimSpace(line))
					}
				}
			}
		}
	}
	if comments < 10000 {
		t.Fatalf("only %d comments: this test looks in the wrong place", comments)
	}
}
