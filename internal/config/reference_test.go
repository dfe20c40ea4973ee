package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const reference = "../../config.hcl"

func TestTheReferenceLoadsAsShipped(t *testing.T) {
	cfg, warnings, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	if len(cfg.Listeners) != 1 || cfg.Listeners[0].Address != "127.0.0.1:1143" || cfg.Discovery.Static == nil {
		t.Errorf("not what stands there: %+v", cfg)
	}
}

// Settings in the reference have their default values, so that removing a line changes nothing, except for
// required settings.
func TestTheReferenceShowsDefaults(t *testing.T) {
	cfg, _, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	var changed []string
	for _, c := range Diff(Default(), cfg) {
		changed = append(changed, c.Path)
	}
	want := []string{"discovery.static", "hostname", "listener.local", "routing.storage"}
	if !reflect.DeepEqual(changed, want) {
		t.Errorf("differs from the defaults in %v, want %v", changed, want)
	}
}

// commentedOut matches a setting that is commented out: # and no blank.
var commentedOut = regexp.MustCompile(`^(\s*)#([a-z0-9_]+ .*|})$`)

// documented is what stands in the reference about each path of the schema: the
// text after "Default:", or "Required". Blocks' labels count where they are
// variants.
func documented(t *testing.T) map[string]string {
	t.Helper()
	src, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(src), "\n")
	live := make([]string, len(lines))
	for i, line := range lines {
		live[i] = commentedOut.ReplaceAllString(line, "$1$2")
	}
	// Alternatives are attributes that stand twice: HCL refuses those, so each live
	// text is read, whatever is said about it.
	file, diags := hclsyntax.ParseConfig([]byte(strings.Join(live, "\n")), "config.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("with all settings uncommented: %v", diags)
	}
	docs := map[string]string{}
	var walk func(path string, body *hclsyntax.Body, fields []schemaField)
	walk = func(path string, body *hclsyntax.Body, fields []schemaField) {
		for _, attr := range body.Attributes {
			f, ok := find(fields, attr.Name, true)
			if !ok {
				t.Errorf("config.hcl:%d: the code has no setting %s", attr.SrcRange.Start.Line, join(path, attr.Name))
				continue
			}
			here := join(path, f.name)
			if said := saidAbove(live, attr.SrcRange.Start.Line); said != "" || docs[here] == "" {
				docs[here] = said
			}
		}
		for _, block := range body.Blocks {
			f, ok := find(fields, block.Type, false)
			if !ok {
				t.Errorf("config.hcl:%d: the code has no block %s", block.TypeRange.Start.Line, join(path, block.Type))
				continue
			}
			here := join(path, f.name)
			docs[here] = "block"
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if f.kind == kindVariants {
				v, ok := find(schema(inner), block.Labels[0], false)
				if !ok {
					t.Errorf("config.hcl:%d: the code has no %s %q", block.TypeRange.Start.Line, block.Type, block.Labels[0])
					continue
				}
				here = join(here, v.name)
				docs[here] = "block"
				inner = v.Type.Elem()
			}
			walk(here, block.Body, schema(inner))
		}
	}
	walk("", file.Body.(*hclsyntax.Body), schema(reflect.TypeFor[Config]()))
	return docs
}

var defaultStatement = regexp.MustCompile(`Default: ("[^"]*"|\[\]|\{\}|[^\s,.]+)`)

// saidAbove reads the comment that ends on the line before, for its statement of
// what holds when the setting isn't written.
func saidAbove(lines []string, line int) string {
	said := ""
	for i := line - 2; i >= 0 && strings.HasPrefix(strings.TrimSpace(lines[i]), "#"); i-- {
		said = strings.TrimPrefix(strings.TrimSpace(lines[i]), "#") + " " + said
	}
	if m := defaultStatement.FindStringSubmatch(said); m != nil {
		return m[1]
	}
	if strings.Contains(said, "Required") {
		return "Required"
	}
	return ""
}

