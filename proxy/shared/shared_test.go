package shared

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"imapproxy/proxy/wire"
)

var space = Space{Prefix: "shared/"}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		name, owner, box string
		in               bool
	}{
		{"shared", "", "", true},
		{"shared/", "", "", true},
		{"shared/alice", "alice", "", true},
		{"shared/alice/", "alice", "", true},
		{"shared/alice/team/a", "alice", "team/a", true},
		{"shared/alice/inbox", "alice", "INBOX", true},
		{"shared/alice@example.org/INBOX", "alice@example.org", "INBOX", true},
		{"sharedness", "", "", false},
		{"Shared/alice/team", "", "", false},
		{"INBOX", "", "", false},
		{"", "", "", false},
	} {
		owner, box, in := space.Split(c.name)
		if owner != c.owner || box != c.box || in != c.in {
			t.Errorf("%q: %q, %q, %t; want %q, %q, %t", c.name, owner, box, in, c.owner, c.box, c.in)
		}
		if in && box != "" && space.Join(owner, box) != c.name && box != "INBOX" {
			t.Errorf("%q is joined as %q", c.name, space.Join(owner, box))
		}
	}
}

func TestCanOwn(t *testing.T) {
	for user, want := range map[string]bool{
		"alice": true, "alice@example.org": true, "a.b-c_d+e": true,
		"": false, "a/b": false, "a b": false, "a&b": false, "ä": false, `a"b`: false, "a%": false, "a*": false, "a\nb": false, strings.Repeat("a", 256): false,
	} {
		if space.CanOwn(user) != want {
			t.Errorf("%q: want %t", user, want)
		}
	}
}

func TestConcerns(t *testing.T) {
	for line, want := range map[string]bool{
		"a LIST \"\" *\r\n":                                        true,
		"a LSUB \"\" *\r\n":                                        true,
		"a NAMESPACE\r\n":                                          true,
		"a SELECT INBOX\r\n":                                       false,
		"a SELECT shared/alice/team\r\n":                           true,
		"a SELECT \"shared/alice/team\"\r\n":                       true,
		"a select shared\r\n":                                      true,
		"a SELECT \"shared\"\r\n":                                  true,
		"a SELECT sharedness\r\n":                                  false,
		"a SELECT Shared/alice\r\n":                                false,
		"a EXAMINE {5}\r\n":                                        true, // the name isn't there yet
		"a EXAMINE {5+}\r\n":                                       true,
		"a STATUS shared/alice/x (MESSAGES)\r\n":                   true,
		"a STATUS INBOX (MESSAGES)\r\n":                            false,
		"a APPEND shared/alice/x {3}\r\n":                          true,
		"a APPEND INBOX {3}\r\n":                                   false,
		"a COPY 1 shared/alice/x\r\n":                              true,
		"a UID MOVE 1:* \"shared/alice/x\"\r\n":                    true,
		"a UID COPY 1 Trash\r\n":                                   false,
		"a COPY 1,2,3,4":                                           true, // the name hasn't come
		"a COPY 1\r\n":                                             false,
		"a RENAME INBOX shared/alice/x\r\n":                        true,
		"a RENAME shared/alice/x y\r\n":                            true,
		"a RENAME \"a b\" \"shared/alice/x\"\r\n":                  true,
		"a RENAME \"a b\" c\r\n":                                   false,
		"a GETMETADATA shared/alice/x /a\r\n":                      true,
		"a GETMETADATA (DEPTH 1) INBOX /a\r\n":                     true, // the name is looked for when the line is whole
		"a GETMETADATA \"\" /a\r\n":                                false,
		"a NOTIFY SET (mailboxes shared/alice/x (MessageNew))\r\n": true,
		"a NOTIFY SET (personal (MessageNew))\r\n":                 false,
		"a FETCH 1 BODY[HEADER.FIELDS (shared)]\r\n":               false,
		"a UID SEARCH TEXT shared/x\r\n":                           false,
		"a LOGIN shared/x y\r\n":                                   false,
		"a NOOP\r\n":                                               false,
		"":                                                         false,
	} {
		if got := space.Concerns([]byte(line)); got != want {
			t.Errorf("%q: %t", line, got)
		}
		if (Space{}).Concerns([]byte(line)) {
			t.Errorf("%q concerns no namespace", line)
		}
	}
}

