package proxy

import (
	"go/ast"
	"go/token"
	"testing"
)

// Instants that are kept as numbers are those of internal/clock: of Unix times, a step of the machine's time would change all
// durations that are computed from them. These are the ones that are told to others, or that outlive the process.
func TestOnlyTheMonotonicClockMeasuresDurations(t *testing.T) {
	others := map[string]string{
		"auth/token.go":            "the expiry that a token names",
		"auth/oauthauth/claims.go": "times that a token names",
		"conn/interruption.go":     "a deadline that has passed",
		"conn/tlscheck.go":         "the expiry of a certificate",
		"guessing/memory.go":       "what is remembered for days, and saved",
		"park/events/handler.go":   "the time of the last event, for people",
	}
	used := map[string]bool{}
	eachNode(t, ".", func(path string, n ast.Node, at func() token.Position) {
		f, ok := n.(*ast.SelectorExpr)
		if !ok {
			return
		}
		pkg, _ := f.X.(*ast.Ident)
		unix := pkg != nil && pkg.Name == "time" && (f.Sel.Name == "Unix" || f.Sel.Name == "UnixMilli" || f.Sel.Name == "UnixMicro")
		switch f.Sel.Name {
		case "UnixNano", "UnixMilli", "UnixMicro", "Unix":
			unix = unix || pkg == nil || pkg.Name != "time"
		}
		if unix && pkg != nil && pkg.Name == "unix" {
			return // the package of system calls
		}
		if unix {
			if used[path] = true; others[path] == "" {
				t.Errorf("%s: %s", at(), f.Sel.Name)
			}
		}
	})
	for path := range others {
		if !used[path] {
			t.Errorf("%s has no Unix time: remove it from the list", path)
		}
	}
}
