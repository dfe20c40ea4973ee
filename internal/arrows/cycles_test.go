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

// heads are the files that may need every other file of their package, each with the reason.
func heads() map[string]string {
	return map[string]string{
		// It names the phases, which each phase's file needs, and runs them: a reader sees a session's life in one file.
		"proxy/session": "phase.go",
	}
}

// No two files of a package need each other, directly or indirectly, so that a reader can begin with the files that
// need no others.
func TestFilesNeedEachOtherOneWay(t *testing.T) {
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Dir: root}, module+"/...")
	if err != nil {
		t.Fatal(err)
	}
	if packages.PrintErrors(loaded) > 0 || len(loaded) < 40 {
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
