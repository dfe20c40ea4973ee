package config

import (
	"fmt"
	"reflect"
	"slices"
	"sort"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Change is one setting that differs between two configurations.
type Change struct {
	Path         string // listener.imaps.cleartext_from
	NeedsRestart bool   // a reload can't apply it; the old value stays until a restart
	// Old and New are the values as in a Text, where secrets are redacted. Both are "" for a whole block.
	Old, New string
}

// Values says the change with its values: path: old → new. A block without a value of its own is only named.
func (c Change) Values() string {
	if c.Old == "" && c.New == "" {
		return c.Path
	}
	return c.Path + ": " + c.Old + " → " + c.New
}

// written returns a setting's value as it stands in a Text.
func written(f schemaField, v reflect.Value) string {
	return string(hclwrite.TokensForValue(public(f, v)).Bytes())
}

// Diff lists what differs between two configurations, ordered by path. Files that
// are named (certificates, passwords) count by name: their content is read anew at
// each reload.
func Diff(before, after *Config) []Change {
	var changes []Change
	diffStruct("", reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), false, &changes)
	sort.SliceStable(changes, func(i, j int) bool { return changes[i].Path < changes[j].Path })
	return changes
}

func diffStruct(path string, a, b reflect.Value, restart bool, changes *[]Change) {
	for _, f := range schema(a.Type()) {
		if f.kind == kindLabel {
			continue
		}
		here := join(path, f.name)
		restart := restart || f.Tag.Get("reload") == "restart"
		x, y := a.FieldByIndex(f.Index), b.FieldByIndex(f.Index)
		switch {
		case f.kind == kindAttr:
			if !reflect.DeepEqual(x.Interface(), y.Interface()) {
				*changes = append(*changes, Change{here, restart, written(f, x), written(f, y)})
			}
		case x.Kind() == reflect.Struct:
			diffStruct(here, x, y, restart, changes)
		case x.Kind() == reflect.Pointer:
			if x.IsNil() != y.IsNil() {
				*changes = append(*changes, Change{here, restart || f.restartsInside(), "", ""})
			} else if !x.IsNil() {
				diffStruct(here, x.Elem(), y.Elem(), restart, changes)
			}
		case x.Kind() == reflect.Slice:
			diffBlocks(here, f, x, y, restart, changes)
		}
	}
}

// diffBlocks compares blocks of which there may be many: by name where they have
// one, else as a whole, since their order then matters.
func diffBlocks(path string, f schemaField, a, b reflect.Value, restart bool, changes *[]Change) {
	label, named := labelOf(f.Type.Elem())
	if !named {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			*changes = append(*changes, Change{path, restart || f.restartsInside(), "", ""})
		}
		return
	}
	byName := func(v reflect.Value) map[string]reflect.Value {
		m := map[string]reflect.Value{}
		for i := range v.Len() {
			m[v.Index(i).FieldByIndex(label.Index).String()] = v.Index(i)
		}
		return m
	}
	before, after := byName(a), byName(b)
	for name, x := range before {
		if y, ok := after[name]; ok {
			*changes = append(*changes, diffNamed(join(path, name), x, y, restart)...)
		} else {
			*changes = append(*changes, Change{join(path, name), restart || f.restartsInside(), "", ""})
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			*changes = append(*changes, Change{join(path, name), restart || f.restartsInside(), "", ""})
		}
	}
}

// diffNamed compares two blocks of the same name. Where one of the changes needs a
// restart they all do: a listener's certificate means nothing without its TLS mode.
func diffNamed(path string, a, b reflect.Value, restart bool) []Change {
	var changes []Change
	diffStruct(path, a, b, restart, &changes)
	if slices.ContainsFunc(changes, func(c Change) bool { return c.NeedsRestart }) {
		for i := range changes {
			changes[i].NeedsRestart = true
		}
	}
	return changes
}

// Reloaded returns the settings after a reload from running to wanted: those of wanted, except those that
// need a restart, which keep their values. A restart would change what differs between it and wanted.
func Reloaded(running, wanted *Config) *Config {
	result := *wanted
	keep(reflect.ValueOf(running).Elem(), reflect.ValueOf(&result).Elem())
	return &result
}

// keep puts the running values into wanted where only a restart can change them. Settings below a pointer can
// all be reloaded (a test checks the schema), so nothing that wanted shares with its origin is written to.
func keep(running, wanted reflect.Value) {
	for _, f := range schema(wanted.Type()) {
		x, y := running.FieldByIndex(f.Index), wanted.FieldByIndex(f.Index)
		switch {
		case f.kind == kindLabel:
		case f.Tag.Get("reload") == "restart":
			y.Set(x)
		case f.kind != kindAttr && y.Kind() == reflect.Struct:
			keep(x, y)
		case y.Kind() == reflect.Slice && f.kind == kindBlock && f.restartsInside():
			y.Set(keepBlocks(x, y))
		}
	}
}

// keepBlocks returns the running blocks, each with the wanted values that a reload can apply.
func keepBlocks(running, wanted reflect.Value) reflect.Value {
	label, _ := labelOf(running.Type().Elem())
	blocks := reflect.MakeSlice(running.Type(), 0, running.Len())
	for i := range running.Len() {
		block := running.Index(i)
		for j := range wanted.Len() {
			other := wanted.Index(j)
			if other.FieldByIndex(label.Index).String() != block.FieldByIndex(label.Index).String() {
				continue
			}
			if !slices.ContainsFunc(diffNamed("", block, other, false), func(c Change) bool { return c.NeedsRestart }) {
				block = other
			}
			break
		}
		blocks = reflect.Append(blocks, block)
	}
	return blocks
}

// restartsInside says whether a setting in a block needs a restart; then adding or removing the block does,
// too.
func (f schemaField) restartsInside() bool {
	t := f.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	found := false
	walkSchema(t, "", func(_ string, inner schemaField) {
		found = found || inner.Tag.Get("reload") == "restart"
	})
	return found
}

// String says the change as a log line does.
func (c Change) String() string {
	if c.NeedsRestart {
		return fmt.Sprintf("%s (needs a restart)", c.Path)
	}
	return c.Path
}
