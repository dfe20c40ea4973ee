package main

import (
	"strings"
	"testing"
)

func TestReportSaysWhatFailedAndWhatWasSkipped(t *testing.T) {
	const ok = `{"Action":"pass","Package":"imapproxy/a","Test":"TestX"}` + "\n" + `{"Action":"pass","Package":"imapproxy/a","Elapsed":1.5}` + "\n"
	for _, c := range []struct {
		name, in string
		well     bool
		want     []string
	}{
		{"all well", ok, true, []string{"ok    a", "1 tests"}},
		{"a failure shows its output", ok + `{"Action":"output","Package":"imapproxy/b","Test":"TestY","Output":"got 3\n"}` + "\n" +
			`{"Action":"fail","Package":"imapproxy/b","Test":"TestY"}` + "\n" + `{"Action":"fail","Package":"imapproxy/b"}`,
			false, []string{"got 3", "FAILED  b TestY"}},
		{"what failed says why once more at the end", `{"Action":"output","Package":"imapproxy/b","Test":"TestY","Output":"    y_test.go:7: got 3\n"}` + "\n" +
			`{"Action":"output","Package":"imapproxy/b","Test":"TestY","Output":"        a server's log\n"}` + "\n" +
			`{"Action":"fail","Package":"imapproxy/b","Test":"TestY"}`, false, []string{"FAILED  b TestY\n      y_test.go:7: got 3\n"}},
		{"a skip isn't well", `{"Action":"output","Package":"imapproxy/b","Test":"TestY","Output":"no server\n"}` + "\n" +
			`{"Action":"skip","Package":"imapproxy/b","Test":"TestY"}`, false, []string{"SKIPPED  b TestY", "no server"}},
		{"a panic shows the test that ran", `{"Action":"output","Package":"imapproxy/b","Test":"TestY","Output":"panic: no\n"}` + "\n" +
			`{"Action":"fail","Package":"imapproxy/b"}`, false, []string{"CUT SHORT  b TestY", "panic: no"}},
		{"a build failure shows the compiler's words", `{"ImportPath":"imapproxy/c","Action":"build-output","Output":"c.go:1: no\n"}` + "\n" +
			`{"ImportPath":"imapproxy/c","Action":"build-fail"}`, false, []string{"c.go:1: no"}},
		{"the slowest tests are named, without their parts", `{"Action":"pass","Package":"imapproxy/a","Test":"TestX","Elapsed":2}` + "\n" +
			`{"Action":"pass","Package":"imapproxy/a","Test":"TestZ/part","Elapsed":30}` + "\n" + `{"Action":"pass","Package":"imapproxy/a","Test":"TestZ","Elapsed":31.25}`,
			true, []string{"SLOW    31.2 s  a TestZ\nSLOW     2.0 s  a TestX\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := &report{w: &out, output: map[testID][]string{}, build: map[string][]string{}, passed: map[string]int{}}
			if err := r.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if got := r.summary(); got != c.well {
				t.Errorf("well = %v, want %v", got, c.well)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in:\n%s", w, out.String())
				}
			}
		})
	}
}
