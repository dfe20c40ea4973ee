package proxy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every phase but the end may be followed by the end, the end by nothing, and each is reached
// from the first.
func TestPhasesFollowEachOther(t *testing.T) {
	reached := map[phase]bool{phasePrelogin: true}
	for p := range phase(len(phases)) {
		if !reached[p] {
			t.Errorf("nothing leads to %s", p)
		}
		if p.mayPrecede(phaseEnd) != (p != phaseEnd) {
			t.Errorf("%s may be followed by the end: %v", p, p.mayPrecede(phaseEnd))
		}
		for _, next := range phases[p].before {
			reached[next] = true
		}
	}
}

// A phase that follows none that it may follow is a fault of the program.
func TestAnIllegalPhaseIsFound(t *testing.T) {
	for from := range phase(len(phases)) {
		for to := range phase(len(phases)) {
			found := ""
			l := newLab(t, labOptions{})
			l.srv.illegal = func(what string) { found = what }
			c := l.login("alice")
			c.MustOK("NOOP")
			s := l.only()
			_ = c.Conn.Close()
			l.ended(ReasonClientClosed)
			s.control.phase = from
			s.change(to)
			if want := fmt.Sprintf("session %s: %s follows %s", s.id, to, from); (found == want) == from.mayPrecede(to) || found != "" && found != want {
				t.Errorf("%s, then %s: %q", from, to, found)
			}
		}
	}
}

// A signal is taken once, by the phase that it is for, and by no session that ends.
func TestASignalIsForThePhaseThatTakesIt(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.login("alice")
	c.MustOK("NOOP")
	s := l.only()
	for _, g := range []signal{sigTell, sigAlive, sigLostWatch, sigOff, sigDoubt} {
		if s.signal(g) {
			t.Errorf("a relay takes signal %b", g)
		}
	}
	c.MustOK("NOOP")
	s.terminate(ReasonKicked)
	if s.signal(sigPause) {
		t.Error("a session that ends takes a signal")
	}
	c.Expect("* BYE {*}")
	_ = c.Conn.Close()
	l.ended(ReasonKicked)

	parked := &Session{srv: l.srv, client: s.client}
	parked.control.phase = phaseParked
	for _, step := range []struct {
		signal signal
		taken  bool
	}{{sigTell, true}, {sigTell, false}, {sigOff, true}, {sigDoubt, false}, {sigAlive, true}, {sigPause, false}} {
		if got := parked.signal(step.signal); got != step.taken {
			t.Errorf("signal %b is taken: %v", step.signal, got)
		}
	}
	if got := parked.takeSignals(false); got != sigTell|sigOff|sigAlive || parked.takeSignals(false) != 0 {
		t.Errorf("pending: %b", got)
	}
}

// A session belongs to the phase that runs: the source says so, as far as it can. Only phase.go
// starts its goroutines and closes its client's connection, and only package conn sets deadlines:
// others interrupt (signal.go), the owner bounds what it does itself.
func TestOnlyOwnersTouchASession(t *testing.T) {
	goroutines := []string{
		"listener.go",     // of accept; a session's first phase goes on in it
		"phase.go",        // all others of a session
		"park/hub.go",     // of the hub
		"auth/passwd.go",  // of a passwd-file
		"conn/waiting.go", // wakes a session's owner, who says in phase.go what it does
	}
	deadlines := []string{
		"conn/",
		"park/events/", // of its own HTTP requests
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			at := func() token.Position { return files.Position(n.Pos()) }
			switch n := n.(type) {
			case *ast.GoStmt:
				if !slices.Contains(goroutines, filepath.ToSlash(path)) {
					t.Errorf("%s: a goroutine is started", at())
				}
			case *ast.SelectorExpr:
				switch n.Sel.Name {
				case "SetDeadline", "SetReadDeadline", "SetWriteDeadline":
					if !slices.ContainsFunc(deadlines, func(p string) bool { return strings.HasPrefix(filepath.ToSlash(path), p) }) {
						t.Errorf("%s: %s", at(), n.Sel.Name)
					}
				case "Close", "Abort":
					x, ok := n.X.(*ast.SelectorExpr)
					if ok && x.Sel.Name == "client" && filepath.Dir(path) == "." && path != "phase.go" {
						t.Errorf("%s: a client's connection is closed", at())
					}
				}
			}
			return true
		})
		return nil
	})
	must(t, err)
}
