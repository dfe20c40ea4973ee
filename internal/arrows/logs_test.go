package arrows

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// logCalls finds the calls that log.
type logCalls struct {
	loaded   []*packages.Package
	assigned map[types.Object][]value // what variables and fields are set to
	passed   map[*types.Var][]value   // what parameters are given
	closed   map[types.Object]bool    // while it is looked at: true
	calls    []logCall
}

// value is an expression of a package.
type value struct {
	in   *packages.Package
	expr ast.Expr
}

// logCall is a call of a method of slog.Logger that writes a line.
type logCall struct {
	in      *packages.Package
	call    *ast.CallExpr
	message ast.Expr
	attrs   []ast.Expr
}

func (c logCall) at() string { return c.in.Fset.Position(c.call.Pos()).String() }

func findLogCalls(t *testing.T) *logCalls {
	l := &logCalls{loaded: shipped(t), assigned: map[types.Object][]value{}, passed: map[*types.Var][]value{}, closed: map[types.Object]bool{}}
	for _, p := range l.loaded {
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				l.collect(p, n)
				return true
			})
		}
	}
	return l
}

// collect stores what is assigned and passed, and the calls.
func (l *logCalls) collect(p *packages.Package, n ast.Node) {
	set := func(to ast.Expr, v ast.Expr) {
		var o types.Object
		switch to := to.(type) {
		case *ast.Ident:
			if o = p.TypesInfo.Defs[to]; o == nil {
				o = p.TypesInfo.Uses[to]
			}
		case *ast.SelectorExpr:
			o = p.TypesInfo.Uses[to.Sel]
		}
		if o != nil {
			l.assigned[o] = append(l.assigned[o], value{p, v})
		}
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if len(n.Lhs) == len(n.Rhs) {
				set(to, n.Rhs[i])
			} else {
				set(to, n.Rhs[0])
			}
		}
	case *ast.ValueSpec:
		for i, to := range n.Names {
			if i < len(n.Values) {
				set(to, n.Values[i])
			}
		}
	case *ast.CompositeLit:
		s, ok := types.Unalias(p.TypesInfo.TypeOf(n)).Underlying().(*types.Struct)
		if !ok {
			return
		}
		for i, e := range n.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok {
				set(pair.Key, pair.Value)
			} else {
				l.assigned[s.Field(i)] = append(l.assigned[s.Field(i)], value{p, e})
			}
		}
	case *ast.CallExpr:
		f := callee(p, n)
		if f == nil {
			return
		}
		signature := f.Origin().Signature()
		for i := range min(signature.Params().Len(), len(n.Args)) {
			l.passed[signature.Params().At(i)] = append(l.passed[signature.Params().At(i)], value{p, n.Args[i]})
		}
		if at := messageOf(f); at >= 0 && len(n.Args) > at {
			l.calls = append(l.calls, logCall{p, n, n.Args[at], n.Args[at+1:]})
		}
	}
}

// callee returns the function that is called, nil if that isn't known.
func callee(p *packages.Package, call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	if index, ok := fun.(*ast.IndexExpr); ok {
		fun = index.X
	}
	var name *ast.Ident
	switch fun := fun.(type) {
	case *ast.Ident:
		name = fun
	case *ast.SelectorExpr:
		name = fun.Sel
	default:
		return nil
	}
	f, _ := p.TypesInfo.Uses[name].(*types.Func)
	return f
}

// messageOf returns which parameter of a function of log/slog is the message of a line, -1 if it has none.
func messageOf(f *types.Func) int {
	if f.Pkg() == nil || f.Pkg().Path() != "log/slog" {
		return -1
	}
	switch f.Name() {
	case "Debug", "Info", "Warn", "Error":
		return 0
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		return 1
	case "Log", "LogAttrs":
		return 2
	}
	return -1
}

