package config

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// decoder fills a Config from a parsed file by the struct tags of config.go. It continues after an error, so
// that one run reports all errors.
type decoder struct {
	file string // as the errors name it
	src  []byte // its text
	dir  string // what relative file names are relative to
	ctx  *hcl.EvalContext

	errs     Errors
	warnings []Warning
	// ranges says where each path (listener.imaps.tls) was written; a path that
	// isn't here has its default.
	ranges map[string]hcl.Range
	// failed are the paths whose value is already reported, so that validation
	// doesn't report them again as empty.
	failed map[string]bool
}

// fail notes an error at a range.
func (d *decoder) fail(at hcl.Range, what, instead string, args ...any) {
	d.errs = append(d.errs, Error{File: d.file, Line: at.Start.Line, What: what, Instead: fmt.Sprintf(instead, args...)})
}

// at is where a path was written, or the nearest block around it, or the start.
func (d *decoder) at(path string) hcl.Range {
	for path != "" {
		if r, ok := d.ranges[path]; ok {
			return r
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
	return hcl.Range{Filename: d.file, Start: hcl.InitialPos}
}

func (d *decoder) written(path string) bool {
	_, ok := d.ranges[path]
	return ok
}

// writtenBelow says whether anything was written below a path, even wrongly.
func (d *decoder) writtenBelow(path string) bool {
	for p := range d.ranges {
		if strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

func (d *decoder) warn(at hcl.Range, what, instead string) {
	d.warnings = append(d.warnings, Warning{File: d.file, Line: at.Start.Line, What: what, Instead: instead})
}
