package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A release is often a folder of its own, to which a link leads. An upgrade has to start what the link leads to then.
func TestAnUpgradeFollowsTheLinksByWhichTheProgramWasStarted(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link, other := filepath.Join(dir, "imapproxy"), filepath.Join(dir, "other")
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", dir)
	for named, want := range map[string]string{
		link: link, "./imapproxy": link, "imapproxy": link, own: own,
		other: own, "imapproxy: serve": own, "": own, filepath.Join(dir, "gone"): own, // the first argument may be anything
	} {
		if path, err := programFile(named); path != want || err != nil {
			t.Errorf("%q: %q %v, want %q", named, path, err, want)
		}
	}
}
