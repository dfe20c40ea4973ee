package arrows

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A place is where a text is: a file, and in package comments the package whose files may
// be named without their folder.
type place struct{ file, folder string }

// What the documentation may name, by the form in which it does.
var (
	// folder/file, folder/package/... A leading ./ or ../ is that of a command or a link.
	pathName = regexp.MustCompile(`(?:^|[^\w./:@$~*-])((?:\.{1,2}/)*(?:cmd|proxy|routing|telemetry|internal|e2e|docs|contrib|tools)/[\w./*-]*[\w*/-])`)
	// file.go, and the files at the root.
	fileName = regexp.MustCompile(`(?:^|[^\w./:-])([\w-]+\.(?:go|md|hcl|lua|service|yml))\b`)
	// package.Name, [package.Name.Method].
	goName = regexp.MustCompile(`(?:^|[^\w./"-])([a-z]+)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`)
	// TestName and other functions that go test runs.
	testName = regexp.MustCompile(`\b((?:Test|Benchmark|Fuzz|Example)[A-Z]\w+)\b`)
	// make TARGET, in code.
	makeName = regexp.MustCompile("(?:`|^    |; )make ([a-z]+)")
	// docs/file.md, "Heading".
	headingName = regexp.MustCompile(`(docs/\w[\w-]*\.md), [“"]([^”"]+)[”"]`)
	// [text](target), with or without #heading.
	linkName = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// # Heading
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// elsewhere are names of the documentation that look like ours and aren't.
var elsewhere = []string{
	"jail.conf",
}

func TestNamesDocumented(t *testing.T) {
	names := index(t)
	texts := map[place]string{}
	for file := range names.files {
		if path.Ext(file) == ".md" && !strings.Contains(file, "testdata/") {
			texts[place{file, path.Dir(file)}] = read(t, filepath.Join(root, file))
		}
	}
	for name := range arrows {
		if file, doc := packageComment(t, name); doc != nil {
			rel, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			texts[place{filepath.ToSlash(rel), name}] = doc.Text()
		}
	}
	if len(texts) < 30 {
		t.Fatalf("only %d texts: this test looks in the wrong place", len(texts))
	}
	for _, at := range slices.SortedFunc(maps.Keys(texts), func(a, b place) int { return strings.Compare(a.file, b.file) }) {
		for _, fault := range names.faults(at, texts[at]) {
			t.Errorf("%s: %s", at.file, fault)
		}
	}
}

func TestNamesOfNothingAreFound(t *testing.T) {
	names := index(t)
	at := place{"docs/page.md", "docs"}
	for _, text := range []string{
		"see proxy/nothing.go", "`proxy/nothing`", "./e2e/nothing", "(nothing.go)", "`wire.Nothing`",
		"`wire.Scanner.Nothing`", "TestNothingOfTheKind", "`make nothing`", "docs/nothing.md", `docs/parking.md, "Nothing"`,
		"[x](nothing.md)", "[x](parking.md#nothing)",
	} {
		if len(names.faults(at, text)) == 0 {
			t.Errorf("%q names nothing that exists, and isn't found", text)
		}
	}
	for _, text := range []string{
		"proxy/session/relay.go", "`proxy/wire`", "./e2e/...", "(relay.go)", "`wire.Scanner`", "`wire.Scanner.AtStart`", "`make check`",
		"docs/parking.md", `docs/parking.md, "What is promised"`, "[x](parking.md)", "[x](parking.md#what-is-promised)",
		"https://example.org/docs/page.html",
	} {
		for _, fault := range names.faults(at, text) {
			t.Errorf("%q: %s", text, fault)
		}
	}
}

// An inventory is everything in the repository that documentation may name.
type inventory struct {
	files    map[string]bool            // every file and folder, from the root
	bases    map[string]bool            // every file's last element
	exported map[string]map[string]bool // package name → Name, Type.Method
	tests    map[string]bool            // TestName …
	targets  map[string]bool            // of the Makefile
	headings map[string][]string        // docs/file.md → its headings
}

func index(t *testing.T) inventory {
	t.Helper()
	n := inventory{
		files: map[string]bool{}, bases: map[string]bool{}, exported: map[string]map[string]bool{},
		tests: map[string]bool{}, targets: map[string]bool{}, headings: map[string][]string{},
	}
	for _, name := range tracked(t) {
		n.bases[path.Base(name)] = true
		for dir := name; dir != "."; dir = path.Dir(dir) {
			n.files[dir] = true
		}
		switch path.Ext(name) {
		case ".go":
			if _, ours := arrows[path.Dir(name)]; ours {
				n.declared(t, name)
			}
		case ".md":
			for _, h := range heading.FindAllStringSubmatch(read(t, filepath.Join(root, name)), -1) {
				n.headings[name] = append(n.headings[name], h[1])
			}
		}
	}
	for _, line := range strings.Split(read(t, root+"/Makefile"), "\n") {
		if target, _, ok := strings.Cut(line, ":"); ok && regexp.MustCompile(`^[a-z]+$`).MatchString(target) {
			n.targets[target] = true
		}
	}
	return n
}

// tracked returns the files of the work tree that git knows or would add; without git, all
// files but hidden ones.
func tracked(t *testing.T) []string {
	t.Helper()
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	list.Dir = root
	var found []string
	if out, err := list.Output(); err == nil {
		for name := range bytes.SplitSeq(bytes.TrimRight(out, "\x00"), []byte{0}) {
			if _, err := os.Stat(filepath.Join(root, string(name))); err == nil {
				found = append(found, string(name))
			}
		}
		return found
	}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, name)
		if err == nil && !entry.IsDir() {
			found = append(found, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// declared adds what a Go file declares at its top, with methods and fields.
func (n inventory) declared(t *testing.T, name string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := n.exported[file.Name.Name]
	if all == nil {
		all = map[string]bool{}
		n.exported[file.Name.Name] = all
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				all[d.Name.Name] = true
				if strings.HasSuffix(name, "_test.go") {
					n.tests[d.Name.Name] = true
				}
			} else if receiver := receiverName(d.Recv.List[0].Type); receiver != "" {
				all[receiver+"."+d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					for _, id := range s.Names {
						all[id.Name] = true
					}
				case *ast.TypeSpec:
					all[s.Name.Name] = true
					for _, field := range fieldNames(s.Type) {
						all[s.Name.Name+"."+field] = true
					}
				}
			}
		}
	}
}

func receiverName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiverName(e.X)
	case *ast.IndexExpr:
		return receiverName(e.X)
	case *ast.IndexListExpr:
		return receiverName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func fieldNames(e ast.Expr) []string {
	var fields *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		fields = e.Fields
	case *ast.InterfaceType:
		fields = e.Methods
	default:
		return nil
	}
	var names []string
	for _, field := range fields.List {
		for _, id := range field.Names {
			names = append(names, id.Name)
		}
	}
	return names
}

