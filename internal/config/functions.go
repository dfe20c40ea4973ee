package config

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// functions gives the file's expressions env("NAME") and file("PATH"). There are
// no variables: a bare word is a missing pair of quotes.
func (d *decoder) functions() {
	d.ctx = &hcl.EvalContext{Functions: map[string]function.Function{
		"env":  envFunction(),
		"file": d.fileFunction(),
	}}
}

// envFunction is env("NAME"). An unset variable is an error and not an empty
// string: an empty address or name would be taken for the default.
func envFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "name", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			value, ok := os.LookupEnv(name)
			if !ok {
				return cty.NilVal, function.NewArgErrorf(0, "the environment has no variable %s", name)
			}
			return cty.StringVal(value), nil
		},
	})
}

// fileFunction is file("PATH"): the file's text without the line breaks at its
// end, so that a secret or a name kept in a file can be written with an editor.
func (d *decoder) fileFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := readFile(d.resolve(args[0].AsString()))
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(strings.TrimRight(string(text), "\r\n")), nil
		},
	})
}

// resolve makes a relative file name relative to the configuration's folder:
// what a file means must not depend on where the proxy was started.
func (d *decoder) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}
