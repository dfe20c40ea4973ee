package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDomainsHavePlacements(t *testing.T) {
	read := func(blocks, storage string) (*Config, string) {
		cfg, warnings, err := Parse(filepath.Join(t.TempDir(), "t.hcl"), []byte(strings.Replace(rest, "shared", storage, 1)+blocks))
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, w := range warnings {
			said += "\n" + w.String()
		}
		return cfg, said
	}
	cfg, said := read("domain \"Example.ORG\" {\n placement = \"b1\"\n}\ndomain \"example.com\" {\n placement = \"127.0.0.1:11143\"\n}\n", "separate")
	if cfg == nil || len(cfg.Domains) != 2 || cfg.Domains[0] != (Domain{"example.org", "b1"}) || strings.Contains(said, "domain") {
		t.Fatalf("%+v\n%s", cfg, said)
	}
	for blocks, want := range map[string]string{
		"domain \"a\" {\n}\n":                                                              "domain.a.placement is missing",
		"domain \"a\" {\n placement = \"\"\n}\n":                                           "domain.a.placement is empty",
		"domain \"@a\" {\n placement = \"b1\"\n}\n":                                        "without @",
		"domain \"*\" {\n placement = \"b1\"\n}\n":                                         "isn't a domain",
		"domain \"a\" {\n placement = \"b9\"\n}\n":                                         "there is no backend \"b9\"",
		"domain \"a\" {\n placement = \"b1\"\n}\ndomain \"A\" {\n placement = \"b1\"\n}\n": "a second domain.a, after the one in line 14",
		"domain {\n placement = \"b1\"\n}\n":                                               "domain needs a name",
	} {
		if _, said := read(blocks, "shared"); !strings.Contains(said, want) {
			t.Errorf("%s%q is missing in\n%s", blocks, want, said)
		}
	}
	if _, said := read("", "separate"); !strings.Contains(said, "each user needs a placement") {
		t.Errorf("separate storage without any placement:\n%s", said)
	}
}
