package arrows

import (
	"go/types"
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/callgraph"
	"golang.org/x/tools/go/callgraph/cha"
	"golang.org/x/tools/go/callgraph/vta"
	"golang.org/x/tools/go/packages"
	"golang.org/x/tools/go/ssa"
	"golang.org/x/tools/go/ssa/ssautil"
)

// A lock is a mutex, by the type that has it as a field: proxy.Session.handing.
type lock string

// lockUse is what the code does with locks, as far as its text shows it: which there are, and
// which are taken while another one is held, with one place where that is done.
type lockUse struct {
	locks map[lock]bool
	atoms map[string]bool
	taken map[lock]map[lock]string // held → taken → where
	odd   []string                 // mutexes and atomic words in forms that this test can't follow

	acquires map[*ssa.Function]map[lock]bool // by a function and all that it calls
	graph    *callgraph.Graph
}

// loadShipped reads the packages that ship, once.
var loadShipped = sync.OnceValues(func() ([]*packages.Package, error) {
	var patterns []string
	for name := range arrows {
		if ships(name) {
			patterns = append(patterns, module+"/"+name)
		}
	}
	return packages.Load(&packages.Config{Mode: packages.LoadSyntax | packages.NeedModule, Dir: root}, patterns...)
})

// shipped returns the packages that ship.
func shipped(t *testing.T) []*packages.Package {
	t.Helper()
	loaded, err := loadShipped()
	if err != nil {
		t.Fatal(err)
	}
	if packages.PrintErrors(loaded) > 0 {
		t.Fatal("the packages don't load")
	}
	return loaded
}

// locksOf reads the code of packages that ship.
func locksOf(t *testing.T) *lockUse {
	t.Helper()
	loaded := shipped(t)
	program, _ := ssautil.Packages(loaded, ssa.InstantiateGenerics)
	program.Build()
	functions := ssautil.AllFunctions(program)
	l := &lockUse{
		locks: map[lock]bool{}, atoms: map[string]bool{}, taken: map[lock]map[lock]string{}, acquires: map[*ssa.Function]map[lock]bool{},
		graph: vta.CallGraph(functions, cha.CallGraph(program)),
	}
	for _, p := range loaded {
		for _, name := range p.Types.Scope().Names() {
			if def, ok := p.Types.Scope().Lookup(name).(*types.TypeName); ok && !def.IsAlias() {
				l.declared(p.Types.Name()+"."+name, def.Type().Underlying())
			}
		}
		l.odd = append(l.odd, oddLocks(p.Types, p.TypesInfo)...)
	}
	l.summarise(functions)
	for f := range functions {
		l.follow(program, f)
	}
	return l
}

// ships says whether a package is part of the product.
func ships(name string) bool {
	switch name {
	case "internal/arrows", "internal/imaptest", "internal/imaptest/consultest", "internal/apptest", "telemetry/metricsdoc":
		return false
	}
	return name != "e2e" && !strings.HasPrefix(name, "e2e/")
}

// declared adds the mutexes and atomic fields of a struct, and of structs without a name
// within it.
func (l *lockUse) declared(prefix string, t types.Type) {
	s, ok := t.(*types.Struct)
	if !ok {
		return
	}
	for field := range s.Fields() {
		if isMutex(field.Type()) {
			l.locks[mutexName(prefix, field)] = true
		} else if isAtomic(field.Type()) {
			l.atoms[prefix+"."+field.Name()] = true
		} else if _, unnamed := field.Type().(*types.Struct); unnamed {
			l.declared(prefix+"."+field.Name(), field.Type())
		}
	}
}

// mutexName is a mutex's name; one that is embedded is named for what it is embedded in.
func mutexName(prefix string, field *types.Var) lock {
	if field.Embedded() {
		return lock(prefix)
	}
	return lock(prefix + "." + field.Name())
}

