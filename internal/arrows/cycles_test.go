package arrows

import (
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// oneWay lists the packages in which no two files need each other, directly or indirectly, so that a reader
// can begin with the files that need no others.
func oneWay() []string {
	return []string{
		"cmd/imapproxy", "e2e/servers", "internal/admin", "internal/apptest", "internal/config", "internal/dev", "internal/fair", "internal/imaptest",
		"internal/imaptest/consultest", "internal/movetest", "internal/peers", "internal/task", "internal/wiring", "proxy", "proxy/auth",
		"proxy/auth/ldapauth", "proxy/auth/sqlauth", "proxy/conn", "proxy/imapclient", "proxy/park", "proxy/park/events",
		"proxy/park/resync", "proxy/park/view", "proxy/session", "proxy/track", "proxy/upstream", "proxy/wire", "routing",
		"routing/agree/epochs", "routing/cluster", "routing/discovery", "telemetry",
	}
}

// heads are the files whose needs don't count, each for a reason.
func heads() map[string]string {
	return map[string]string{
		// It names the phases, which each phase's file needs, and runs them: a reader sees a session's life in one file.
		"proxy/session": "phase.go",
	}
}

func TestFilesNeedEachOtherOneWay(t *testing.T) {
	var patterns []string
	for _, name := range oneWay() {
		patterns = append(patterns, module+"/"+name)
	}
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Dir: root}, patterns...)
	if err != nil {
		t.Fatal(err)
	}
	if packages.PrintErrors(loaded) > 0 || len(loaded) != len(patterns) {
		t.Fatal("the packages don't load")
	}
	for _, p := range loaded {
		needs := fileNeeds(p)
		if head, ok := heads()[strings.TrimPrefix(p.PkgPath, module+"/")]; ok {
			if len(needs[head]) == 0 {
				t.Errorf("%s: %s needs no other file: remove it from heads", p.PkgPath, head)
			}
			delete(needs, head)
		}
		for changed := true; changed; { // a file that needs none, or that none needs, isn't in a circle
			changed = false
			needed := map[string]bool{}
			for _, targets := range needs {
				maps.DeleteFunc(targets, func(target string, _ map[string]bool) bool { return len(needs[target]) == 0 })
				for target := range targets {
					needed[target] = true
				}
			}
			for file, targets := range needs {
				if len(targets) == 0 || !needed[file] {
					delete(needs, file)
					changed = true
				}
			}
		}
		for _, file := range slices.Sorted(maps.Keys(needs)) {
			for _, target := range slices.Sorted(maps.Keys(needs[file])) {
				names := slices.Sorted(maps.Keys(needs[file][target]))
				t.Errorf("%s: files go round in a circle: %s needs %s for %s", p.PkgPath, file, target,
					strings.Join(names[:min(len(names), 8)], ", "))
			}
		}
	}
}

// fileNeeds says which files of a package use what of which others.
func fileNeeds(p *packages.Package) map[string]map[string]map[string]bool {
	needs := map[string]map[string]map[string]bool{}
	for id, o := range p.TypesInfo.Uses {
		if o.Pkg() != p.Types || !o.Pos().IsValid() {
			continue
		}
		switch v := o.(type) {
		case *types.PkgName, *types.Label:
			continue
		case *types.Var:
			if !v.IsField() && o.Parent() != p.Types.Scope() {
				continue
			}
		}
		from, to := filepath.Base(p.Fset.Position(id.Pos()).Filename), filepath.Base(p.Fset.Position(o.Pos()).Filename)
		if from == to {
			continue
		}
		if needs[from] == nil {
			needs[from] = map[string]map[string]bool{}
		}
		if needs[from][to] == nil {
			needs[from][to] = map[string]bool{}
		}
		needs[from][to][o.Name()] = true
	}
	return needs
}
