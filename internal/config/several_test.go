package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rest is what a file needs beside its auth blocks.
const rest = "listener \"plain\" {\n address = \"127.0.0.1:1143\"\n tls = \"none\"\n cleartext_from = [\"127.0.0.1\"]\n}\n" +
	"discovery \"static\" {\n backend \"b1\" {\n address = \"127.0.0.1:11143\"\n }\n}\nrouting {\n storage = \"shared\"\n}\n"

// Several auth blocks, also of one kind, are kept in their order, each with its name.
func TestSeveralSourcesOfOneKindHaveNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.passwd", "b.passwd", "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "t.hcl")
	text := "auth \"passwd_file\" {\n path = \"a.passwd\"\n}\n" +
		"auth \"ldap\" \"staff\" {\n url = \"ldap://127.0.0.1\"\n base = \"dc=staff\"\n filter = \"(mail=%u)\"\n bind_dn = \"cn=x\"\n password_file = \"secret\"\n}\n" +
		"auth \"ldap\" \"students\" {\n url = \"ldap://127.0.0.1\"\n base = \"dc=students\"\n filter = \"(mail=%u)\"\n}\n" +
		"auth \"passwd_file\" \"old\" {\n path = \"b.passwd\"\n}\n" + rest
	cfg, _, err := Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range cfg.Auth {
		names = append(names, a.Path()+" "+a.Source()+" "+a.String())
	}
	want := `auth.passwd_file passwd_file auth "passwd_file"
auth.ldap.staff ldap.staff auth "ldap" "staff"
auth.ldap.students ldap.students auth "ldap" "students"
auth.passwd_file.old passwd_file.old auth "passwd_file" "old"`
	if got := strings.Join(names, "\n"); got != want {
		t.Errorf("the sources are\n%s", got)
	}
	if cfg.Auth[2].LDAP.Base != "dc=students" || cfg.Auth[3].PasswdFile.Path != filepath.Join(dir, "b.passwd") {
		t.Errorf("a block has the settings of another: %+v, %+v", cfg.Auth[2].LDAP, cfg.Auth[3].PasswdFile)
	}
	again, _, err := Parse(file, []byte(Text(cfg)))
	if err != nil || Text(again) != Text(cfg) || again.Auth[1].Path() != "auth.ldap.staff" {
		t.Errorf("%v: the text means something else:\n%s", err, Text(cfg))
	}
	var files []string
	for _, f := range Files(cfg) {
		files = append(files, f.Setting)
	}
	if got := strings.Join(files, " "); got != "auth.ldap.staff.password_file" {
		t.Errorf("the files are those of %s", got)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for setting, line := range map[string]int{"auth.ldap.students.base": 13, "auth.ldap.students": 11, "auth.passwd_file.old.path": 17, "auth.passwd_file.path": 2} {
		if n := LineOf(file, setting); n != line {
			t.Errorf("%s stands in line %d, not in %d", setting, line, n)
		}
	}
}

func TestMistakesInSeveralSourcesAreSaidOfTheRightOne(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.passwd"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users := " {\n path = \"a.passwd\"\n}\n"
	directory := func(name, more string) string {
		return "auth \"ldap\"" + name + " {\n url = \"ldap://127.0.0.1\"\n" + more + "}\n"
	}
	good := " base = \"dc=x\"\n filter = \"(mail=%u)\"\n"
	dovecot := "auth \"dovecot\" \"one\" {\n address = \"/run/a\"\n}\n"
	for name, c := range map[string]struct{ auth, want string }{
		"no name":               {"auth \"passwd_file\"" + users + "auth \"passwd_file\"" + users, `:4: a second auth "passwd_file", after the one in line 1; give it a name`},
		"the same name":         {"auth \"passwd_file\" \"a\"" + users + "auth \"passwd_file\" \"a\"" + users, `:4: a second auth "passwd_file" "a", after the one in line 1; give it a name of its own`},
		"two names":             {"auth \"passwd_file\" \"a\" \"b\"" + users, "has more than one name"},
		"an empty name":         {"auth \"passwd_file\" \"\"" + users, "a name has letters"},
		"a long name":           {"auth \"passwd_file\" \"" + strings.Repeat("x", 33) + "\"" + users, "at most 32"},
		"another character":     {"auth \"passwd_file\" \"a.b\"" + users, "a name has letters"},
		"the name of a setting": {"auth \"passwd_file\" \"path\"" + users, "path is the name of a setting in it"},
		"backend with a name":   {"auth \"backend\" \"a\" {}\n", `auth "backend" takes no name`},
		"discovery with one":    {"auth \"backend\" {}\ndiscovery \"consul\" \"a\" {\n service = \"imap\"\n}\n", `discovery "consul" takes no name`},
		"missing":               {directory(` "a"`, good) + "auth \"passwd_file\" \"b\" {\n}\n", ":6: auth.passwd_file.b.path is missing"},
		"the second's":          {directory(` "a"`, good) + directory(` "b"`, ""), ":6: auth.ldap.b: nothing says which entry"},
		"of two":                {directory(` "a"`, good) + directory(` "b"`, good+" start_tls = true\n group_base = \"x\"\n"), ":6: auth.ldap.b: group_base"},
		"Dovecot, then a file":  {dovecot + "auth \"passwd_file\" \"b\"" + users, `:4: auth "dovecot" "one" decides about every user, since Dovecot doesn't tell an unknown user from a wrong password: auth "passwd_file" "b" after it`},
	} {
		_, warnings, err := Parse(filepath.Join(dir, "t.hcl"), []byte(c.auth+rest))
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, w := range warnings {
			said += "\n" + w.String()
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: %q is missing in\n%s", name, c.want, said)
		}
	}
}
