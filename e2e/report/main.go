// Command report reads `go test -json` and prints what a person wants of it: a
// line for each package as it ends, the whole output of what failed, and at the
// end the tests that took longest, those that failed, with what they said, and those that skipped themselves. It exits 1 when anything failed, and
// also when anything was skipped: ./test prepares a machine on which no test has
// a reason to.
//
// Imports none of our packages. Imported by none.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// testID names a test, or with Test "" a package's own output.
type testID struct{ pkg, test string }

// report holds the output of tests that are still running, and what they came to.
type report struct {
	w       io.Writer
	output  map[testID][]string
	build   map[string][]string // build output by import path
	passed  map[string]int      // tests, by package
	failed  []string
	skipped []string
	took    []taken
}

// taken is how long a test ran. What it waited for its turn beside others isn't in it.
type taken struct {
	test    string
	seconds float64
}

// slowest is how many of the tests that took longest are named.
const slowest = 20

func main() {
	r := &report{w: os.Stdout, output: map[testID][]string{}, build: map[string][]string{}, passed: map[string]int{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if !r.summary() {
		os.Exit(1)
	}
}

// read takes events until the input ends.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// A line of the go command itself.
			fmt.Fprintln(r.w, lines.Text())
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	id := testID{e.Package, e.Test}
	name := strings.TrimPrefix(e.Package, "imapproxy/")
	switch e.Action {
	case "output":
		// Its own marks of who runs when say nothing once the output is sorted by test.
		if !strings.HasPrefix(e.Output, "=== ") {
			r.output[id] = append(r.output[id], e.Output)
		}
	case "build-output":
		r.build[e.ImportPath] = append(r.build[e.ImportPath], e.Output)
	case "build-fail":
		r.failed = append(r.failed, e.ImportPath+" (build)")
		fmt.Fprintf(r.w, "FAIL  %s doesn't build\n%s", e.ImportPath, strings.Join(r.build[e.ImportPath], ""))
	case "pass", "fail", "skip":
		r.ended(e, id, name)
		delete(r.output, id)
	}
}

// ended handles the last event of a test or a package.
func (r *report) ended(e event, id testID, name string) {
	if e.Test != "" && !strings.Contains(e.Test, "/") {
		r.took = append(r.took, taken{name + " " + e.Test, e.Elapsed})
	}
	switch {
	case e.Test != "" && e.Action == "pass":
		r.passed[e.Package]++
	case e.Test != "" && e.Action == "fail":
		r.failed = append(r.failed, name+" "+e.Test+said(r.output[id]))
		fmt.Fprintf(r.w, "--- FAIL  %s %s (%.1f s)\n%s", name, e.Test, e.Elapsed, strings.Join(r.output[id], ""))
	case e.Test != "":
		why := strings.TrimSpace(strings.Join(r.output[id], ""))
		r.skipped = append(r.skipped, name+" "+e.Test+"\n      "+strings.ReplaceAll(why, "\n", "\n      "))
	case e.Action == "pass":
		fmt.Fprintf(r.w, "ok    %-28s %4d tests %6.1f s\n", name, r.passed[e.Package], e.Elapsed)
	case e.Action == "skip":
		fmt.Fprintf(r.w, "--    %-28s no tests\n", name)
	default:
		r.failed = append(r.failed, name)
		fmt.Fprintf(r.w, "FAIL  %-28s %6.1f s\n%s", name, e.Elapsed, strings.Join(r.output[id], ""))
		// A panic or a time-out ends the process: the tests that ran then have no last event.
		for other, out := range r.output {
			if other.pkg == e.Package && other.test != "" {
				fmt.Fprintf(r.w, "--- CUT SHORT  %s %s\n%s", name, other.test, strings.Join(out, ""))
				delete(r.output, other)
			}
		}
	}
}

// said is the first line of each message of a test's own, the last ones where there are many: the logs of the servers
// that stand among them may be long.
func said(output []string) string {
	const most, longest = 20, 300 // messages, octets
	var all []string
	for _, line := range output {
		file, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && strings.HasSuffix(file, "_test.go") {
			line = strings.TrimSpace(line)
			all = append(all, "\n      "+line[:min(len(line), longest)])
		}
	}
	return strings.Join(all[max(0, len(all)-most):], "")
}

// summary prints what took longest, what failed and what was skipped, and says whether all is well.
func (r *report) summary() bool {
	slices.SortStableFunc(r.took, func(a, b taken) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range r.took[:min(len(r.took), slowest)] {
		if t.seconds >= 1 {
			fmt.Fprintf(r.w, "SLOW  %6.1f s  %s\n", t.seconds, t.test)
		}
	}
	for _, s := range r.skipped {
		fmt.Fprintf(r.w, "SKIPPED  %s\n", s)
	}
	for _, f := range r.failed {
		fmt.Fprintf(r.w, "FAILED  %s\n", f)
	}
	return len(r.failed) == 0 && len(r.skipped) == 0
}
