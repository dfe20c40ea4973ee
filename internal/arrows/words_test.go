package arrows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// vague are words that texts for operators do without: they name the user, client, session or operator that is meant. A user is
// "they", a program is "it".
var vague = regexp.MustCompile(`(?i)\b(whoever|whomever|nobody|everybody|somebody|anybody|whom|he|him|his|himself|she|her|hers|herself|said again)\b`)

// Operators read help texts, log messages and errors, too: the string literals of the code.
func TestWordsInTexts(t *testing.T) {
	names := map[string]string{ // that are no words
		`"imapproxy-nobody-"`: "proxy/upstream/verify.go",
	}
	checked := 0
	for _, name := range tracked(t) {
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/imaptest/") || strings.HasPrefix(name, "e2e/") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(root, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING && names[s.Value] != name {
				checked++
				if word := vague.FindString(s.Value); word != "" {
					t.Errorf("%s: %q in %.200s: name the user, client, session or operator that is meant", set.Position(s.Pos()), word, s.Value)
				}
			}
			return true
		})
	}
	if checked < 5000 {
		t.Fatalf("only %d texts: this test looks in the wrong place", checked)
	}
}

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
