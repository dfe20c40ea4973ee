package arrows

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackagesHaveExamples: each package has an example of its main functions, which go test runs. The list says why a
// package has none.
func TestPackagesHaveExamples(t *testing.T) {
	without := map[string]string{
		"cmd/imapproxy":                "a command",
		"docs":                         "texts",
		"internal/admin":               "its API is HTTP; docs/admin.md shows requests and answers",
		"internal/app":                 "a configuration shows what it does; apptest starts one",
		"internal/apptest":             "starts a proxy for a test; the end-to-end tests show it",
		"internal/arrows":              "tests",
		"internal/dev":                 "imapproxy dev shows it",
		"internal/handover":            "needs two processes",
		"internal/imaptest":            "its functions need a testing.TB; the package comment has a transcript",
		"internal/imaptest/consultest": "needs a testing.TB",
		"internal/movetest":            "for tests",
		"internal/peers":               "needs other proxies",
		"internal/wiring":              "maps settings to options",
		"proxy":                        "internal/app starts it",
		"proxy/auth/dovecotauth":       "needs a Dovecot; proxy/auth has an example of a source",
		"proxy/auth/ldapauth":          "needs an LDAP server",
		"proxy/auth/oauthauth":         "needs a provider",
		"proxy/auth/sqlauth":           "needs a database",
		"proxy/session":                "the server makes sessions",
		"routing/agree/epochs":         "a command",
		"routing/cluster":              "needs Consul; routing/agree has an example",
		"telemetry/metricsdoc":         "a command",
	}
	for name := range arrows {
		has := hasExample(t, name)
		switch {
		case strings.HasPrefix(name, "e2e"):
		case has && without[name] != "":
			t.Errorf("%s has an example: remove it from the list", name)
		case !has && without[name] == "":
			t.Errorf("%s has no example with output", name)
		}
	}
	for name := range without {
		if _, ours := arrows[name]; !ours {
			t.Errorf("%s doesn't exist: remove it from the list", name)
		}
	}
}

// hasExample says whether a package has an example whose output go test compares.
func hasExample(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, name, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, file := range files {
		if f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments); err == nil {
			parsed = append(parsed, f)
		}
	}
	for _, e := range doc.Examples(parsed...) {
		if e.Output != "" {
			return true
		}
	}
	return false
}
