package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHashesOfNamesNeedAKey(t *testing.T) {
	key := filepath.Join(t.TempDir(), "personal.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for settings, want := range map[string]string{
		`personal = "none"`:   "",
		`personal = "full"`:   "",
		`personal = "hashed"`: "personal_key_file is missing",
		`personal = "some"`:   "personal",
		`personal = "hashed"` + "\n personal_key_file = \"" + key + `"`:         "",
		`personal = "hashed"` + "\n personal_key_file = \"" + key + `.another"`: "personal.key.another",
		`personal_key_file = "` + key + `"`:                                     "no meaning",
	} {
		_, warnings, err := Parse(filepath.Join(t.TempDir(), "t.hcl"), []byte(smallest+"telemetry {\n "+settings+"\n}\n"))
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, w := range warnings {
			said += fmt.Sprint(w)
		}
		if want == "" && said != "" || !strings.Contains(said, want) {
			t.Errorf("%s: %q, want %q", settings, said, want)
		}
	}
}
