package view

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"imapproxy/internal/imaptest"
)

// counting is a client and a backend that count these.
func counting(t testing.TB, client, backend UIDs) SequenceMap {
	t.Helper()
	n, err := NewSequenceMap(client, backend)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// client counts six messages, 20 and 40 of which are gone: 2, 4 of its numbers.
//
//	client   1  2  3  4  5  6
//	UID     10 20 30 40 50 60
//	backend  1     2     3  4
func apart(t *testing.T) SequenceMap {
	t.Helper()
	return counting(t, UIDsOf(10, 20, 30, 40, 50, 60), UIDsOf(10, 30, 50, 60))
}

// lastGone is a client whose last message is gone.
func lastGone(t *testing.T) SequenceMap {
	t.Helper()
	return counting(t, UIDsOf(10, 20, 30), UIDsOf(10, 20))
}

func TestCommandsAreTranslated(t *testing.T) {
	for _, tc := range []struct {
		in, want    string
		disposition Disposition
	}{
		{"a FETCH 3 FLAGS", "a FETCH 2 FLAGS", Relay},
		{"a fetch 3,5:6 (FLAGS BODY[1.2]<0.5>)", "a fetch 2:4 (FLAGS BODY[1.2]<0.5>)", Relay},
		{"a FETCH 1:* FLAGS", "a FETCH 1:4 FLAGS", RelayPart},
		{"a FETCH * FLAGS", "a FETCH 4 FLAGS", Relay},
		{"a FETCH *:5 FLAGS", "a FETCH 3:4 FLAGS", Relay},
		{"a FETCH 2 FLAGS", "", Refuse},
		{"a FETCH 2,4 FLAGS", "", Refuse},
		{"a FETCH 7 FLAGS", "a FETCH 5 FLAGS", Relay}, // the backend says BAD, or what it likes
		{"a FETCH 6:8 FLAGS", "a FETCH 4:6 FLAGS", Relay},
		{"a FETCH $ FLAGS", "a FETCH $ FLAGS", Relay},
		{"a FETCH 0 FLAGS", "", Invalid},
		{"a FETCH 1** FLAGS", "", Invalid},
		{"a FETCH 1:4294967295 FLAGS", "a FETCH 1:4294967293 FLAGS", RelayPart},
		{"a STORE 4 +FLAGS (\\Deleted)", "", Refuse},
		{"a STORE 5 +FLAGS (\\Deleted)", "a STORE 3 +FLAGS (\\Deleted)", Relay},
		{"a STORE 3:5 (UNCHANGEDSINCE 5) FLAGS 3", "a STORE 2:3 (UNCHANGEDSINCE 5) FLAGS 3", RelayPart},
		{"a COPY 5 5", "a COPY 3 5", Relay},
		{"a COPY 3:5 x", "", Refuse},
		{"a COPY 5 {3}", "a COPY 3 {3}", Relay},
		{"a MOVE 4:* x", "", Refuse},
		{"a MOVE 5:* x", "a MOVE 3:4 x", Relay},
		{"a REPLACE 6 x {5}", "a REPLACE 4 x {5}", Relay},
		{"a UID FETCH 20:* FLAGS", "a UID FETCH 20:* FLAGS", Relay},
		{"a UID STORE 3 +FLAGS x", "a UID STORE 3 +FLAGS x", Relay},
		{"a UID MOVE 20,30 3", "a UID MOVE 20,30 3", Relay},
		{"a UID FETCH x FLAGS", "", Invalid},
		{"a SEARCH 3 UNSEEN", "a SEARCH 2 UNSEEN", Relay},
		{"a SEARCH 2", "a SEARCH NOT ALL", Relay},
		{"a SEARCH NOT 2", "a SEARCH NOT NOT ALL", Relay},
		{"a SEARCH ALL", "a SEARCH ALL", Relay},
		{"a search or 2 3 (5:* not 1)", "a search or NOT ALL 2 (3:4 not 1)", Relay},
		{`a SEARCH SUBJECT 3 5`, `a SEARCH SUBJECT 3 3`, Relay},
		{`a SEARCH SUBJECT "3 5 \" 6" 5`, `a SEARCH SUBJECT "3 5 \" 6" 3`, Relay},
		{"a SEARCH SUBJECT {3+}\r\n3 5 HEADER 5 {1}\r\n6 5 BEFORE 1-Jan-2020 LARGER 5 6", "a SEARCH SUBJECT {3+}\r\n3 5 HEADER 5 {1}\r\n6 3 BEFORE 1-Jan-2020 LARGER 5 4", Relay},
		{"a SEARCH CHARSET UTF-8 TEXT ~{2}\r\n{5 5", "a SEARCH CHARSET UTF-8 TEXT ~{2}\r\n{5 3", Relay},
		{"a SEARCH UID 5:* 5", "a SEARCH UID 5:* 3", Relay},
		{"a UID SEARCH 5 UID 3", "a UID SEARCH 3 UID 3", Relay},
		{"a SEARCH RETURN () 5", "a SEARCH RETURN () 3", Relay},
		{"a SEARCH RETURN (MIN COUNT PARTIAL 1:5 SAVE) 5", "a SEARCH RETURN (MIN COUNT PARTIAL 1:5 SAVE) 3", Relay},
		{"a SEARCH RETURN (UPDATE) 5", "a SEARCH RETURN () 3", RelayNoUpdate},
		{"a SEARCH RETURN (COUNT UPDATE) 5", "a SEARCH RETURN (COUNT) 3", RelayNoUpdate},
		{"a SEARCH RETURN (update CONTEXT count) 5", "a SEARCH RETURN (CONTEXT count) 3", RelayNoUpdate},
		{"a SEARCH XFANCY", "a SEARCH XFANCY", Relay},
		{"a SEARCH OR 5", "", Invalid},
		{"a SEARCH 5:x", "", Invalid},
		{`a SEARCH MODSEQ "/flags/\\draft" all 5 5`, `a SEARCH MODSEQ "/flags/\\draft" all 5 3`, Relay},
		{"a SEARCH MODSEQ 5 5 FUZZY BODY 5", "a SEARCH MODSEQ 5 3 FUZZY BODY 5", Relay},
		{"a SEARCH $ 5 OLDER 5 KEYWORD 5", "a SEARCH $ 3 OLDER 5 KEYWORD 5", Relay},
		{"a SEARCH XFANCY 5", "", Refuse},
		{"a SEARCH SUBJECT", "", Invalid},
		{"a SEARCH SUBJECT {5}", "", Invalid},
		{"a SEARCH (5", "", Invalid},
		{"a SEARCH 5)", "", Invalid},
		{"a SEARCH 5 ", "", Invalid},
		{"a SEARCH " + strings.Repeat("(", 200) + "5" + strings.Repeat(")", 200), "", Refuse},
		{"a SORT (REVERSE DATE SUBJECT) UTF-8 5 SUBJECT 3", "a SORT (REVERSE DATE SUBJECT) UTF-8 3 SUBJECT 3", Relay},
		{"a SORT RETURN (COUNT) (DATE) \"5\" 1:5", "a SORT RETURN (COUNT) (DATE) \"5\" 1:3", Relay},
		{"a UID SORT (DATE) 5 5", "a UID SORT (DATE) 5 3", Relay},
		{"a THREAD REFERENCES UTF-8 5", "a THREAD REFERENCES UTF-8 3", Relay},
		{"a UID THREAD REFERENCES UTF-8 2", "a UID THREAD REFERENCES UTF-8 NOT ALL", Relay},
		{"a NOOP", "a NOOP", Relay},
		{"a APPEND 5 {5}", "a APPEND 5 {5}", Relay},
		{"a STATUS 5 (MESSAGES)", "a STATUS 5 (MESSAGES)", Relay},
		{"a XMAGIC 5", "", Refuse},
		{"a UID XMAGIC 5", "", Refuse},
		{"DONE", "DONE", Relay},
	} {
		got, disposition := apart(t).Command([]byte("> "), []byte(tc.in+"\r\n"))
		want := "> "
		if tc.disposition.Goes() {
			want += tc.want + "\r\n"
		}
		if disposition != tc.disposition || string(got) != want {
			t.Errorf("%q:\n%q, %d, want\n%q, %d", tc.in, got, disposition, want, tc.disposition)
		}
		// A client that counts as the backend does sees no translation.
		if got, disposition := counting(t, UIDsOf(1, 2), UIDsOf(1, 2)).Command(nil, []byte(tc.in+"\r\n")); disposition != Relay || string(got) != tc.in+"\r\n" {
			t.Errorf("%q, with nothing owed: %q, %d", tc.in, got, disposition)
		}
	}
}

// "*" is the client's last message. Its UID is gone: nothing else may be hit.
func TestTheStarIsTheClientsLast(t *testing.T) {
	for _, tc := range []struct {
		in, want    string
		disposition Disposition
	}{
		{"a STORE * +FLAGS \\Deleted", "", Refuse},
		{"a UID STORE * +FLAGS \\Deleted", "a UID STORE 30 +FLAGS \\Deleted", Relay},
		{"a UID FETCH 25:* FLAGS", "a UID FETCH 25:30 FLAGS", Relay},
		{"a UID FETCH *:35,1 FLAGS", "a UID FETCH 30:35,1 FLAGS", Relay},
		{"a UID EXPUNGE 5:*", "a UID EXPUNGE 5:30", Relay},
		{"a UID SEARCH UID * *", "a UID SEARCH UID 30 NOT ALL", Relay},
		{"a FETCH 2:* FLAGS", "a FETCH 2 FLAGS", RelayPart},
	} {
		got, disposition := lastGone(t).Command(nil, []byte(tc.in+"\r\n"))
		if disposition != tc.disposition || disposition.Goes() && string(got) != tc.want+"\r\n" {
			t.Errorf("%q: %q, %d", tc.in, got, disposition)
		}
	}
	// One more came, whose UID isn't known: the last is the same for both.
	n := lastGone(t)
	if told, err := n.Response(nil, []byte("* 3 EXISTS\r\n"), false); err != nil || string(told) != "* 4 EXISTS\r\n" {
		t.Fatalf("%q, %v", told, err)
	}
	for in, want := range map[string]string{
		"a STORE * +FLAGS x":     "a STORE 3 +FLAGS x",
		"a UID STORE * +FLAGS x": "a UID STORE * +FLAGS x",
		"a FETCH 2,4 FLAGS":      "a FETCH 2:3 FLAGS",
	} {
		if got, disposition := n.Command(nil, []byte(in)); disposition != Relay || string(got) != want {
			t.Errorf("%q: %q, %d", in, got, disposition)
		}
	}
}

func TestResponsesAreTranslated(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		uid      bool
	}{
		{in: "* 3 FETCH (FLAGS (\\Seen) UID 50)", want: "* 5 FETCH (FLAGS (\\Seen) UID 50)"},
		{in: "* 3 fetch (BODY[] {1}\r\n3)", want: "* 5 fetch (BODY[] {1}\r\n3)"},
		{in: "* 3 FETCH (UID 50)", want: "* 5 FETCH (UID 50)", uid: true},
		{in: "* 4 EXISTS", want: "* 6 EXISTS"},
		{in: "* 6 EXISTS", want: "* 8 EXISTS"},
		{in: "* 1 RECENT", want: "* 1 RECENT"},
		{in: "* 2 EXPUNGE", want: "* 3 EXPUNGE"},
		{in: "* VANISHED 30,50", want: "* VANISHED 30,50"},
		{in: "* VANISHED (EARLIER) 5,20", want: "* VANISHED (EARLIER) 5,20"},
		{in: "* SEARCH", want: "* SEARCH"},
		{in: "* SEARCH ", want: "* SEARCH "},
		{in: "* SEARCH 1 2 4", want: "* SEARCH 1 3 6"},
		{in: "* SEARCH 1 2 4 (MODSEQ 3)", want: "* SEARCH 1 3 6 (MODSEQ 3)"},
		{in: "* SEARCH 10 30", want: "* SEARCH 10 30", uid: true},
		{in: "* SORT 4 1 2", want: "* SORT 6 1 3"},
		{in: "* THREAD (2)(3 1 (4)(2 1))", want: "* THREAD (3)(5 1 (6)(3 1))"},
		{in: "* THREAD (30)", want: "* THREAD (30)", uid: true},
		{in: `* ESEARCH (TAG "a 3)") MIN 2 MAX 4 COUNT 3 ALL 2:4 MODSEQ 3`, want: `* ESEARCH (TAG "a 3)") MIN 3 MAX 6 COUNT 3 ALL 3,5:6 MODSEQ 3`},
		{in: `* ESEARCH (TAG "a") UID ALL 2:4`, want: `* ESEARCH (TAG "a") UID ALL 2:4`},
		{in: `* ESEARCH (TAG {1}` + "\r\n)) ALL 2", want: `* ESEARCH (TAG {1}` + "\r\n)) ALL 3"},
		{in: `* ESEARCH (TAG "a")`, want: `* ESEARCH (TAG "a")`},
		{in: `* ESEARCH ALL 2`, want: `* ESEARCH ALL 3`},
		{in: `* ESEARCH (TAG "a") ALL 4,3:1 COUNT 4`, want: `* ESEARCH (TAG "a") ALL 6,5,3,1 COUNT 4`},
		{in: `* ESEARCH (TAG "a") PARTIAL (1:2 2:3) RELEVANCY (4 1)`, want: `* ESEARCH (TAG "a") PARTIAL (1:2 3,5) RELEVANCY (4 1)`},
		{in: `* ESEARCH (TAG "a") PARTIAL (-1:-2 NIL)`, want: `* ESEARCH (TAG "a") PARTIAL (-1:-2 NIL)`},
		{in: "a OK [MODIFIED 2:3] Conditional STORE failed", want: "a OK [MODIFIED 3,5] Conditional STORE failed"},
		{in: "a OK [MODIFIED 30] Conditional STORE failed", want: "a OK [MODIFIED 30] Conditional STORE failed", uid: true},
		{in: "a[2 OK [MODIFIED 2:3] Conditional STORE failed", want: "a[2 OK [MODIFIED 3,5] Conditional STORE failed"},
		{in: "a OK [COPYUID 3 3 3] 3", want: "a OK [COPYUID 3 3 3] 3"},
		{in: "+ 3", want: "+ 3"},
		{in: "* FLAGS (3)", want: "* FLAGS (3)"},
		{in: `* LIST () "/" 3`, want: `* LIST () "/" 3`},
	} {
		n := apart(t)
		got, err := n.Response([]byte("> "), []byte(tc.in+"\r\n"), tc.uid)
		if err != nil || string(got) != "> "+tc.want+"\r\n" {
			t.Errorf("%q:\n%q, %v, want\n%q", tc.in, got, err, tc.want)
		}
	}
	for in, want := range map[string]error{
		"* 5 FETCH ()":             ErrNumbers,
		"* 0 FETCH ()":             ErrNumbers,
		"* 3 EXISTS":               ErrNumbers,
		"* 4294967295 EXISTS":      ErrNumbers,
		"* 5 EXPUNGE":              ErrNumbers,
		"* VANISHED 61":            ErrNumbers,
		"* SEARCH 5":               ErrNumbers,
		"* SEARCH 99999999999":     ErrNumbers,
		"* SEARCH x":               ErrUntranslatable,
		"* VANISHED x":             ErrUntranslatable,
		"* 3 XFANCY":               ErrUntranslatable,
		"* ESEARCH ALL 5":          ErrNumbers,
		"* ESEARCH XFANCY 2":       ErrUntranslatable,
		"* ESEARCH ALL":            ErrUntranslatable,
		"* ESEARCH (TAG \"a\"":     ErrUntranslatable,
		"* ESEARCH ALL 2 ":         ErrUntranslatable,
		"* ESEARCH PARTIAL (1:2 2": ErrUntranslatable,
		"a OK [MODIFIED 5] x":      ErrNumbers,
		"a OK [MODIFIED] x":        ErrUntranslatable,
	} {
		n := apart(t)
		if got, err := n.Response(nil, []byte(in+"\r\n"), false); err != want {
			t.Errorf("%q: %q, %v, want %v", in, got, err, want)
		}
	}
}