func TestEverySettingStandsInTheReferenceWithItsDefault(t *testing.T) {
	docs := documented(t)
	seen := map[string]bool{}
	walkSchema(reflect.TypeFor[Config](), "", func(path string, f schemaField) {
		if f.kind == kindLabel {
			return
		}
		seen[path] = true
		said, ok := docs[path]
		if !ok {
			t.Errorf("config.hcl doesn't show %s", path)
			return
		}
		if f.kind != kindAttr {
			return
		}
		if _, required := f.Tag.Lookup("required"); required {
			if said != "Required" {
				t.Errorf("config.hcl doesn't say that %s is required, it says %q", path, said)
			}
			return
		}
		want, ok := f.Tag.Lookup("default")
		if !ok {
			t.Errorf("the code gives %s neither a default nor says that it is required", path)
		}
		switch f.Type.Kind() {
		case reflect.String, reflect.Float64, reflect.Int64:
			want = `"` + want + `"`
		}
		if said != want {
			t.Errorf("config.hcl says the default of %s is %s, in the code it is %s", path, said, want)
		}
	})
	for path := range docs {
		if !seen[path] {
			t.Errorf("config.hcl shows %s, the code has no such setting", path)
		}
	}
}

// What needs a restart stands in docs/configuration.md, in full and nothing else.
func TestTheReferenceOfReloadsListsWhatNeedsARestart(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- restart:")
	if !ok {
		t.Fatal("docs/configuration.md has no list of what needs a restart")
	}
	var said []string
	for _, line := range strings.Split(rest, "\n")[1:] {
		path, ok := strings.CutPrefix(line, "    ")
		if !ok {
			break
		}
		said = append(said, path)
	}
	var want []string
	walkSchema(reflect.TypeFor[Config](), "", func(path string, f schemaField) {
		if f.Tag.Get("reload") == "restart" {
			want = append(want, path)
		}
	})
	slices.Sort(want)
	if !slices.Equal(said, want) {
		t.Errorf("docs/configuration.md says\n%s\nthe code\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

// Everything that is commented out is right, once what it needs is there.
func TestTheReferenceLoadsWithItsAlternatives(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificateFiles(t, dir)
	src, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(src), "\n") {
		lines = append(lines, commentedOut.ReplaceAllString(line, "$1$2"))
	}
	text := strings.Join(lines, "\n")
	// One discovery only, and the master needs its mode.
	before, rest, _ := strings.Cut(text, `discovery "static" {`)
	_, after, _ := strings.Cut(rest, "\n# The instances of a service in Consul")
	text = before + "\n# The instances of a service in Consul" + after
	text = strings.Replace(text, `mode = "user"`, `mode = "master"`, 1)
	text = strings.Replace(text, `personal = "full"`, `personal = "hashed"`, 1)
	text = strings.Replace(text, `storage = "shared"`, `storage = "separate"`, 1) // shared mailboxes need it
	text = strings.Replace(text, `  user_dn = ""`, "", 1)                         // base and filter stand beside it
	for _, name := range []string{"/etc/imapproxy/fullchain.pem", "/etc/imapproxy/backends-ca.pem", "/etc/imapproxy/auth-ca.pem", "/etc/imapproxy/otlp-ca.pem", "/etc/imapproxy/users-ca.pem", "/etc/imapproxy/users-crl.pem", "consul-ca.pem", "consul-client.pem"} {
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+cert+`"`)
	}
	for _, name := range []string{"/etc/imapproxy/privkey.pem", "consul-client.key"} {
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+key+`"`)
	}
	for _, folder := range []string{"/var/lib/imapproxy-lb/", "/var/log/imapproxy/"} {
		text = strings.ReplaceAll(text, `"`+folder, `"`+dir+"/")
	}
	for _, name := range []string{"users.passwd", "ldap.password", "sql.password", "oauth.secret", "auth-policy.header", "auth-policy.nonce", "scram.secret", "shared.password", "master.password", "admin.token", "admin-read.token", "consul.token", "cluster.token", "personal.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "events.token"), []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := Parse(filepath.Join(dir, "config.hcl"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listeners) != 4 || cfg.Discovery.Consul == nil || cfg.Register == nil || cfg.Auth[0].PasswdFile.Path != filepath.Join(dir, "users.passwd") {
		t.Errorf("not what stands there: %+v", cfg)
	}
}
