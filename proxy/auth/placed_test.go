package auth

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAPasswdFileSaysWhereItPlacesAUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("ann:{PLAIN}x::::::backend=b1\nbob:{PLAIN}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPasswdFile(path, PasswdFileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]struct {
		placement string
		known     bool
	}{"ann": {"b1", true}, "bob": {"", true}, "carol": {"", false}} {
		if placement, known := Placer(p).Placed(user); placement != want.placement || known != want.known {
			t.Errorf("%s: %q, %v", user, placement, known)
		}
	}
}
