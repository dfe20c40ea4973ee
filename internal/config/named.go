package config

import "reflect"

// NamedFile is a file that a configuration names, and whose content is read at the start and, but for Restart, at each reload.
type NamedFile struct {
	Setting string // auth.passwd_file.path
	Path    string
	Restart bool // its content is read at the start alone
}

// Files returns the files of authorities, certificates, keys, tokens and passwords that a configuration names, in the order of the settings.
// Those that are read whenever they change aren't among them.
func Files(c *Config) []NamedFile {
	var all []NamedFile
	namedFiles("", reflect.ValueOf(c).Elem(), &all)
	return all
}

func namedFiles(path string, v reflect.Value, all *[]NamedFile) {
	for _, f := range schema(v.Type()) {
		field, here := v.FieldByIndex(f.Index), join(path, f.name)
		switch {
		case f.kind == kindAttr:
			switch kind := f.Tag.Get("path"); kind {
			case "cert", "secret", "users":
				if name := field.String(); name != "" && f.Tag.Get("read") != "changed" {
					*all = append(*all, NamedFile{here, name, f.Tag.Get("read") == "start"})
				}
			}
		case f.kind == kindLabel:
		case field.Kind() == reflect.Slice:
			for i := range field.Len() {
				one, name := field.Index(i), here
				if label, ok := labelOf(one.Type()); ok {
					name = join(here, one.FieldByIndex(label.Index).String())
				}
				namedFiles(name, one, all)
			}
		case field.Kind() == reflect.Pointer:
			if !field.IsNil() {
				if label, ok := labelOf(field.Type().Elem()); ok {
					if own := field.Elem().FieldByIndex(label.Index).String(); own != "" {
						here = join(here, own)
					}
				}
				namedFiles(here, field.Elem(), all)
			}
		default:
			namedFiles(here, field, all)
		}
	}
}
