package telemetry

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The metrics and labels of the manual's alerts exist.
func TestTheMetricsOfTheManualExist(t *testing.T) {
	known := map[string][]string{}
	for _, i := range Instruments() {
		name, err := i.PromName()
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, a := range i.Attributes {
			keys = append(keys, a.Key)
		}
		known[name] = keys
		if i.Kind == Histogram {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[name+suffix] = append([]string{"le"}, keys...)
			}
		}
	}
	named, label := regexp.MustCompile(`(imapproxy_[a-z_]+)(?:\{([^}]*)\})?`), regexp.MustCompile(`([a-z_]+)=~?"`)
	for _, file := range []string{"operations.md", "parking.md", "routing.md", "authentication.md"} {
		text, err := os.ReadFile("../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			keys, ok := known[strings.TrimSuffix(m[1], "_")]
			if !ok {
				t.Errorf("docs/%s names %s, which there is not", file, m[1])
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(keys, l[1]) {
					t.Errorf("docs/%s: %s has no label %s", file, m[1], l[1])
				}
			}
		}
	}
}
