package arrows

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"testing"
)

// oddLocks returns the declarations of a package that have a mutex or an atomic word in a form that TestLocksDocumented doesn't see: variables of
// the package, fields behind a pointer or in a list, and types made of a mutex. Local variables aren't checked.
func oddLocks(p *types.Package, info *types.Info) (odd []string) {
	for name, object := range info.Defs {
		if object == nil {
			continue
		}
		is := false
		switch o := object.(type) {
		case *types.Var:
			switch inner := elem(o.Type()); {
			case o.IsField():
				is = inner != o.Type() && (isMutex(inner) || hasMutex(inner))
			case o.Parent() == p.Scope():
				is = isMutex(inner) || isAtomic(inner) || hasMutex(inner)
			}
		case *types.TypeName:
			is = !o.IsAlias() && madeOfMutex(p, o.Type())
		}
		if is {
			odd = append(odd, p.Name()+"."+name.Name)
		}
	}
	slices.Sort(odd)
	return odd
}

// elem is what a type points to or has as its elements, through all levels.
func elem(t types.Type) types.Type {
	switch of := t.(type) {
	case *types.Pointer:
		return elem(of.Elem())
	case *types.Array:
		return elem(of.Elem())
	case *types.Slice:
		return elem(of.Elem())
	case *types.Map:
		return elem(of.Elem())
	case *types.Chan:
		return elem(of.Elem())
	}
	return t
}

// hasMutex says whether a type is a struct without a name that has a mutex.
func hasMutex(t types.Type) bool {
	s, ok := t.(*types.Struct)
	if !ok {
		return false
	}
	for field := range s.Fields() {
		if inner := elem(field.Type()); isMutex(inner) || hasMutex(inner) {
			return true
		}
	}
	return false
}

// madeOfMutex says whether a named type has a mutex's structure.
func madeOfMutex(p *types.Package, t types.Type) bool {
	for _, imported := range p.Imports() {
		if imported.Path() != "sync" {
			continue
		}
		for _, name := range []string{"Mutex", "RWMutex"} {
			if o := imported.Scope().Lookup(name); o != nil && types.Identical(o.Type().Underlying(), t.Underlying()) {
				return true
			}
		}
	}
	return false
}

func TestOddLocksAreSeen(t *testing.T) {
	const text = `package p

import (
	"sync"
	"sync/atomic"
)

var global sync.Mutex
var count atomic.Int64
var several struct{ sync.Mutex }
var fine = new(named)

type own sync.Mutex

type named struct {
	mu      sync.Mutex
	word    atomic.Int64
	words   [4]atomic.Int64
	inner   struct{ mu sync.Mutex }
	pointer *sync.Mutex
	array   [4]sync.Mutex
	list    []struct{ mu sync.Mutex }
	byName  map[string]*sync.RWMutex
}

func f() { var mu sync.Mutex; mu.Lock() }
`
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "p.go", text, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}}
	p, err := (&types.Config{Importer: importer.ForCompiler(files, "source", nil)}).Check("p", files, []*ast.File{file}, info)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"p.array", "p.byName", "p.count", "p.global", "p.list", "p.own", "p.pointer", "p.several"}
	if got := oddLocks(p, info); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
