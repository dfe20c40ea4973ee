package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
)

// hash is one of CycloneDX.
type hash struct{ Alg, Content string }

// listsModules checks that a program's software bill of materials has the modules that `go version -m` has, and no others.
func listsModules(t *testing.T, text []byte, program, version string) {
	t.Helper()
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct {
				Type, Name, Version string
				Hashes              []hash
				Properties          []struct{ Name, Value string }
			}
		}
		Components []struct {
			Ref                       string `json:"bom-ref"`
			Type, Name, Version, PURL string
			Hashes                    []hash
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	main := bom.Metadata.Component
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || main.Type != "application" || main.Name != "imapproxy" || main.Version != version {
		t.Errorf("it is of %s %s: %+v", bom.BOMFormat, bom.SpecVersion, main)
	}
	if want := []hash{{"SHA-256", fmt.Sprintf("%x", sha256.Sum256(content))}}; !slices.Equal(main.Hashes, want) {
		t.Errorf("the program's checksum is %v, not %v", main.Hashes, want)
	}

	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	wanted, settings := map[string]string{}, map[string]string{}
	_, release, _ := strings.Cut(strings.SplitN(string(out), "\n", 2)[0], ": go")
	wanted["std "+release] = ""
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "dep":
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[3], "h1:"))
			if err != nil {
				t.Fatal(err)
			}
			wanted[f[1]+" "+f[2]] = hex.EncodeToString(sum)
		case len(f) > 1 && f[0] == "build":
			name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "build")), "=")
			settings["go:build:"+name] = strings.Trim(value, `"`)
		}
	}
	listed, refs := map[string]string{}, []string{}
	for _, c := range bom.Components {
		sum := ""
		if len(c.Hashes) == 1 && c.Hashes[0].Alg == "SHA-256" {
			sum = c.Hashes[0].Content
		}
		listed[c.Name+" "+c.Version] = sum
		refs = append(refs, c.Ref)
		if want := "pkg:golang/" + c.Name + "@" + strings.ReplaceAll(c.Version, "+", "%2B"); c.PURL != want || c.Type != "library" {
			t.Errorf("%s %s is %s, not %s", c.Name, c.Type, c.PURL, want)
		}
	}
	if !maps.Equal(listed, wanted) || len(bom.Components) != len(wanted) || len(wanted) < 20 {
		t.Errorf("there are %v, and go version -m has %v", listed, wanted)
	}
	if len(bom.Dependencies) != 1 || !slices.Equal(bom.Dependencies[0].DependsOn, refs) {
		t.Error("the program doesn't depend on all modules")
	}
	listedSettings := map[string]string{}
	for _, p := range main.Properties {
		listedSettings[p.Name] = strings.Trim(p.Value, `"`)
	}
	if !maps.Equal(listedSettings, settings) {
		t.Errorf("it was built with %v, and go version -m has %v", listedSettings, settings)
	}
}

// The software bill of materials of the tests' program is right, and is the same each time.
func TestTheListOfModulesIsTheProgramsOwn(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	sbom := tool(t, "sbom")
	list := func(program string) (string, error) {
		c := exec.CommandContext(t.Context(), sbom, program, "1.0")
		c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
		out, err := c.Output()
		return string(out), err
	}
	program := os.Getenv(proxyBinary)
	text, err := list(program)
	if err != nil {
		t.Fatal(err)
	}
	listsModules(t, []byte(text), program, "1.0")
	if again, err := list(program); err != nil || again != text {
		t.Errorf("two lists of one program differ (%v)", err)
	}
	other := filepath.Join(servers.Folder(t), "not-go")
	writeFile(t, other, "#!/bin/sh\n")
	if text, err := list(other); err == nil {
		t.Errorf("a program that isn't of Go has the list %s", text)
	}
}
