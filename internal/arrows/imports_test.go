package arrows

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of the documentation")

const (
	architecture = root + "/docs/architecture.md"
	listBegins   = "<!-- imports: written by `go generate ./internal/arrows` -->\n"
	listEnds     = "<!-- end of imports -->\n"
	endToEnd     = "the end-to-end tests"
	allTests     = "the tests of all packages"
	outOfDate    = "run `go generate ./internal/arrows`"
)

// The table allows no import that the code doesn't have.
func TestArrowsAreUsed(t *testing.T) {
	used := map[[2]string]bool{}
	for _, i := range imports(t) {
		if target, ours := strings.CutPrefix(i.path, module+"/"); ours {
			used[[2]string{i.room, target}] = true
		}
	}
	for from, targets := range arrows {
		for _, to := range targets {
			if !used[[2]string{from, to}] {
				t.Errorf("%s doesn't import %s: remove it from the table", from, to)
			}
		}
	}
}

// importers returns which packages may import one. The end-to-end tests, and the tests
// of all other packages, stand at the end as one entry each.
func importers(of string) []string {
	var found []string
	e2e := false
	for _, from := range slices.Sorted(maps.Keys(arrows)) {
		switch {
		case !slices.Contains(arrows[from], of):
		case from == "e2e" || strings.HasPrefix(from, "e2e/"):
			e2e = true
		default:
			found = append(found, from)
		}
	}
	if e2e {
		found = append(found, endToEnd)
	}
	if slices.Contains(testsMay, of) {
		found = append(found, allTests)
	}
	return found
}

// sentence is the last paragraph of a package's comment.
func sentence(name string) string {
	imports, by := list(slices.Sorted(slices.Values(arrows[name]))), list(importers(name))
	if imports == "" {
		imports = "none of our packages"
	}
	if by == "" {
		by = "none"
	}
	return "Imports " + imports + ". Imported by " + by + "."
}

func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// table is the list of imports as docs/architecture.md has it.
func table() string {
	var b strings.Builder
	b.WriteString("\n| package | imports |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(arrows)) {
		imports := "–"
		if targets := slices.Sorted(slices.Values(arrows[name])); len(targets) > 0 {
			imports = "`" + strings.Join(targets, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, imports)
	}
	b.WriteString("\n")
	for _, library := range slices.Sorted(maps.Keys(libraries)) {
		fmt.Fprintf(&b, "- `%s` is imported by %s only.\n", library, list(libraries[library]))
	}
	b.WriteString("\n")
	return b.String()
}

func TestImportsDocumented(t *testing.T) {
	have := read(t, architecture)
	before, rest, ok := strings.Cut(have, listBegins)
	old, after, ended := strings.Cut(rest, listEnds)
	if !ok || !ended {
		t.Fatalf("docs/architecture.md has no list of imports between %q and %q", listBegins, listEnds)
	}
	if old == table() {
		return
	}
	if !*update {
		t.Fatalf("docs/architecture.md: the list of imports isn't that of arrows_test.go: %s", outOfDate)
	}
	write(t, architecture, before+listBegins+table()+listEnds+after)
}

func TestImportsDocumentedInPackageComments(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(arrows)) {
		file, doc := packageComment(t, name)
		if doc == nil {
			t.Errorf("%s has no package comment", name)
			continue
		}
		paragraphs := strings.Split(strings.TrimSpace(doc.Text()), "\n\n")
		last := paragraphs[len(paragraphs)-1]
		if strings.Join(strings.Fields(last), " ") == sentence(name) {
			continue
		}
		if !*update {
			t.Errorf("%s: the package comment doesn't end with %q: %s", file, sentence(name), outOfDate)
			continue
		}
		lines := strings.Split(read(t, file), "\n")
		end := 0
		for !strings.HasPrefix(lines[end], "package ") {
			end++
		}
		begin := end
		if strings.HasPrefix(last, "Imports ") {
			begin -= strings.Count(last, "\n") + 2
		}
		paragraph := "//\n// " + strings.ReplaceAll(wrap(sentence(name), 80), "\n", "\n// ")
		write(t, file, strings.Join(slices.Concat(lines[:begin], []string{paragraph}, lines[end:]), "\n"))
	}
}

// packageComment returns the file that has the package's comment, and the comment.
func packageComment(t *testing.T, name string) (string, *ast.CommentGroup) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil {
			return path, file.Doc
		}
	}
	return "", nil
}

// wrap breaks text between words, so that no line is longer than width if no word is.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
