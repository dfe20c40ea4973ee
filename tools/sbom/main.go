// Sbom writes the software bill of materials of a Go program, in CycloneDX's format 1.6, from what the Go toolchain has put into the program:
//
//	sbom PROGRAM VERSION > PROGRAM.cdx.json
//
// The program is the component that is described. Each module in it is a component, with its version and the checksum that go.sum has, and so
// is Go's standard library. Two lists of one program are the same, byte for byte: the time in them is SOURCE_DATE_EPOCH, if that is set.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: sbom PROGRAM VERSION")
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return err
	}
	program, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	bom, err := list(info, args[1], sha256.Sum256(program))
	if err != nil {
		return err
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return err
		}
		bom.Metadata.Timestamp = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// list is the program's, whose content has this SHA-256.
func list(info *debug.BuildInfo, version string, sum [sha256.Size]byte) (*cdx.BOM, error) {
	main := cdx.Component{
		BOMRef: "program", Type: cdx.ComponentTypeApplication, Name: info.Main.Path, Version: version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}
	var settings []cdx.Property
	for _, s := range info.Settings {
		settings = append(settings, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	main.Properties = &settings
	std := module("std", strings.TrimPrefix(info.GoVersion, "go"))
	components, refs := []cdx.Component{std}, []string{std.BOMRef}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		c := module(dep.Path, dep.Version)
		if dep.Sum != "" {
			sum, err := checksum(dep.Sum)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", dep.Path, err)
			}
			c.Hashes = &[]cdx.Hash{sum}
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(sum)
	bom.Metadata = &cdx.Metadata{Component: &main}
	bom.Components = &components
	// Which module needs which isn't in the program.
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom, nil
}

func module(path, version string) cdx.Component {
	// A package URL, by which databases of vulnerabilities find it. What is no letter in a version, as +incompatible, is escaped.
	purl := "pkg:golang/" + path + "@" + url.QueryEscape(version)
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl, Scope: cdx.ScopeRequired}
}

// checksum is go.sum's, in hexadecimal digits: the SHA-256 of the list of the module's files with their SHA-256.
func checksum(sum string) (cdx.Hash, error) {
	text, found := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(text)
	if !found || err != nil || len(raw) != sha256.Size {
		return cdx.Hash{}, fmt.Errorf("the checksum %q isn't one of go.sum", sum)
	}
	return cdx.Hash{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}, nil
}

// serial is a UUID, version 8 (RFC 9562 §5.8), made of the program's content.
func serial(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
