package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestClusterNeedsWhatTheProxiesAskEachOtherWith(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cluster.token"), "0123456789abcdef\n")
	cert, key := certificateFiles(t, dir)
	const token = "  token_file = \"cluster.token\"\n"
	const peers = "  peers = [\"127.0.0.1:8143\"]\n"
	consul := strings.NewReplacer("discovery \"static\" {\n  backend \"b1\" {\n    address = \"127.0.0.1:11143\"\n  }\n}", "discovery \"consul\" {\n  service = \"imap\"\n}\nregister {\n}").Replace(smallest)
	for _, c := range []struct{ name, text, want, warned string }{
		{"peers and a token", smallest + "cluster {\n" + token + peers + "}\n", "", ""},
		{"in Consul", consul + "cluster {\n" + token + "}\n", "", "backend_defaults.tls"},
		{"the admin API's token", smallest + "admin {\n" + token + "}\ncluster {\n" + peers + "}\n", "", ""},
		{"no token", smallest + "cluster {\n" + peers + "}\n", "cluster.token_file is missing", ""},
		{"no peers", smallest + "cluster {\n" + token + "}\n", "no setting says where the other proxies are", ""},
		{"no admin API", smallest + "admin {\n  address = \"\"\n}\ncluster {\n" + token + peers + "}\n", "that is off", ""},
		{"a peer without a port", smallest + "cluster {\n" + token + "  peers = [\"10.0.0.1\"]\n}\n", "isn't an address with a port", ""},
		{"TLS without a certificate", smallest + "cluster {\n" + token + peers + "  tls = true\n}\n", "has no certificate", ""},
		{"TLS", smallest + "admin {\n  cert_file = \"" + cert + "\"\n  key_file = \"" + key + "\"\n}\ncluster {\n" + token + peers + "  tls = true\n}\n", "", ""},
		{"a certificate without its key", smallest + "admin {\n  cert_file = \"" + cert + "\"\n}\n", "only work together", ""},
		{"another service", strings.Replace(consul, "register {", "register {\n  service = \"other\"", 1) + "cluster {\n" + token + "}\n", "", "so the proxies don't find each other"},
		{"no rate", smallest + "cluster {\n" + token + peers + "  move_rate = 0\n}\n", "cluster.move_rate", ""},
		{"nobody moves back", smallest + "cluster {\n" + token + peers + "  rebalance_rate = 0\n}\n", "", ""},
		{"mistyped", smallest + "cluster {\n" + token + peers + "  isolated = \"holds\"\n}\n", "cluster.isolated: \"holds\"", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, warnings, err := Parse(filepath.Join(dir, "t.hcl"), []byte(c.text))
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("%v, want %q", err, c.want)
			}
			var said []string
			for _, w := range warnings {
				said = append(said, w.What)
			}
			all := strings.Join(said, "\n")
			if c.want == "" && c.warned == "" && all != "" || !strings.Contains(all, c.warned) {
				t.Errorf("warned of %q, want %q", all, c.warned)
			}
		})
	}
}

func TestTheDigestIsThatOfWhatTheProxiesHaveInCommon(t *testing.T) {
	of := func(text string) string {
		t.Helper()
		c, _, err := Parse("t.hcl", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return Digest(c)
	}
	first := of(smallest)
	if len(first) != 12 || of(smallest) != first {
		t.Errorf("not stable: %q", first)
	}
	for name, text := range map[string]string{
		"a setting's default": smallest + "users {\n  lowercase = true\n}\n",
		"the machine's name":  smallest + "hostname = \"other\"\n",
		"its address":         strings.Replace(smallest, "127.0.0.1:1143", "127.0.0.2:1143", 1),
	} {
		if of(text) != first {
			t.Errorf("%s makes another digest", name)
		}
	}
	for name, text := range map[string]string{
		"a setting":          smallest + "users {\n  lowercase = false\n}\n",
		"a network":          strings.Replace(smallest, `"127.0.0.1"]`, `"127.0.0.2"]`, 1),
		"a backend's weight": strings.Replace(smallest, "    address", "    weight = 3\n    address", 1),
		"a block":            smallest + "register {\n}\n",
	} {
		if of(text) == first {
			t.Errorf("%s doesn't show", name)
		}
	}
}

// A token for reading makes sense only beside another one for all else.
func TestTheReadersTokenNeedsTheOperators(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"admin.token", "read.token"} {
		write(t, filepath.Join(dir, name), "0123456789abcdef\n")
	}
	for text, want := range map[string]string{
		"read_token_file = \"read.token\"":                                 "without token_file",
		"read_token_file = \"admin.token\"\n token_file = \"admin.token\"": "its token may do everything",
		"read_token_file = \"read.token\"\n token_file = \"admin.token\"":  "",
		"read_token_file = \"none.token\"\n token_file = \"admin.token\"":  "none.token",
	} {
		_, _, err := Parse(filepath.Join(dir, "t.hcl"), []byte(smallest+"admin {\n "+text+"\n}\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
