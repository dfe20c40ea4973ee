package arrows

import (
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// TestLayoutDocumented compares the tree of packages in docs/architecture.md with the table of packages.
func TestLayoutDocumented(t *testing.T) {
	text := read(t, filepath.Join(root, "docs", "architecture.md"))
	_, rest, _ := strings.Cut(text, "## Packages\n\n```\n")
	tree, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/architecture.md has no tree of packages")
	}
	listed := map[string]bool{}
	var above []string // the folders around the next line's
	for line := range strings.Lines(tree) {
		name, _, isFolder := strings.Cut(strings.TrimLeft(line, " "), "/ ")
		if !isFolder {
			t.Errorf("not a folder: %q", line)
			continue
		}
		above = append(above[:(len(line)-len(strings.TrimLeft(line, " ")))/2], name)
		listed[path.Join(above...)] = true
	}
	for name := range arrows {
		if !listed[name] {
			t.Errorf("docs/architecture.md's tree lacks %s", name)
		}
	}
}
