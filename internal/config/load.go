package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxFile bounds what is read as a configuration, or by file(), in bytes: a
// path that points at a device or a mailbox must not fill the memory.
const maxFile = 1 << 20

// Load reads and checks the file at path. The error is Errors: all that is
// wrong, at once.
func Load(path string) (*Config, []Warning, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, nil, Errors{{File: path, What: err.Error(), Instead: "name the file with --config"}}
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
		// What follows a syntax error is guesswork: settings would be reported
		// as missing that stand there. So these errors come alone, all of them.
		return nil, nil, syntaxErrors(name, diags).sorted()
	}
	d := &decoder{
		file:   name,
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

// Default is the configuration of an empty file, without what a file must say:
// no listener, no discovery, no storage. For `imapproxy dev`, which fills them in.
func Default() *Config {
	cfg := &Config{}
	setDefaults(reflect.ValueOf(cfg).Elem())
	cfg.Hostname = ownName()
	cfg.Auth = []Auth{{Backend: &AuthBackend{}}}
	return cfg
}

// ownName is the machine's name, and never empty.
func ownName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

func syntaxErrors(name string, diags hcl.Diagnostics) Errors {
	var errs Errors
	for _, diag := range diags {
		if diag.Severity != hcl.DiagError {
			continue
		}
		e := Error{File: name, What: diag.Summary, Instead: strings.ReplaceAll(diag.Detail, "\n", " ")}
		if diag.Subject != nil {
			e.Line = diag.Subject.Start.Line
		}
		// HCL's own text for the commonest slip doesn't say what to do.
		if strings.Contains(diag.Summary, "single-argument block") {
			e.What = "several settings on one line"
			e.Instead = "write each setting on a line of its own, and the closing } too"
		}
		errs = append(errs, e)
	}
	return errs
}

// readFile reads a regular file of bounded size. Its errors don't name the path
// twice and never quote the content.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", path)
	case err != nil:
		return nil, fmt.Errorf("%s can't be read: %w", path, errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s isn't a file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s may not be read by this user", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, errors.Unwrap(err))
	}
	return src, nil
}
