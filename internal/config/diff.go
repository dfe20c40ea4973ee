package config

import (
	"fmt"
	"reflect"
	"sort"
)

// Change is one setting that differs between two configurations. It has no
// values: some of them are nobody's business.
type Change struct {
	Path         string // listener.imaps.cleartext_from
	NeedsRestart bool   // a reload can't do it; the old value stays until then
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
				*changes = append(*changes, Change{here, restart})
			}
		case x.Kind() == reflect.Struct:
			diffStruct(here, x, y, restart, changes)
		case x.Kind() == reflect.Pointer:
			if x.IsNil() != y.IsNil() {
				*changes = append(*changes, Change{here, restart || f.restartsInside()})
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
			*changes = append(*changes, Change{path, restart || f.restartsInside()})
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
			diffStruct(join(path, name), x, y, restart, changes)
		} else {
			*changes = append(*changes, Change{join(path, name), restart || f.restartsInside()})
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			*changes = append(*changes, Change{join(path, name), restart || f.restartsInside()})
		}
	}
}

// restartsInside says whether something in a block needs a restart; then the
// coming and going of the whole block does.
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