// faults returns what a text names and doesn't exist.
func (n inventory) faults(at place, text string) []string {
	var found []string
	missing := func(kind, name string) { found = append(found, kind+" "+name+" doesn't exist") }
	for _, m := range pathName.FindAllStringSubmatch(text, -1) {
		name := strings.TrimSuffix(strings.TrimSuffix(m[1], "..."), "/")
		if !n.exists(at, name) && !slices.Contains(elsewhere, name) {
			missing("file or package", m[1])
		}
	}
	for _, m := range fileName.FindAllStringSubmatch(text, -1) {
		if !n.bases[m[1]] && !slices.Contains(elsewhere, m[1]) {
			missing("file", m[1])
		} else if path.Ext(at.file) == ".go" && path.Ext(m[1]) == ".go" && !n.files[path.Join(at.folder, m[1])] {
			missing("file", path.Join(at.folder, m[1]))
		}
	}
	for _, m := range goName.FindAllStringSubmatch(text, -1) {
		all, ours := n.exported[m[1]]
		switch {
		case !ours:
		case m[3] != "" && !all[m[2]+"."+m[3]]:
			missing("name", m[1]+"."+m[2]+"."+m[3])
		case !all[m[2]]:
			missing("name", m[1]+"."+m[2])
		}
	}
	for _, m := range testName.FindAllStringSubmatch(text, -1) {
		if !n.tests[m[1]] {
			missing("test", m[1])
		}
	}
	for _, m := range makeName.FindAllStringSubmatch(text, -1) {
		if !n.targets[m[1]] {
			missing("target of the Makefile", m[1])
		}
	}
	for _, m := range headingName.FindAllStringSubmatch(text, -1) {
		want := strings.TrimRight(strings.Join(strings.Fields(m[2]), " "), ",.?")
		if !slices.ContainsFunc(n.headings[m[1]], func(h string) bool { return strings.HasPrefix(h, want) }) {
			missing("heading", m[1]+", "+m[2])
		}
	}
	if path.Ext(at.file) == ".md" {
		for _, m := range linkName.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			file := at.file
			if strings.Contains(target, ":") {
				continue
			}
			if target != "" {
				file = path.Join(at.folder, target)
			}
			if !n.files[file] {
				missing("file", file)
			} else if anchor != "" && !slices.ContainsFunc(n.headings[file], func(h string) bool { return slug(h) == anchor }) {
				missing("heading", file+"#"+anchor)
			}
		}
	}
	return found
}

// exists says whether a path leads to a file or folder, from the root or from the text's
// folder. An element with * stands for any.
func (n inventory) exists(at place, name string) bool {
	for _, full := range []string{path.Clean(name), path.Join(at.folder, name)} {
		if n.files[full] {
			return true
		}
		if strings.Contains(full, "*") {
			for file := range n.files {
				if ok, _ := path.Match(full, file); ok {
					return true
				}
			}
		}
	}
	return false
}

// slug is a heading's anchor, as forges make it.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127:
			b.WriteRune(r)
		}
	}
	return b.String()
}