// A message whose UID isn't known yet vanishes again.
func TestAMessageComesAndVanishesUnseen(t *testing.T) {
	n := apart(t)
	for _, step := range []struct {
		in, want string
		count    uint32 // the client's, afterwards
	}{
		{"* 6 EXISTS", "* 8 EXISTS", 8},
		{"* VANISHED 70", "* VANISHED 70", 7},
		{"* 5 FETCH ()", "* 7 FETCH ()", 7},
		{"* 5 EXPUNGE", "* 7 EXPUNGE", 6},
		{"* 5 EXISTS", "* 7 EXISTS", 7},
	} {
		got, err := n.Response(nil, []byte(step.in+"\r\n"), false)
		if _, count := n.Client(); err != nil || string(got) != step.want+"\r\n" || count != step.count {
			t.Fatalf("%s: %q, %v, %d messages", step.in, got, err, count)
		}
	}
	if _, err := n.Response(nil, []byte("* 6 FETCH ()\r\n"), false); err != ErrNumbers {
		t.Fatal(err)
	}
}

func TestWhatIsGoneIsAnswered(t *testing.T) {
	if got := string(AppendExpungeIssued(nil, []byte("a7"))); got != "a7 NO [EXPUNGEISSUED] Some of these messages are gone\r\n" {
		t.Error(got)
	}
	for in, want := range map[string]string{
		"a OK Fetch completed\r\n": "a NO [EXPUNGEISSUED] Some of these messages are gone\r\n",
		"a OK [MODIFIED 3] x\r\n":  "a NO [MODIFIED 3] x\r\n",
		"a NO [SERVERBUG] x\r\n":   "a NO [SERVERBUG] x\r\n",
		"a BAD x\r\n":              "a BAD x\r\n",
		"* OK x\r\n":               "* OK x\r\n",
	} {
		if got := string(AppendPartly(nil, []byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestNobodyCountsMoreThanTheClient(t *testing.T) {
	if _, err := NewSequenceMap(UIDsOf(1), UIDsOf(1, 2)); err == nil {
		t.Fatal("a message that the client wasn't told of")
	}
}

// TestNumbersMeanTheSameMessages has a client and a backend that count differently talk
// about the same messages: what the client names by number is what the
// backend acts on, and the other way round, whatever comes and goes meanwhile.
func TestNumbersMeanTheSameMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := imaptest.NewModelMailbox(1)
		for range rapid.IntRange(1, 15).Draw(t, "begin") {
			change(t, m)
		}
		if len(m.Messages) == 0 {
			m.Append()
		}
		c := imaptest.NewModelClient(imaptest.ModelPlain, m)
		view := slices.Clone(m.UIDs()) // what the client counts, slowly
		m.Expunge(rapid.SliceOfN(rapid.SampledFrom(view), 1, 4).Draw(t, "gone")...)
		n, err := NewSequenceMap(UIDsOf(view...), UIDsOf(m.UIDs()...))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			backend := m.UIDs()
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				view = append(view, m.Append())
				respond(t, &n, c, m, "NOOP", fmt.Sprintf("* %d EXISTS", len(m.Messages)))
			case 1:
				if len(backend) == 0 {
					continue
				}
				uid := rapid.SampledFrom(backend).Draw(t, "expunge")
				respond(t, &n, c, m, "NOOP", fmt.Sprintf("* %d EXPUNGE", slices.Index(backend, uid)+1))
				m.Expunge(uid)
				view = slices.DeleteFunc(view, func(u uint32) bool { return u == uid })
			case 2:
				if len(backend) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(backend)-1).Draw(t, "fetch")
				respond(t, &n, c, m, "FETCH", fmt.Sprintf("* %d FETCH (UID %d)", i+1, backend[i]))
			case 3, 4:
				commandNames(t, n, view, backend)
			case 5:
				searchFinds(t, n, view, backend)
			case 6:
				answersName(t, n, view, backend)
			}
			if c.Count() != len(view) {
				t.Fatalf("the client counts %d, not %d", c.Count(), len(view))
			}
		}
		c.Begin("NOOP")
		before, _ := n.Client()
		hear(t, c, m, Difference{Vanished: n.Told()}.AppendTo(nil, Plain, &View{UIDs: before}))
		if err := c.Converged(m); err != nil {
			t.Fatal(err)
		}
		if !n.Deferred().Empty() {
			t.Fatal("owed after it was told")
		}
	})
}

