package config

import (
	"reflect"
	"strings"
)

// A field's part in the schema, from its hcl tag.
const (
	kindAttr     = ""
	kindBlock    = "block"
	kindLabel    = "label"
	kindVariants = "variants"
	kindVariant  = "variant"
)

// schemaField is one tagged field of a settings struct.
type schemaField struct {
	reflect.StructField
	name, kind string
}

// schema lists the tagged fields of a struct type, in its order.
func schema(t reflect.Type) []schemaField {
	var fields []schemaField
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("hcl")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(tag, ",")
		fields = append(fields, schemaField{t.Field(i), name, kind})
	}
	return fields
}

func find(fields []schemaField, name string, attr bool) (schemaField, bool) {
	for _, f := range fields {
		if f.name == name && f.kind != kindLabel && (f.kind == kindAttr) == attr {
			return f, true
		}
	}
	return schemaField{}, false
}

func labelOf(t reflect.Type) (schemaField, bool) {
	for _, f := range schema(t) {
		if f.kind == kindLabel {
			return f, true
		}
	}
	return schemaField{}, false
}

// walkSchema visits every attribute, block and variant below a settings struct.
func walkSchema(t reflect.Type, path string, visit func(path string, f schemaField)) {
	for _, f := range schema(t) {
		here := join(path, f.name)
		visit(here, f)
		if f.kind == kindAttr || f.kind == kindLabel {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		walkSchema(inner, here, visit)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
