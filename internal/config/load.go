package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Load reads and checks the file at path. The error is Errors: all that is
// wrong, at once.
func Load(path string) (*Config, []Warning, error) {
	src, err := readFile(path)
	if err != nil {
		instead := "name the file with --config"
		if errors.Is(err, fs.ErrPermission) {
			instead = letRead(path)
		}
		return nil, nil, Errors{{File: path, What: err.Error(), Instead: instead}}
	}
	return Parse(path, src)
}

// Parse is Load for a text that is already in memory. Relative file names are
// relative to the folder of name, which also stands in the errors.
func Parse(name string, src []byte) (*Config, []Warning, error) {
	if len(src) > maxFile {
		return nil, nil, Errors{{File: name, What: fmt.Sprintf("more than %d bytes", maxFile)}}
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		// After a syntax error, settings that the file has would be reported as missing. So only the syntax
		// errors are reported, all of them.
		return nil, nil, syntaxErrors(name, src, diags).sorted()
	}
	d := &decoder{
		file:   name,
		src:    src,
		dir:    filepath.Dir(name),
		ranges: map[string]hcl.Range{},
		failed: map[string]bool{},
	}
	d.functions()
	cfg := &Config{}
	d.body("", file.Body.(*hclsyntax.Body), reflect.ValueOf(cfg).Elem())
	warnings := d.validate(cfg)
	if len(d.errs) > 0 {
		return nil, warnings, d.errs.sorted()
	}
	return cfg, warnings, nil
}

// LineOf is where a setting (listener.imaps.address) stands in a file, or the block that
// it belongs in; 0 where neither is written, or the file can't be read any more. It
// reads the file again: errors are rare, and a Config needn't remember where it is from.
func LineOf(path, setting string) int {
	src, err := readFile(path)
	if err != nil {
		return 0
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		return 0
	}
	d := &decoder{file: path, src: src, dir: filepath.Dir(path), ranges: map[string]hcl.Range{}, failed: map[string]bool{}}
	d.functions()
	d.body("", file.Body.(*hclsyntax.Body), reflect.ValueOf(&Config{}).Elem())
	for setting != "" {
		if d.written(setting) {
			return d.ranges[setting].Start.Line
		}
		setting = setting[:max(0, strings.LastIndexByte(setting, '.'))]
	}
	return 0
}

// Default is the configuration of an empty file, without what a file must say:
// no listener, no discovery, no storage. For `imapproxy dev`, which fills them in.
func Default() *Config {
	cfg := &Config{}
	setDefaults(reflect.ValueOf(cfg).Elem())
	cfg.Hostname = ownName()
	cfg.Auth = []Auth{{Backend: &AuthBackend{Mechanisms: []string{}}}}
	return cfg
}

func syntaxErrors(name string, src []byte, diags hcl.Diagnostics) Errors {
	var errs Errors
	for _, diag := range diags {
		if diag.Severity != hcl.DiagError {
			continue
		}
		e := Error{File: name, What: diag.Summary, Instead: strings.ReplaceAll(diag.Detail, "\n", " ")}
		if diag.Subject != nil {
			e.Line = diag.Subject.Start.Line
		}
		// HCL's own text for the most common mistake doesn't say what to do.
		if strings.Contains(diag.Summary, "single-argument block") {
			e.What = "several settings on one line"
			e.Instead = "write each setting on a line of its own, and the closing } too"
		}
		// A value without its quotes breaks the syntax in a dozen ways.
		if setting, text, instead, ok := unquoted(lineOf(src, e.Line)); ok {
			switch f, known := settingNamed(setting); {
			case known && textual(f.Type):
				e.What, e.Instead = fmt.Sprintf("%s: %s stands there without quotes", setting, text), instead
			case known:
				e.What, e.Instead = fmt.Sprintf("%s: %s isn't a value of it", setting, text), example(f)
			}
		}
		errs = append(errs, e)
	}
	return errs
}
