package wire

import (
	"slices"
	"testing"
)

// verbsWith are the names of the verbs whose rule is so.
func verbsWith(is func(*Rule) bool) (names []string) {
	for v := range numVerbs {
		if r := v.Rule(); is(r) {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Each column of the table, as the RFCs have it.
func TestWhatIsKnownOfTheVerbs(t *testing.T) {
	for name, c := range map[string]struct {
		is   func(*Rule) bool
		want []string
	}{
		"no arguments": {func(r *Rule) bool { return r.Bare }, []string{
			"CAPABILITY", "CHECK", "CLOSE", "EXPUNGE", "GETJMAPACCESS", "IDLE", "LOGOUT", "NAMESPACE", "NOOP", "STARTTLS", "UNAUTHENTICATE", "UNSELECT"}},
		"message numbers":                        {(*Rule).ByNumber, []string{"COPY", "FETCH", "MOVE", "REPLACE", "SEARCH", "SORT", "STORE", "THREAD"}},
		"no EXPUNGE meanwhile (RFC 9051 §7.5.1)": {func(r *Rule) bool { return r.HoldsExpunge }, []string{"FETCH", "SEARCH", "SORT", "STORE", "THREAD"}},
		"* is the client's": {func(r *Rule) bool { return r.Marks }, []string{
			"COPY", "MOVE", "REPLACE", "STORE", "UID COPY", "UID EXPUNGE", "UID MOVE", "UID REPLACE", "UID STORE"}},
		"leave the selected mailbox": {func(r *Rule) bool { return r.Leaves }, []string{"CLOSE", "EXAMINE", "SELECT", "UNSELECT"}},
		"the selected mailbox": {func(r *Rule) bool { return r.OnSelected }, []string{
			"CANCELUPDATE", "CHECK", "CLOSE", "COPY", "ESEARCH", "EXPUNGE", "FETCH", "MOVE", "REPLACE", "SEARCH", "SORT", "STORE", "THREAD",
			"UID COPY", "UID EXPUNGE", "UID FETCH", "UID MOVE", "UID REPLACE", "UID SEARCH", "UID SORT", "UID STORE", "UID THREAD", "UIDBATCHES", "UNSELECT"}},
		"remove messages": {func(r *Rule) bool { return r.Removes }, []string{"EXPUNGE", "MOVE", "REPLACE", "UID EXPUNGE", "UID MOVE", "UID REPLACE"}},
		"change mailboxes": {func(r *Rule) bool { return r.Changes }, []string{
			"APPEND", "CLOSE", "COPY", "CREATE", "DELETE", "DELETEACL", "EXPUNGE", "MOVE", "OTHER", "RENAME", "REPLACE", "SETACL", "STORE",
			"UID COPY", "UID EXPUNGE", "UID MOVE", "UID REPLACE", "UID STORE"}},
		"change something else": {func(r *Rule) bool { return r.Sets }, []string{"SETANNOTATION", "SETMETADATA", "SETQUOTA", "SUBSCRIBE", "UNSUBSCRIBE"}},
		"leave a state that isn't known": {func(r *Rule) bool { return r.State == UnknownState }, []string{
			"AUTHENTICATE", "COMPRESS", "LOGIN", "OTHER", "STARTTLS", "UNAUTHENTICATE"}},
		"are refused after a loss, since they may have been done": {func(r *Rule) bool { return r.Loss == LossRefused }, []string{
			"APPEND", "AUTHENTICATE", "COMPRESS", "COPY", "CREATE", "DELETE", "GENURLAUTH", "LOGIN", "LOGOUT", "MOVE", "NOTIFY", "OTHER", "RENAME", "REPLACE", "RESETKEY",
			"STARTTLS", "UID COPY", "UID MOVE", "UID REPLACE", "UIDBATCHES", "UNAUTHENTICATE", "URLFETCH", "XAPPLEPUSHSERVICE"}},
		"are said again after a loss only if nothing was told": {func(r *Rule) bool { return r.Loss == LossOnce }, []string{
			"ESEARCH", "LIST", "LSUB", "RLIST", "RLSUB", "SEARCH", "SORT", "STATUS", "THREAD", "UID SEARCH", "UID SORT", "UID THREAD", "XLIST"}},
		"a mailbox is the first argument of what selects": {func(r *Rule) bool { return r.Selects }, []string{"EXAMINE", "SELECT"}},
	} {
		if got := verbsWith(c.is); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got  %q\n want %q", name, got, c.want)
		}
	}
}

func TestTheRulesAgreeWithEachOther(t *testing.T) {
	for v := range numVerbs {
		r := v.Rule()
		switch {
		case r.Name == "":
			t.Errorf("verb %d has no rule", v)
		case r.Bare && (r.Literals || r.Set != NoSet):
			t.Errorf("%s has no arguments, and has some", r.Name)
		case r.OnSelected && r.Selects, !r.OnSelected && (r.Set != NoSet || r.Removes || r.Leaves && !r.Selects):
			t.Errorf("%s: is it about the selected mailbox?", r.Name)
		case r.HoldsExpunge && r.Removes, r.HoldsExpunge && !r.ByNumber():
			t.Errorf("%s holds EXPUNGE back, which it needn't", r.Name)
		case r.Marks && r.Set != FirstArgument:
			t.Errorf("%s marks what it doesn't name", r.Name)
		case r.Removes && !r.Changes:
			t.Errorf("%s removes and doesn't change", r.Name)
		case r.Selects && !r.Leaves:
			t.Errorf("%s selects a second mailbox", r.Name)
		}
	}
}

func TestAVerbIsLookedUpWithoutMemory(t *testing.T) {
	line := []byte("a1 uid fetch 1:* (FLAGS)\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if ParseCommandHead(line).Verb != UIDFetch {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
