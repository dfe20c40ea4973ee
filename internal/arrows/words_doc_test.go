package arrows

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// private are words that texts shown by go doc do without: vague ones, "he" for a user, and words
// for which there is a term of the field.
var private = regexp.MustCompile(`(?i)\b(whoever|nobody|everybody|somebody|anybody|he|him|his|himself)\b`)

func TestWordsInDocComments(t *testing.T) {
	texts := 0
	for name := range arrows {
		for _, at := range docTexts(t, name) {
			texts++
			for n, line := range strings.Split(at.text, "\n") {
				if word := private.FindString(line); word != "" {
					t.Errorf("go doc %s %s, line %d: %q in %q: say who or what is meant", name, at.name, n+1, word, line)
				}
			}
		}
	}
	if texts < 800 {
		t.Fatalf("only %d texts: this test looks in the wrong place", texts)
	}
}

// A docText is what go doc shows of one name.
type docText struct{ name, text string }

// docTexts are the texts of a package and of what it exports, fields and methods included.
func docTexts(t *testing.T, name string) []docText {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil // tests alone
	}
	p, err := doc.NewFromFiles(set, files, path.Join("imapproxy", name), doc.PreserveAST)
	if err != nil {
		t.Fatal(err)
	}
	texts := []docText{{"(package)", p.Doc}}
	values := func(list []*doc.Value) {
		for _, v := range list {
			texts = append(texts, docText{v.Names[0], v.Doc})
			texts = append(texts, inner(v.Names[0], v.Decl)...)
		}
	}
	funcs := func(prefix string, list []*doc.Func) {
		for _, f := range list {
			texts = append(texts, docText{prefix + f.Name, f.Doc})
		}
	}
	values(p.Consts)
	values(p.Vars)
	funcs("", p.Funcs)
	for _, t := range p.Types {
		texts = append(texts, docText{t.Name, t.Doc})
		texts = append(texts, inner(t.Name, t.Decl)...)
		values(t.Consts)
		values(t.Vars)
		funcs("", t.Funcs)
		funcs(t.Name+".", t.Methods)
	}
	return texts
}

// inner are the comments of exported fields, methods of interfaces, constants and variables in a declaration.
func inner(name string, decl ast.Node) []docText {
	var texts []docText
	add := func(names []*ast.Ident, groups ...*ast.CommentGroup) {
		for _, n := range names {
			if !n.IsExported() {
				return
			}
		}
		for _, g := range groups {
			texts = append(texts, docText{name, g.Text()})
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			add(n.Names, n.Doc, n.Comment)
		case *ast.ValueSpec:
			add(n.Names, n.Doc, n.Comment)
		}
		return true
	})
	return texts
}
