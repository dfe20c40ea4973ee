package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCommand struct{}

// Run prints the version, the commit it was built from and the Go release.
func (versionCommand) Run(env environment) error {
	_, err := fmt.Fprintln(env.stdout, versionLine())
	return err
}

func versionLine() string {
	return fmt.Sprintf("imapproxy %s %s %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// release is the version of a package, which its build sets: -ldflags "-X main.release=1.0".
var release string

// version is the release, or else the module's version and commit, as the go command stamped them into
// the program.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				changed = "+changes"
			}
		}
	}
	if v == "devel" && commit != "" {
		v += "-" + commit[:min(len(commit), 12)] + changed
	}
	return v
}