func respond(t *rapid.T, n *SequenceMap, c *imaptest.ModelClient, m *imaptest.ModelMailbox, during, line string) {
	told, err := n.Response(nil, []byte(line+"\r\n"), false)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	c.Begin(during)
	hear(t, c, m, told)
}

// numbersIn draws a sequence-set of a client with so many messages, and which of its numbers
// that names.
func numbersIn(t *rapid.T, count int) (string, []int) {
	var parts []string
	named := map[int]bool{}
	for range rapid.IntRange(1, 4).Draw(t, "elements") {
		a, b := rapid.IntRange(1, count).Draw(t, "a"), rapid.IntRange(1, count).Draw(t, "b")
		text := func(n int) string {
			if n == count && rapid.Bool().Draw(t, "star") {
				return "*"
			}
			return fmt.Sprint(n)
		}
		if rapid.Bool().Draw(t, "single") {
			parts, b = append(parts, text(a)), a
		} else {
			parts = append(parts, text(a)+":"+text(b))
		}
		for n := min(a, b); n <= max(a, b); n++ {
			named[n] = true
		}
	}
	var list []int
	for n := range named {
		list = append(list, n)
	}
	slices.Sort(list)
	return strings.Join(parts, ","), list
}

// commandNames: the messages that a STORE reaches are those that the client named and
// that are there.
func commandNames(t *rapid.T, n SequenceMap, view, backend []uint32) {
	if len(view) == 0 {
		return
	}
	set, named := numbersIn(t, len(view))
	verb := rapid.SampledFrom([]string{"STORE", "COPY"}).Draw(t, "verb")
	out, disposition := n.Command(nil, []byte("a "+verb+" "+set+" x\r\n"))
	var want []uint32
	for _, i := range named {
		if uid := view[i-1]; slices.Contains(backend, uid) {
			want = append(want, uid)
		}
	}
	part := len(want) < len(named)
	switch {
	case !disposition.Goes():
		if !(len(want) == 0 || part && verb == "COPY") {
			t.Fatalf("%s %s was refused", verb, set)
		}
		return
	case (disposition == RelayPart) != (part && verb == "STORE") || len(want) == 0 || part && verb == "COPY":
		t.Fatalf("%s %s: %q, %d", verb, set, out, disposition)
	}
	var got []uint32
	for _, i := range naiveSet(t, strings.Fields(string(out))[2], len(backend)) {
		if i > len(backend) {
			t.Fatalf("%q of %d messages", out, len(backend))
		}
		got = append(got, backend[i-1])
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s %s is %q: UIDs %v, want %v", verb, set, out, got, want)
	}
}

