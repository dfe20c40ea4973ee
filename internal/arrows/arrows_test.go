package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "imapproxy"
	root   = "../.."
)

// arrows says which of our packages each package may import; every other import is forbidden. A package is
// listed even if it imports nothing, so that a new one is noticed.
var arrows = map[string][]string{
	"cmd/imapproxy": {
		"proxy", "proxy/auth", "proxy/imapclient", "proxy/upstream", "proxy/park", "proxy/park/resync", "proxy/wire", "routing", "routing/agree", "routing/cluster", "routing/discovery",
		"telemetry", "internal/config", "internal/admin", "internal/dev", "internal/app", "internal/task", "internal/wiring", "internal/handover", "docs", "proxy/session",
	},
	"proxy": {
		"proxy/auth", "proxy/auth/authpolicy", "proxy/auth/clientcert", "proxy/conn", "proxy/guessing", "proxy/session", "proxy/track", "proxy/upstream", "routing", "telemetry", "internal/fair",
		"proxy/park", "proxy/park/view", "proxy/shared", "proxy/wire", "routing/discovery", // its tests alone
	},
	"proxy/session": {
		"proxy/wire", "proxy/conn", "proxy/auth", "proxy/auth/authpolicy", "proxy/guessing", "proxy/upstream", "proxy/imapclient", "proxy/park", "proxy/park/resync", "proxy/park/view", "proxy/track", "proxy/shared",
		"routing", "telemetry", "internal/clock", "internal/fair",
	},
	"proxy/park": {
		"proxy/park/resync", "proxy/park/view", "proxy/wire", "proxy/conn", "proxy/imapclient", "proxy/upstream", "telemetry", "internal/fair",
	},
	"proxy/park/events": {"proxy/park", "proxy/park/view", "telemetry"},
	"proxy/park/resync": {"proxy/park/view", "proxy/wire", "proxy/conn", "proxy/imapclient"},
	"proxy/park/view":   {"proxy/wire"},
	"proxy/track":       {"proxy/wire", "proxy/park/view"},
	"proxy/upstream":    {"proxy/wire", "proxy/conn", "proxy/imapclient", "telemetry", "internal/clock"},
	"proxy/imapclient":  {"proxy/wire", "proxy/conn"},
	"proxy/auth":        {"telemetry", "internal/fair"},
	"proxy/wire":        {},
	"proxy/shared":      {"proxy/wire"},
	"proxy/guessing":    {"internal/fair"},
	"proxy/conn":        {"proxy/deflate"},
	"proxy/deflate":     {},
	"routing":           {"telemetry"},
	"routing/agree":     {"routing"},
	"routing/cluster":   {"routing", "routing/agree", "routing/discovery", "telemetry"},
	"routing/discovery": {"routing", "telemetry"},
	"routing/pair":      {},
	"telemetry":         {"proxy/wire"},
	"internal/admin":    {"docs", "proxy", "routing", "telemetry", "internal/fair", "internal/peers"},
	"internal/peers":    {"proxy/park", "telemetry"},
	"internal/app": {
		"proxy", "proxy/auth", "proxy/auth/authpolicy", "proxy/upstream", "proxy/park", "proxy/park/events", "proxy/park/view", "routing", "routing/agree", "routing/cluster", "routing/discovery", "telemetry",
		"internal/config", "internal/wiring", "internal/admin", "internal/task", "internal/peers", "internal/handover", "internal/postfix", "routing/pair", "internal/problems",
	},
	"internal/wiring": {
		"proxy", "proxy/auth", "proxy/auth/authpolicy", "proxy/auth/dovecotauth", "proxy/auth/ldapauth", "proxy/auth/oauthauth", "proxy/auth/sqlauth", "proxy/guessing", "proxy/upstream", "proxy/park", "proxy/session", "proxy/shared", "routing", "routing/agree", "routing/cluster", "routing/discovery", "telemetry", "internal/config", "internal/peers",
	},
	"internal/task":                {},
	"internal/config":              {},
	"internal/dev":                 {},
	"internal/imaptest":            {},
	"internal/imaptest/consultest": {},
	"internal/movetest":            {"proxy/upstream", "routing"},
	"internal/arrows":              {},
	"internal/clock":               {},
	"internal/fair":                {},
	"internal/postfix":             {"proxy/conn", "internal/imaptest", "internal/task"},
	"docs":                         {},
	"internal/handover":            {},
	"internal/problems":            {},

	// Sources of credentials, each with its library, and the policy server.
	"proxy/auth/authpolicy":  {"proxy/auth", "telemetry"},
	"proxy/auth/dovecotauth": {"proxy/auth", "proxy/conn", "telemetry"},
	"proxy/auth/ldapauth":    {"proxy/auth", "proxy/conn", "telemetry"},
	"proxy/auth/clientcert":  {},
	"proxy/auth/oauthauth":   {"proxy/auth", "telemetry"},
	"proxy/auth/sqlauth":     {"proxy/auth", "telemetry"},

	// Generators and tests that are programs of their own. e2e looks at the proxy as a process,
	// over sockets; e2e/parking, e2e/idlers and e2e/model start it in their own process, from a
	// configuration; e2e/park and e2e/push test packages on real servers. e2e/chaos has several proxies, each in a network
	// namespace; e2e/restarts runs in one.
	"telemetry/metricsdoc": {"telemetry"},
	"routing/agree/epochs": {},
	"e2e":                  {"e2e/servers", "internal/app", "internal/apptest", "internal/imaptest", "internal/imaptest/consultest"},
	"e2e/push":             {"e2e/servers", "internal/imaptest", "proxy/park", "proxy/park/events", "telemetry"},
	"e2e/servers":          {"internal/imaptest"},
	"e2e/park":             {"e2e/servers", "internal/imaptest", "proxy/imapclient", "proxy/park", "proxy/park/resync", "proxy/park/view", "proxy/upstream", "proxy/wire", "telemetry"},
	"internal/apptest":     {"internal/app", "internal/imaptest", "internal/task"},
	"e2e/model":            {"e2e/servers", "internal/imaptest", "internal/app", "internal/apptest", "proxy", "proxy/park/view"},
	"e2e/chaos":            {"e2e/servers", "internal/imaptest"},
	"e2e/restarts":         {"e2e/servers", "internal/imaptest"},
	"e2e/parking":          {"e2e/servers", "internal/imaptest", "internal/imaptest/consultest", "internal/app", "internal/apptest", "proxy"},
	"e2e/idlers":           {"e2e/servers", "internal/imaptest", "internal/app", "internal/apptest", "internal/task", "proxy", "proxy/session"},
	"e2e/report":           {},
	"e2e/load":             {"e2e/servers"}, // its test
}