// isClosed says whether an expression has one of a few values that the source names: a constant, or a variable, field or parameter that is only
// given such.
func (l *logCalls) isClosed(v value) bool {
	expr := ast.Unparen(v.expr)
	if v.in.TypesInfo.Types[expr].Value != nil {
		return true
	}
	var o types.Object
	switch e := expr.(type) {
	case *ast.Ident:
		o = v.in.TypesInfo.Uses[e]
	case *ast.SelectorExpr:
		o = v.in.TypesInfo.Uses[e.Sel]
	case *ast.IndexExpr: // of a map or list that is written out
		list, ok := e.X.(*ast.CompositeLit)
		return ok && !slices.ContainsFunc(list.Elts, func(e ast.Expr) bool {
			if pair, ok := e.(*ast.KeyValueExpr); ok {
				e = pair.Value
			}
			return !l.isClosed(value{v.in, e})
		})
	case *ast.CallExpr: // of cmp.Or and the like
		return false
	}
	variable, ok := o.(*types.Var)
	if !ok || l.closed[o] {
		return ok
	}
	all := slices.Concat(l.assigned[variable.Origin()], l.assigned[o], l.passed[variable])
	if len(all) == 0 {
		return false
	}
	l.closed[o] = true
	defer delete(l.closed, o)
	return !slices.ContainsFunc(all, func(v value) bool { return !l.isClosed(v) })
}

// Each line has an event's name: its message is one of a few texts in the source. What varies is in attributes.
func TestLinesHaveNames(t *testing.T) {
	l := findLogCalls(t)
	if len(l.calls) < 100 {
		t.Fatalf("%d calls were found", len(l.calls))
	}
	for _, c := range l.calls {
		if !l.isClosed(value{c.in, c.message}) {
			t.Errorf("%s: the message isn't constant", c.at())
		}
	}
}

// othersWords are the names of fields that hold what a backend, a client or another server has said.
var othersWords = []string{"Text", "text", "Line", "Tag", "Msg", "farewell", "Greeting"}

// What others have said is an attribute of the type telemetry.Said, or in an error that has Discreet: both leave it out where names mustn't be written.
func TestWhatOthersSayCanBeLeftOut(t *testing.T) {
	l := findLogCalls(t)
	for _, c := range l.calls {
		for _, attr := range c.attrs {
			ast.Inspect(attr, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if strings.HasSuffix(types.ExprString(call.Fun), "telemetry.Said") {
						return false
					}
				}
				if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(othersWords, s.Sel.Name) && isVariable(c.in, s.Sel) && c.in.Types.Name() != "cluster" {
					t.Errorf("%s: %s isn't telemetry.Said", c.at(), types.ExprString(s))
				}
				return true
			})
		}
	}
	found := 0
	for _, p := range l.loaded {
		for _, name := range p.Types.Scope().Names() {
			def, ok := p.Types.Scope().Lookup(name).(*types.TypeName)
			if !ok || !strings.HasPrefix(p.PkgPath, module+"/proxy/") && !strings.HasPrefix(p.PkgPath, module+"/routing/discovery") || !holdsWords(def.Type(), 0) {
				continue
			}
			methods := types.NewMethodSet(types.NewPointer(def.Type()))
			has := func(name string) bool { return methods.Lookup(p.Types, name) != nil }
			if has("Error") {
				found++
				if !has("Discreet") {
					t.Errorf("%s.%s is an error with what others say, and has no Discreet", p.Types.Name(), name)
				}
			}
		}
	}
	if found < 5 {
		t.Error(fmt.Sprint("only ", found, " such errors were found"))
	}
}

func isVariable(p *packages.Package, name *ast.Ident) bool {
	_, ok := p.TypesInfo.Uses[name].(*types.Var)
	return ok
}

// holdsWords says whether a struct, or one that is embedded in it, has a field of othersWords.
func holdsWords(t types.Type, depth int) bool {
	s, ok := t.Underlying().(*types.Struct)
	if !ok || depth > 3 {
		return false
	}
	for f := range s.Fields() {
		basic, ok := f.Type().Underlying().(*types.Basic)
		if ok && basic.Kind() == types.String && slices.Contains(othersWords, f.Name()) || f.Embedded() && holdsWords(f.Type(), depth+1) {
			return true
		}
	}
	return false
}