// naiveSet reads a sequence-set of someone who counts so many messages.
func naiveSet(t failer, set string, count int) []int {
	t.Helper()
	named := map[int]bool{}
	number := func(s string) int {
		n := count
		if s != "*" {
			if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
				t.Fatalf("%q: %v", set, err)
			}
		}
		return n
	}
	for element := range strings.SplitSeq(set, ",") {
		low, high, found := strings.Cut(element, ":")
		if !found {
			high = low
		}
		a, b := number(low), number(high)
		for n := min(a, b); n <= max(a, b); n++ {
			named[n] = true
		}
	}
	var list []int
	for n := range named {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// answersName: the messages that an answer names are the same for both.
func answersName(t *rapid.T, n SequenceMap, view, backend []uint32) {
	if len(backend) == 0 {
		return
	}
	set, _ := numbersIn(t, len(backend))
	set = strings.ReplaceAll(set, "*", fmt.Sprint(len(backend)))
	out, err := n.Response(nil, []byte("* ESEARCH (TAG \"a\") ALL "+set+"\r\n"), false)
	if err != nil {
		t.Fatalf("%s: %v", set, err)
	}
	// In order, and repeated where they were.
	list := func(set string, uids []uint32) []uint32 {
		var out []uint32
		for element := range strings.SplitSeq(set, ",") {
			var a, b int
			if k, _ := fmt.Sscanf(element, "%d:%d", &a, &b); k == 1 {
				b = a
			}
			for {
				out = append(out, uids[a-1])
				if a == b {
					break
				}
				if a < b {
					a++
				} else {
					a--
				}
			}
		}
		return out
	}
	theirs := strings.TrimSuffix(strings.TrimPrefix(string(out), "* ESEARCH (TAG \"a\") ALL "), "\r\n")
	if got, want := list(theirs, view), list(set, backend); !slices.Equal(got, want) {
		t.Fatalf("%s is %s: UIDs %v, want %v", set, theirs, got, want)
	}
	var nums []string
	for i := range backend {
		nums = append(nums, fmt.Sprint(i+1))
	}
	for _, name := range []string{"SEARCH", "SORT"} {
		out, err = n.Response(nil, []byte("* "+name+" "+strings.Join(nums, " ")+"\r\n"), false)
		if err != nil {
			t.Fatal(err)
		}
		for i, number := range strings.Fields(string(out))[2:] {
			if got := naiveSet(t, number, 0)[0]; view[got-1] != backend[i] {
				t.Fatalf("%q: %d isn't UID %d", out, got, backend[i])
			}
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		"a FETCH 1:* FLAGS\r\n", "a SEARCH OR 2 (3 NOT UID 5:*) SUBJECT {3}\r\n4 5 TEXT \"6\"\r\n", "a SORT (DATE) UTF-8 2:4\r\n",
		"a THREAD REFERENCES UTF-8 MODSEQ \"x\" all 3 4\r\n", "a COPY 3:5 {3+}\r\n1:2\r\n", "a UID EXPUNGE *\r\n", "a SEARCH RETURN (PARTIAL 1:2) 3\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, cmd []byte) {
		n := counting(t, UIDsOf(10, 20, 30, 40, 50, 60), UIDsOf(10, 30, 50))
		before := bytes.Clone(cmd)
		out, disposition := n.Command([]byte("> "), cmd)
		if !bytes.Equal(cmd, before) {
			t.Fatalf("%q became %q", before, cmd)
		}
		if !bytes.HasPrefix(out, []byte("> ")) || !disposition.Goes() && len(out) > 2 {
			t.Fatalf("%q: %q, %d", cmd, out, disposition)
		}
		// What isn't a number stays: strip both of digits and set characters.
		if disposition.Goes() {
			strip := func(b []byte) string {
				b = bytes.ReplaceAll(b, []byte("NOT ALL"), nil)
				return strings.Map(func(r rune) rune {
					if strings.ContainsRune("0123456789:,*", r) {
						return -1
					}
					return r
				}, string(b))
			}
			if strip(out[2:]) != strip(cmd) {
				t.Fatalf("%q: %q", cmd, out)
			}
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"* 3 FETCH (FLAGS ())\r\n", "* ESEARCH (TAG \"a\") MIN 1 ALL 1:3 PARTIAL (1:2 3)\r\n", "* THREAD (1 (2)(3))\r\n",
		"* SEARCH 1 2 (MODSEQ 3)\r\n", "* VANISHED 30\r\n", "a OK [MODIFIED 1,3]\r\n", "* 9 EXISTS\r\n", "* 1 EXPUNGE\r\n",
	} {
		f.Add([]byte(s), []byte(s), false)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, uid bool) {
		n := counting(t, UIDsOf(10, 20, 30, 40, 50, 60), UIDsOf(10, 30, 50))
		for _, line := range [][]byte{first, second} {
			before := bytes.Clone(line)
			if _, err := n.Response(nil, line, uid); err != nil {
				return
			}
			if !bytes.Equal(line, before) {
				t.Fatalf("%q became %q", before, line)
			}
			if !n.backend.Without(n.client).Empty() {
				t.Fatalf("%q: the backend has %s, the client %s", line, n.backend, n.client)
			}
		}
	})
}

// While both count alike nothing is translated, so nothing need be understood either.
func TestWhereBothCountAlikeAnyResponsePasses(t *testing.T) {
	n := counting(t, UIDsOf(1, 2), UIDsOf(1, 2))
	for _, in := range []string{`* ESEARCH (TAG "a") ADDTO (1 2)`, "* 3 XFANCY", "* SEARCH x", "a OK [MODIFIED] x", "* 2 FETCH ()", "* 3 EXISTS", "* 3 EXPUNGE"} {
		if out, err := n.Response(nil, []byte(in+"\r\n"), false); err != nil || string(out) != in+"\r\n" {
			t.Errorf("%q: %q, %v", in, out, err)
		}
	}
}