// libraries says which packages may import a library, so that it can be replaced without a look at others.
// All packages may import the libraries that aren't listed.
var libraries = map[string][]string{
	"github.com/hashicorp/go-memdb":       {"routing"},
	"github.com/hashicorp/consul/api":     {"routing/cluster", "routing/discovery"},
	"github.com/hashicorp/hcl/v2":         {"internal/config"},
	"github.com/zclconf/go-cty":           {"internal/config"},
	"github.com/alecthomas/kong":          {"cmd/imapproxy"},
	"github.com/go-jose/go-jose/v4":       {"e2e", "proxy/auth/oauthauth"},
	"github.com/go-ldap/ldap/v3":          {"proxy/auth/ldapauth"},
	"github.com/go-sql-driver/mysql":      {"proxy/auth/sqlauth"},
	"github.com/jackc/pgx/v5":             {"proxy/auth/sqlauth"},
	"github.com/klauspost/compress/flate": {"proxy/deflate"},
	"modernc.org/sqlite":                  {"e2e", "proxy/auth/sqlauth"},
}

// testsMay are the packages that _test.go files of every package may import, too.
var testsMay = []string{"internal/imaptest", "internal/imaptest/consultest", "internal/movetest"}

// source is one import in one file; room is the file's package.
type source struct {
	file, room, path string
	test             bool
}

// imports reads the imports of every Go file in the module. Folders with a go.mod
// of their own are other modules.
func imports(t *testing.T) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path == root {
				return nil
			}
			name := entry.Name()
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(rel))
		found = append(found, source{file: rel, room: room, test: strings.HasSuffix(rel, "_test.go")})
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found = append(found, source{file: rel, room: room, path: name, test: strings.HasSuffix(rel, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 50 {
		t.Fatalf("only %d imports: this test looks in the wrong place", len(found))
	}
	return found
}

func TestArrowsBetweenRooms(t *testing.T) {
	strangers := map[string]bool{}
	for _, i := range imports(t) {
		allowed, known := arrows[i.room]
		if !known && !strangers[i.room] {
			strangers[i.room] = true
			t.Errorf("%s is in no room: give %s its arrows in this test", i.file, i.room)
		}
		target, ours := strings.CutPrefix(i.path, module+"/")
		if !ours || !known || target == i.room {
			continue
		}
		if !slices.Contains(allowed, target) && !(i.test && slices.Contains(testsMay, target)) {
			t.Errorf("%s: %s may not import %s", i.file, i.room, target)
		}
	}
}

func TestArrowsToLibraries(t *testing.T) {
	for _, i := range imports(t) {
		for library, rooms := range libraries {
			if i.path != library && !strings.HasPrefix(i.path, library+"/") {
				continue
			}
			if !slices.Contains(rooms, i.room) {
				t.Errorf("%s imports %s, which belongs in %s only", i.file, i.path, strings.Join(rooms, ", "))
			}
		}
	}
}
