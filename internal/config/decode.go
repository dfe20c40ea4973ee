package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// setDefaults gives a settings struct the defaults of its tags. The tags are
// constants of this package: one that can't be read is a broken invariant.
func setDefaults(v reflect.Value) {
	for _, f := range schema(v.Type()) {
		field := v.FieldByIndex(f.Index)
		switch {
		case f.kind == kindBlock && field.Kind() == reflect.Struct:
			setDefaults(field)
		case f.kind == kindAttr:
			if text, ok := f.Tag.Lookup("default"); ok {
				if err := setText(field, text); err != nil {
					panic(fmt.Sprintf("the default of %s can't be read: %v", f.name, err))
				}
			}
		}
	}
}

// body decodes a block's (or the file's) content into a struct.
func (d *decoder) body(path string, body *hclsyntax.Body, v reflect.Value) {
	setDefaults(v)
	fields := schema(v.Type())
	for _, attr := range body.Attributes {
		f, ok := find(fields, attr.Name, true)
		if !ok {
			d.unknown(attr.NameRange, path, fields, attr.Name, true)
			continue
		}
		d.ranges[join(path, f.name)] = attr.SrcRange
		d.attribute(join(path, f.name), f, attr, v.FieldByIndex(f.Index))
	}
	for _, block := range body.Blocks {
		f, ok := find(fields, block.Type, false)
		if !ok {
			d.unknown(block.TypeRange, path, fields, block.Type, false)
			continue
		}
		if f.kind == kindVariants {
			d.variants(path, f, block, v.FieldByIndex(f.Index))
		} else {
			d.block(path, f, block, v.FieldByIndex(f.Index))
		}
	}
	at := body.MissingItemRange()
	if r, ok := d.ranges[path]; ok {
		at = r // the block's head says more than the brace at its end
	}
	d.missing(at, path, "", fields)
}

// missing reports the required settings that aren't written, also those of a block that isn't written; absent
// then names the block.
func (d *decoder) missing(at hcl.Range, path, absent string, fields []schemaField) {
	for _, f := range fields {
		here := join(path, f.name)
		if d.written(here) {
			continue
		}
		if required, ok := f.Tag.Lookup("required"); ok {
			d.failed[here] = true
			instead := "write " + required
			if absent != "" {
				instead = fmt.Sprintf("write a block %s { … }, and in it %s", absent, required)
			}
			d.fail(at, here+" is missing", "%s", instead)
		} else if f.kind == kindBlock && f.Type.Kind() == reflect.Struct {
			d.missing(at, here, f.name, schema(f.Type))
		}
	}
}

// block decodes a block into a struct, a pointer to one or a slice of them.
func (d *decoder) block(parent string, f schemaField, block *hclsyntax.Block, field reflect.Value) {
	t := field.Type()
	many := t.Kind() == reflect.Slice
	if many || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	value := reflect.New(t).Elem()
	path := join(parent, f.name)
	label, labelled := labelOf(t)
	if labelled {
		name, ok := d.label(block, f.name, "a name in quotes")
		if !ok {
			return
		}
		path = join(path, name)
	} else if len(block.Labels) > 0 {
		d.fail(block.LabelRanges[0], fmt.Sprintf("%s takes no name", f.name), "write %s { … }", f.name)
	}
	if before, again := d.ranges[path]; again && (labelled || !many) {
		what := fmt.Sprintf("a second %s, after the one in line %d", path, before.Start.Line)
		if labelled {
			d.fail(block.DefRange(), what, "give it a name of its own")
		} else {
			d.fail(block.DefRange(), what, "keep one of them")
		}
		return
	} else if again { // certificate blocks have no name: number them
		for i := 2; again; i++ {
			path = fmt.Sprintf("%s#%d", join(parent, f.name), i)
			_, again = d.ranges[path]
		}
	}
	d.ranges[path] = block.DefRange()
	d.body(path, block.Body, value)
	if labelled {
		value.FieldByIndex(label.Index).SetString(block.Labels[0])
	}
	switch {
	case many:
		field.Set(reflect.Append(field, value))
	case field.Kind() == reflect.Pointer:
		field.Set(value.Addr())
	default:
		field.Set(value)
	}
}

// variants decodes a block whose label says which of several shapes it has.
func (d *decoder) variants(parent string, f schemaField, block *hclsyntax.Block, field reflect.Value) {
	t := field.Type()
	many := t.Kind() == reflect.Slice
	if many {
		t = t.Elem()
	}
	d.ranges[join(parent, f.name)] = block.DefRange()
	kinds := schema(t)
	if len(block.Labels) == 0 || block.Labels[0] == "" {
		d.label(block, f.name, "one of "+quotedNames(kinds))
		return
	}
	name := block.Labels[0]
	kind, ok := find(kinds, name, false)
	if !ok {
		instead := "write one of " + quotedNames(kinds)
		if near := nearest(name, kinds, func(schemaField) bool { return true }); near != "" {
			instead = fmt.Sprintf("write %s %q", f.name, near)
		}
		d.fail(block.LabelRanges[0], fmt.Sprintf("there is no %s %q", f.name, name), "%s", instead)
		return
	}
	path := join(join(parent, f.name), name)
	label, labelled := labelOf(kind.Type.Elem())
	own, ok := d.ownName(block, f.name, kind, labelled)
	if !ok {
		return
	}
	if own != "" {
		path = join(path, own)
	}
	if before, again := d.ranges[path]; again {
		what := fmt.Sprintf("a second %s %s, after the one in line %d", f.name, strings.TrimRight(fmt.Sprintf("%q %s", name, quoted(own)), " "), before.Start.Line)
		switch {
		case own != "":
			d.fail(block.DefRange(), what, "give it a name of its own")
		case labelled:
			d.fail(block.DefRange(), what, "give it a name, as in %s %q \"staff\" { … }, or keep one of them", f.name, name)
		default:
			d.fail(block.DefRange(), what, "keep one of them")
		}
		return
	}
	if !many && !field.IsZero() {
		d.fail(block.DefRange(), fmt.Sprintf("a second %s", f.name), "keep one of them: there is one pool of backends")
		return
	}
	d.ranges[path] = block.DefRange()
	value := reflect.New(t).Elem()
	content := reflect.New(kind.Type.Elem())
	d.body(path, block.Body, content.Elem())
	if labelled {
		content.Elem().FieldByIndex(label.Index).SetString(own)
	}
	value.FieldByIndex(kind.Index).Set(content)
	if many {
		field.Set(reflect.Append(field, value))
	} else {
		field.Set(value)
	}
}