// isAtomic says whether a field is a word of sync/atomic, or an array of them.
func isAtomic(t types.Type) bool {
	if array, ok := t.(*types.Array); ok {
		return isAtomic(array.Elem())
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "sync/atomic"
}

func isMutex(t types.Type) bool {
	named, ok := t.(*types.Named)
	if !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != "sync" {
		return false
	}
	return named.Obj().Name() == "Mutex" || named.Obj().Name() == "RWMutex"
}

// operation returns what a call does to which mutex.
func operation(call *ssa.CallCommon) (lock, string) {
	f := call.StaticCallee()
	if f == nil || f.Pkg == nil || f.Pkg.Pkg.Path() != "sync" || len(call.Args) == 0 || f.Signature.Recv() == nil {
		return "", ""
	}
	pointer, ok := f.Signature.Recv().Type().(*types.Pointer)
	if !ok || !isMutex(pointer.Elem()) {
		return "", ""
	}
	return lock(fieldPath(call.Args[0])), f.Name()
}

// fieldPath names the field that a value is the address of.
func fieldPath(v ssa.Value) string {
	field, ok := v.(*ssa.FieldAddr)
	if !ok {
		return "local"
	}
	owner := field.X.Type().Underlying().(*types.Pointer).Elem()
	member := owner.Underlying().(*types.Struct).Field(field.Field)
	prefix := ""
	if named, ok := owner.(*types.Named); ok {
		prefix = named.Obj().Pkg().Name() + "." + named.Obj().Name()
	} else {
		prefix = fieldPath(field.X)
	}
	if isMutex(member.Type()) {
		return string(mutexName(prefix, member))
	}
	return prefix + "." + member.Name()
}

// summarise finds what each function acquires, by itself or by what it calls: the least
// fixed point. What a goroutine acquires that it starts isn't its own.
func (l *lockUse) summarise(functions map[*ssa.Function]bool) {
	for f := range functions {
		l.acquires[f] = map[lock]bool{}
		for _, b := range f.Blocks {
			for _, instr := range b.Instrs {
				if call, ok := instr.(ssa.CallInstruction); ok {
					if which, what := operation(call.Common()); what == "Lock" || what == "RLock" {
						l.acquires[f][which] = true
					}
				}
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for f := range functions {
			for _, callee := range l.callees(f, nil) {
				for which := range l.acquires[callee] {
					if !l.acquires[f][which] {
						l.acquires[f][which], changed = true, true
					}
				}
			}
		}
	}
}

// callees are the functions that one calls, at one place or (nil) anywhere. A function that
// is given to another one, such as the body of a loop over an iterator, counts as called by the
// one that gives it: the other may be given many.
func (l *lockUse) callees(f *ssa.Function, at ssa.CallInstruction) []*ssa.Function {
	node := l.graph.Nodes[f]
	if node == nil {
		return nil
	}
	var found []*ssa.Function
	for _, edge := range node.Out {
		_, starts := edge.Site.(*ssa.Go)
		if starts || edge.Site == nil || at != nil && edge.Site != at || isGiven(edge.Site.Common()) {
			continue
		}
		found = append(found, edge.Callee.Func)
		if !callsGiven(edge.Callee.Func, 4) {
			continue // it keeps what it is given, for later
		}
		for _, arg := range edge.Site.Common().Args {
			switch arg := arg.(type) {
			case *ssa.MakeClosure:
				found = append(found, arg.Fn.(*ssa.Function))
			case *ssa.Function:
				found = append(found, arg)
			}
		}
	}
	return found
}

// callsGiven says whether a function calls what it is given, by itself, in a function within it,
// or by handing it on.
func callsGiven(f *ssa.Function, depth int) bool {
	started := map[*ssa.Function]bool{}
	for _, b := range f.Blocks {
		for _, instr := range b.Instrs {
			if start, ok := instr.(*ssa.Go); ok {
				if closure, ok := start.Call.Value.(*ssa.MakeClosure); ok {
					started[closure.Fn.(*ssa.Function)] = true
				}
			}
			call, ok := instr.(*ssa.Call)
			if !ok {
				continue
			}
			if isGiven(call.Common()) {
				return true
			}
			for _, arg := range call.Common().Args {
				if _, handed := arg.(*ssa.Parameter); !handed || depth == 0 {
					continue
				}
				if _, ok := arg.Type().Underlying().(*types.Signature); !ok {
					continue
				}
				if callee := call.Common().StaticCallee(); callee != nil && callsGiven(callee, depth-1) {
					return true
				}
			}
		}
	}
	for _, within := range f.AnonFuncs {
		if !started[within] && callsGiven(within, depth) {
			return true
		}
	}
	return false
}

// isGiven says whether what is called was given to the function that calls it.
func isGiven(call *ssa.CallCommon) bool {
	if call.IsInvoke() {
		return false
	}
	value := call.Value
	if load, ok := value.(*ssa.UnOp); ok {
		value = load.X
	}
	switch value.(type) {
	case *ssa.Parameter, *ssa.FreeVar:
		return true
	}
	return false
}

// follow goes through a function with the locks that it may hold at each place.
func (l *lockUse) follow(program *ssa.Program, f *ssa.Function) {
	if len(f.Blocks) == 0 {
		return
	}
	held := map[*ssa.BasicBlock]map[lock]bool{f.Blocks[0]: {}}
	todo := []*ssa.BasicBlock{f.Blocks[0]}
	for len(todo) > 0 {
		b := todo[0]
		todo = todo[1:]
		now := maps.Clone(held[b])
		for _, instr := range b.Instrs {
			call, ok := instr.(*ssa.Call)
			if !ok {
				continue
			}
			where := program.Fset.Position(call.Pos())
			at := where.Filename[strings.LastIndexByte(where.Filename, '/')+1:] + " in " + f.Name()
			switch which, what := operation(call.Common()); what {
			case "Lock", "RLock":
				l.note(now, which, at)
				now[which] = true
			case "TryLock", "TryRLock":
				now[which] = true
			case "Unlock", "RUnlock":
				delete(now, which)
			default:
				for _, callee := range l.callees(f, call) {
					for which := range l.acquires[callee] {
						l.note(now, which, at+" by "+callee.Name())
					}
				}
			}
		}
		for _, next := range b.Succs {
			before, seen := held[next]
			if !seen {
				before = map[lock]bool{}
				held[next] = before
			}
			size := len(before)
			maps.Copy(before, now)
			if !seen || len(before) > size {
				todo = append(todo, next)
			}
		}
	}
}

func (l *lockUse) note(held map[lock]bool, taken lock, at string) {
	for h := range held {
		if l.taken[h] == nil {
			l.taken[h] = map[lock]string{}
		}
		if old, ok := l.taken[h][taken]; !ok || at < old {
			l.taken[h][taken] = at
		}
	}
}

var (
	locking      = root + "/docs/locking.md"
	orderSection = regexp.MustCompile(`(?s)\n## Order\n(.*?)\n## `)
	orderRow     = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	atomsSection = regexp.MustCompile(`(?s)\n## Atomic words\n(.*)`)
	atomName     = regexp.MustCompile("`(\\w+\\.\\w+\\.\\w+)`")
)

// falseOrders are orders that this test finds and the code doesn't have: the test takes a call through an
// interface for a call of each type that implements it.
var falseOrders = map[[2]lock]string{
	{"dev.listener.mu", "fair.Places.mu"}: "net.Conn.Close is that of a connection of its own",
}

func TestLocksDocumented(t *testing.T) {
	l := locksOf(t)
	page := read(t, locking)
	place := map[lock]int{}
	for i, row := range orderRow.FindAllStringSubmatch(firstGroup(orderSection, page), -1) {
		place[lock(row[1])] = i
	}
	for which := range l.locks {
		if _, ok := place[which]; !ok {
			t.Errorf("docs/locking.md, Order, lacks %s: say what it guards, where it may be taken", which)
		}
	}
	for which := range place {
		if !l.locks[which] {
			t.Errorf("docs/locking.md has %s, which isn't a mutex of the proxy", which)
		}
	}
	for held := range l.taken {
		for taken, where := range l.taken[held] {
			if place[held] >= place[taken] && falseOrders[[2]lock{held, taken}] == "" {
				t.Errorf("%s takes %s while it may hold %s, which docs/locking.md has below it", where, taken, held)
			}
		}
	}

	for _, what := range l.odd {
		t.Errorf("%s: docs/locking.md names mutexes and atomic words that are fields of named structs; make it one", what)
	}

	named := map[string]bool{}
	for _, m := range atomName.FindAllStringSubmatch(firstGroup(atomsSection, page), -1) {
		named[m[1]] = true
		if !l.atoms[m[1]] {
			t.Errorf("docs/locking.md has %s, which isn't an atomic field of the proxy", m[1])
		}
	}
	for name := range l.atoms {
		if !named[name] {
			t.Errorf("docs/locking.md, Atomic words, lacks %s: say who writes and who reads it", name)
		}
	}
}

func firstGroup(r *regexp.Regexp, text string) string {
	if m := r.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