func TestConcernsAllocatesNothing(t *testing.T) {
	line := []byte("a UID COPY 1:4,7 \"INBOX.Trash\"\r\n")
	if n := testing.AllocsPerRun(100, func() { space.Concerns(line) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		cmd  string
		want []string
		err  error
	}{
		{"a SELECT x\r\n", []string{"x"}, nil},
		{"a SELECT \"a \\\"b\\\\\" (CONDSTORE)\r\n", []string{`a "b\`}, nil},
		{"a SELECT {3}\r\nx y\r\n", []string{"x y"}, nil},
		{"a SELECT {3}\r\nx y (CONDSTORE)\r\n", []string{"x y"}, nil},
		{"a SELECT {3}\r\n", nil, ErrMore},
		{"a SELECT {3+}\r\nxy", nil, ErrMore},
		{"a SELECT {9999}\r\n", nil, wire.ErrLiteralTooLong},
		{"a SELECT\r\n", nil, wire.ErrSyntax},
		{"a SELECT \"x\r\n", nil, wire.ErrSyntax},
		{"a SELECT (x)\r\n", nil, wire.ErrSyntax},
		{"a RENAME a {1}\r\n", nil, ErrMore},
		{"a RENAME a {1}\r\nb\r\n", []string{"a", "b"}, nil},
		{"a RENAME a\r\n", nil, wire.ErrSyntax},
		{"a APPEND shared/a/b (\\Seen) {10}\r\n", []string{"shared/a/b"}, nil},
		{"a UID COPY 1:* \"shared/a/b\"\r\n", []string{"shared/a/b"}, nil},
		{"a COPY 1\r\n", nil, wire.ErrSyntax},
		{"a GETMETADATA (DEPTH infinity) x /shared/comment\r\n", []string{"x"}, nil},
		{"a GETMETADATA x (/shared/comment)\r\n", []string{"x"}, nil},
		{"a NOOP\r\n", nil, nil},
	} {
		got, err := Names([]byte(c.cmd))
		var values []string
		for _, n := range got {
			values = append(values, n.Value)
		}
		if !errors.Is(err, c.err) || !slices.Equal(values, c.want) {
			t.Errorf("%q: %q, %v; want %q, %v", c.cmd, values, err, c.want, c.err)
		}
	}
}

func TestReplace(t *testing.T) {
	for _, c := range []struct{ cmd, want string }{
		{"a SELECT shared/alice/team (CONDSTORE)\r\n", "a SELECT \"team\" (CONDSTORE)\r\n"},
		{"a SELECT {17}\r\nshared/alice/team (CONDSTORE)\r\n", "a SELECT \"team\" (CONDSTORE)\r\n"},
		{"a RENAME shared/alice/team \"shared/alice/a \\\"b\"\r\n", "a RENAME \"team\" \"a \\\"b\"\r\n"},
		{"a APPEND shared/alice/team (\\Seen) {3+}\r\n", "a APPEND \"team\" (\\Seen) {3+}\r\n"},
	} {
		cmd := []byte(c.cmd)
		all, err := Names(cmd)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range slices.Backward(all) {
			_, box, _ := space.Split(n.Value)
			cmd = Replace(cmd, n, box)
		}
		if string(cmd) != c.want {
			t.Errorf("%q: %q", c.cmd, cmd)
		}
	}
}

func TestResponse(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"* LIST (\\HasNoChildren) \"/\" team\r\n", "* LIST (\\HasNoChildren) \"/\" \"shared/alice/team\"\r\n"},
		{"* LIST () NIL {4}\r\nteam\r\n", "* LIST () NIL \"shared/alice/team\"\r\n"},
		{"* LIST () \"/\" b (\"OLDNAME\" (\"a\"))\r\n", "* LIST () \"/\" \"shared/alice/b\"\r\n"},
		{"* LIST () \"\\\\\" b\r\n", "* LIST () \"\\\\\" \"shared/alice/b\"\r\n"},
		{"* STATUS team (MESSAGES 3)\r\n", "* STATUS \"shared/alice/team\" (MESSAGES 3)\r\n"},
		{"* MYRIGHTS team lr\r\n", "* MYRIGHTS \"shared/alice/team\" lr\r\n"},
		{"* ACL \"team\" bob lr\r\n", "* ACL \"shared/alice/team\" bob lr\r\n"},
		{"* LISTRIGHTS team bob \"\" l r\r\n", "* LISTRIGHTS \"shared/alice/team\" bob \"\" l r\r\n"},
		{"* 3 EXISTS\r\n", "* 3 EXISTS\r\n"},
		{"* OK [UIDVALIDITY 3] x\r\n", "* OK [UIDVALIDITY 3] x\r\n"},
		{"t OK LIST\r\n", "t OK LIST\r\n"},
		{"* QUOTAROOT team \"User quota\"\r\n", ""},
		{"* LIST broken\r\n", ""},
		{"* STATUS\r\n", ""},
	} {
		if got := space.Response([]byte(c.in), "alice"); string(got) != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestNamespaces(t *testing.T) {
	for in, want := range map[string]string{
		`(("" "/")) NIL NIL`:                              `* NAMESPACE (("" "/")) (("shared/" "/")) NIL`,
		`(("" "/")) (("user/" "/")) (("pub/" "/"))`:       `* NAMESPACE (("" "/")) (("user/" "/")("shared/" "/")) (("pub/" "/"))`,
		`(("" "/")) (("shared/" "/")) NIL`:                `* NAMESPACE (("" "/")) (("shared/" "/")) NIL`,
		`(("INBOX." ".")("a (b)" "." "X" ("Y"))) NIL NIL`: `* NAMESPACE (("INBOX." ".")("a (b)" "." "X" ("Y"))) (("shared/" "/")) NIL`,
	} {
		got, err := space.Namespaces([]byte(in + "\r\n"))
		if err != nil || string(got) != want+"\r\n" {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	if got, err := space.Namespaces([]byte("NIL")); err == nil {
		t.Errorf("%q", got)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "shared/alice/team", true},
		{"%", "shared/alice/team", false},
		{"%", "shared", true},
		{"shared/%", "shared/alice", true},
		{"shared/%", "shared/alice/team", false},
		{"shared/%/%", "shared/alice/team", true},
		{"shared/*", "shared/alice/team/a", true},
		{"*team", "shared/alice/team", true},
		{"%team", "shared/alice/team", false},
		{"*/%team", "shared/alice/my team", true},
		{"shared/alice/team", "shared/alice/team", true},
		{"shared/alice/tea", "shared/alice/team", false},
		{"", "x", false},
		{"**%%**", "a/b", true},
		{"a*b*c", "aXbXbXc", true},
		{"a%b*c", "a/b/c", false},
	} {
		if Matches(c.pattern, c.name, '/') != c.want {
			t.Errorf("%q, %q: want %t", c.pattern, c.name, c.want)
		}
	}
}

func TestParseList(t *testing.T) {
	for _, c := range []struct {
		cmd                string
		patterns, sel, ret []string
		status             string
		err                error
	}{
		{cmd: "a LIST \"\" *\r\n", patterns: []string{"*"}},
		{cmd: "a LIST \"\" \"\"\r\n", patterns: []string{""}},
		{cmd: "a LSUB \"shared/\" \"%\"\r\n", patterns: []string{"shared/%"}},
		{cmd: "a LIST \"\" {8}\r\nshared/%\r\n", patterns: []string{"shared/%"}},
		{cmd: "a LIST \"\" {8}\r\n", err: ErrMore},
		{cmd: "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (% shared/*) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))\r\n", patterns: []string{"%", "shared/*"},
			sel: []string{"SUBSCRIBED", "RECURSIVEMATCH"}, ret: []string{"CHILDREN", "STATUS"}, status: "(MESSAGES UNSEEN)"},
		{cmd: "a LIST \"\"\r\n", err: wire.ErrSyntax},
		{cmd: "a LIST\r\n", err: wire.ErrSyntax},
		{cmd: "a LIST \"\" (a b\r\n", err: wire.ErrSyntax},
		{cmd: "a LIST \"\" a RETURN\r\n", err: wire.ErrSyntax},
	} {
		l, err := ParseList([]byte(c.cmd))
		if !errors.Is(err, c.err) || err == nil && (!slices.Equal(l.Patterns, c.patterns) || !slices.Equal(l.Select, c.sel) || !slices.Equal(l.Return, c.ret) || l.Status != c.status) {
			t.Errorf("%q: %+v, %v", c.cmd, l, err)
		}
	}
}

func TestMayWantBelow(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "%": true, "s%": true, "shared/alice/%": true, "shared/al*": true, "shared/alice/team": true,
		"INBOX*": false, "shared/bob/%": false, "INBOX": false, "shared/alice": false,
	} {
		l := Listing{Patterns: []string{pattern}}
		if l.MayWantBelow("shared/alice/") != want {
			t.Errorf("%q: want %t", pattern, want)
		}
	}
}

func TestAppendLine(t *testing.T) {
	l := Listing{Verb: wire.List, Return: []string{"SUBSCRIBED"}}
	if got, want := string(l.AppendLine(nil, space, "shared/alice/Sent", []string{`\HasNoChildren`, `\Sent`}, false)), "* LIST (\\HasNoChildren \\Subscribed) \"/\" \"shared/alice/Sent\"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(l.AppendLine(nil, space, "shared/alice", Levels(), true)), "* LIST (\\Noselect \\HasChildren) \"/\" \"shared/alice\" (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	l = Listing{Verb: wire.Lsub}
	if got, want := string(l.AppendLine(nil, space, "shared/alice", Levels(), true)), "* LSUB (\\Noselect) \"/\" \"shared/alice\"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A LIST that only asks for the separator has an empty pattern, whatever its reference (RFC 9051 §6.3.9).
func TestHierarchy(t *testing.T) {
	for cmd, want := range map[string]bool{
		"a LIST \"\" \"\"\r\n": true, "a LIST \"shared/\" \"\"\r\n": true, "a LIST \"\" \"%\"\r\n": false, "a LIST \"\" (\"\")\r\n": false,
	} {
		if l, err := ParseList([]byte(cmd)); err != nil || l.Hierarchy != want {
			t.Errorf("%q: %+v, %v", cmd, l, err)
		}
	}
}

// RFC 5258 §3: unknown options are refused, and so is RECURSIVEMATCH without an option that it can extend.
func TestKnown(t *testing.T) {
	for options, want := range map[string]bool{
		"": true, "()": true, "(SUBSCRIBED)": true, "(REMOTE SUBSCRIBED RECURSIVEMATCH)": true, "(RECURSIVEMATCH)": false, "(REMOTE RECURSIVEMATCH)": false, "(FOO)": false,
	} {
		if l, err := ParseList([]byte("a LIST " + strings.TrimLeft(options+" ", " ") + "\"\" *\r\n")); err != nil || l.Known() != want {
			t.Errorf("%q: %+v, %v", options, l, err)
		}
	}
	if l, err := ParseList([]byte("a LIST \"\" * RETURN (FOO)\r\n")); err != nil || l.Known() {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestWithLevels(t *testing.T) {
	entries := func(names ...string) (all []Entry) {
		for _, name := range names {
			all = append(all, Entry{Name: name})
		}
		return all
	}
	for _, c := range []struct {
		in, levels string
		max        int
	}{
		{"a", "", 9},
		{"a a/b", "", 9},
		{"a/b a", "", 9},
		{"a/b/c", "a/b a", 9},
		{"a/b/c a/b/d a/e", "a/b a", 9},
		{"a/b/c", "a/b", 1},
		{"/a //b", "/", 9},
	} {
		in := strings.Fields(c.in)
		all := WithLevels(entries(in...), '/', c.max)
		var added []string
		for _, e := range all[len(in):] {
			if added = append(added, e.Name); Selectable(e.Attributes) {
				t.Errorf("%+v", e)
			}
		}
		if got := strings.Join(added, " "); got != c.levels {
			t.Errorf("%q: %q, want %q", c.in, got, c.levels)
		}
	}
}

func TestWantsLevel(t *testing.T) {
	for _, c := range []struct {
		l           Listing
		below, want bool
	}{
		{Listing{Verb: wire.List, Patterns: []string{"*"}}, false, true},
		{Listing{Verb: wire.List, Patterns: []string{"%"}}, false, false},
		{Listing{Verb: wire.Lsub, Patterns: []string{"*"}}, true, false},
		{Listing{Verb: wire.Lsub, Patterns: []string{"shared/%"}}, false, true},
		{Listing{Verb: wire.List, Patterns: []string{"*"}, Select: []string{"SUBSCRIBED"}}, true, false},
		{Listing{Verb: wire.List, Patterns: []string{"shared/%"}, Select: []string{"SUBSCRIBED", "RECURSIVEMATCH"}}, true, true},
		{Listing{Verb: wire.List, Patterns: []string{"*"}, Select: []string{"SUBSCRIBED", "RECURSIVEMATCH"}}, false, false},
	} {
		if got := c.l.WantsLevel("shared/alice", '/', c.below); got != c.want {
			t.Errorf("%+v, %t: %t", c.l, c.below, got)
		}
	}
}

func TestHides(t *testing.T) {
	for line, want := range map[string]bool{
		"* LIST () \"/\" shared/alice/x": true, "* LSUB () \"/\" \"shared\"": true, "* XLIST () \"/\" {8}\r\nshared/a": true, "* STATUS shared/alice/x (MESSAGES 1)": true,
		"* LIST () \"/\" sharedness": false, "* LIST () \"/\" INBOX": false, "* 3 EXISTS": false, "* OK shared/x": false, "* LIST broken": false,
	} {
		if space.Hides([]byte(line+"\r\n")) != want {
			t.Errorf("%q: want %t", line, want)
		}
	}
}

// Patterns with which names would be matched for long aren't.
func TestPatternsAreBounded(t *testing.T) {
	long := strings.Repeat("*", maxPattern)
	other := "x" + long[1:]
	for _, c := range []struct {
		patterns []string
		want     bool
	}{
		{[]string{long}, true}, {[]string{long + "*"}, false}, {[]string{other, other, other, "*"}, true}, {[]string{other, other, other, other, "*"}, false},
	} {
		l := Listing{Patterns: c.patterns}
		if l.Wants("shared/alice/team", '/') != c.want {
			t.Errorf("%d patterns: want %t", len(c.patterns), c.want)
		}
	}
}