// ownName returns the second label of a block of variants, "" if there is none, and reports an error if it can't be a name.
func (d *decoder) ownName(block *hclsyntax.Block, name string, kind schemaField, labelled bool) (string, bool) {
	if len(block.Labels) == 1 {
		return "", true
	}
	at := block.LabelRanges[1]
	if !labelled {
		d.fail(at, fmt.Sprintf("%s %q takes no name", name, kind.name), "write %s %q { … }", name, kind.name)
		return "", false
	}
	own := block.Labels[1]
	switch _, setting := find(schema(kind.Type.Elem()), own, true); {
	case len(block.Labels) > 2:
		d.fail(at, fmt.Sprintf("%s %q has more than one name", name, kind.name), "write %s %q \"staff\" { … }", name, kind.name)
	case own == "" || len(own) > maxOwnName || strings.ContainsFunc(own, func(r rune) bool { return !headerRune(r) }):
		d.fail(at, fmt.Sprintf("%s %q: a name has letters, digits, - and _, and at most %d characters", name, kind.name, maxOwnName), "write a name such as \"staff\"")
	case setting:
		d.fail(at, fmt.Sprintf("%s %q: %s is the name of a setting in it", name, kind.name, own), "write another name, such as \"staff\"")
	default:
		return own, true
	}
	return "", false
}

// maxOwnName bounds what is a label of metrics.
const maxOwnName = 32

// quoted is a name in quotes; "" stays "".
func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%q", name)
}

// label returns a block's only label, and reports an error if there is none.
func (d *decoder) label(block *hclsyntax.Block, name, what string) (string, bool) {
	if len(block.Labels) == 1 && block.Labels[0] != "" {
		return block.Labels[0], true
	}
	d.fail(block.DefRange(), fmt.Sprintf("%s needs %s", name, what), "write %s \"…\" { … }", name)
	return "", false
}

// unknown reports a name that isn't in the schema, with what is probably meant.
func (d *decoder) unknown(at hcl.Range, path string, fields []schemaField, name string, attr bool) {
	where := path
	if where == "" {
		where = "the file"
	}
	what, shape := "block", "write %s { … }"
	if attr {
		what, shape = "setting", "write %s = …"
	}
	said := fmt.Sprintf("%s has no %s %q", where, what, name)
	if _, ok := find(fields, name, !attr); ok {
		if attr {
			d.fail(at, fmt.Sprintf("%s is a block, not a setting", name), "write %s { … } without the =", name)
		} else {
			d.fail(at, fmt.Sprintf("%s is a setting, not a block", name), "write %s = …", name)
		}
		return
	}
	if near := nearest(name, fields, func(f schemaField) bool { return (f.kind == kindAttr) == attr }); near != "" {
		d.fail(at, said, shape, near)
		return
	}
	if home := homes(name, attr); len(home) > 0 {
		d.fail(at, said, "%s belongs in %s", name, strings.Join(home, " or "))
		return
	}
	var names []string
	for _, f := range fields {
		if f.kind != kindLabel && (f.kind == kindAttr) == attr {
			names = append(names, f.name)
		}
	}
	if len(names) == 0 {
		d.fail(at, said, "remove it")
		return
	}
	d.fail(at, said, "it knows %s", strings.Join(names, ", "))
}

// nearest returns the name that was probably meant, or "".
func nearest(name string, fields []schemaField, of func(schemaField) bool) string {
	best, least := "", 1+len(name)/3
	for _, f := range fields {
		if f.kind == kindLabel || !of(f) {
			continue
		}
		if len(name) >= 3 && (strings.HasPrefix(f.name, name) || strings.HasPrefix(name, f.name)) {
			return f.name
		}
		if n := levenshtein.Distance(name, f.name, nil); n <= least {
			best, least = f.name, n-1
		}
	}
	return best
}

// homes lists the blocks that know a name.
func homes(name string, attr bool) []string {
	var found []string
	walkSchema(reflect.TypeFor[Config](), "", func(path string, f schemaField) {
		if f.name == name && f.kind != kindLabel && f.kind != kindVariant && (f.kind == kindAttr) == attr {
			if parent := strings.TrimSuffix(strings.TrimSuffix(path, name), "."); parent != "" {
				found = append(found, parent)
			} else {
				found = append(found, "the file itself, outside of every block")
			}
		}
	})
	return found
}

func quotedNames(fields []schemaField) string {
	var names []string
	for _, f := range fields {
		names = append(names, fmt.Sprintf("%q", f.name))
	}
	return strings.Join(names, ", ")
}
