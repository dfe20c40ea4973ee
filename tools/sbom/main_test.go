package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xeipuuv/gojsonschema"
)

// The list of this test's own program follows CycloneDX' schema, which the library's module has, and is the same each time.
func TestTheListFollowsTheSchema(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	var out, again bytes.Buffer
	for _, b := range []*bytes.Buffer{&out, &again} {
		if err := run([]string{os.Args[0], "1.0"}, b); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != again.String() {
		t.Error("two lists of one program differ")
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	schemas := gojsonschema.NewSchemaLoader()
	file := func(name string) gojsonschema.JSONLoader {
		return gojsonschema.NewReferenceLoader("file://" + filepath.Join(strings.TrimSpace(string(dir)), "schema", name))
	}
	for name, path := range map[string]string{"http://cyclonedx.org/schema/spdx.schema.json": "spdx.schema.json", "http://cyclonedx.org/schema/jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		if err := schemas.AddSchema(name, file(path)); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := schemas.Compile(file("bom-1.6.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text string) []gojsonschema.ResultError {
		t.Helper()
		r, err := schema.Validate(gojsonschema.NewStringLoader(text))
		if err != nil {
			t.Fatal(err)
		}
		return r.Errors()
	}
	if wrong := valid(out.String()); len(wrong) > 0 {
		t.Error(wrong)
	}
	for from, to := range map[string]string{`"type": "library"`: `"type": "module"`, "urn:uuid:": "uuid:", `"alg": "SHA-256"`: `"alg": "h1"`} {
		if text := strings.ReplaceAll(out.String(), from, to); text == out.String() || len(valid(text)) == 0 {
			t.Errorf("%s isn't noticed", to)
		}
	}
	var bom struct {
		Metadata   struct{ Timestamp string }
		Components []struct{ PURL string }
	}
	if err := json.Unmarshal(out.Bytes(), &bom); err != nil || bom.Metadata.Timestamp != "2026-09-21T14:13:20Z" || len(bom.Components) < 2 {
		t.Errorf("%v: %+v", err, bom)
	}
}

func TestAChecksumThatIsNoneIsRefused(t *testing.T) {
	for _, sum := range []string{"", "h2:AAAA", "h1:AAAA", "h1:?"} {
		if h, err := checksum(sum); err == nil {
			t.Errorf("%q is %+v", sum, h)
		}
	}
}
