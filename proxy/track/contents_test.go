package track

import (
	"testing"

	"imapproxy/proxy/park/view"
)

func TestTheRestOfAFetch(t *testing.T) {
	known := view.UIDsOf(5, 7, 9, 20)
	for _, c := range []struct {
		text, want string
		told       []uint32
	}{
		{"a FETCH 1:4 (BODY[])\r\n", "a FETCH 3:4 (BODY[])\r\n", []uint32{1, 2}},
		{"a FETCH 1:* (BODY[])\r\n", "a FETCH 1,3 (BODY[])\r\n", []uint32{2, 4}},
		{"a UID FETCH 5:* (BODY[])\r\n", "a UID FETCH 9:20 (BODY[])\r\n", []uint32{1, 2}},
		{"a UID FETCH 20,9,7 BODY[]\r\n", "a UID FETCH 7 BODY[]\r\n", []uint32{4, 3}},
		{"a fetch 2 rfc822\r\n", "", []uint32{2}},
		{"a UID FETCH 7:9,20 (UID BODY.PEEK[]) (CHANGEDSINCE 5)\r\n", "a UID FETCH 7,20 (UID BODY.PEEK[]) (CHANGEDSINCE 5)\r\n", []uint32{3}},
	} {
		got, ok := (&Rest{Tag: "a", Text: []byte(c.text), Told: c.told}).Command(known)
		if string(got) != c.want || !ok {
			t.Errorf("%q without %v: %q, %t, want %q", c.text, c.told, got, ok, c.want)
		}
	}
	for _, text := range []string{"a FETCH $ (BODY[])\r\n", "a FETCH 1:2\r\n", "a FETCH x (BODY[])\r\n"} {
		if got, ok := (&Rest{Text: []byte(text)}).Command(known); ok {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got, ok := (&Rest{Text: []byte("a UID FETCH 5:9 (BODY[])\r\n"), Told: []uint32{7}, UIDs: true}).Command(known); !ok || string(got) != "a UID FETCH 5,9 (BODY[])\r\n" {
		t.Errorf("told by UID: %q", got)
	}
	if _, ok := (&Rest{Text: []byte("a UID FETCH 1:9 (BODY[])\r\n"), Told: []uint32{8}}).Command(known); ok {
		t.Error("a message that the client doesn't count has no UID")
	}
	if got := string((&Rest{Text: []byte("a UID FETCH 5:9 (FLAGS BODY[])\r\n")}).Of("x1", 7)); got != "x1 UID FETCH 7 (FLAGS BODY[])\r\n" {
		t.Errorf("one message: %q", got)
	}
}

func TestContentsSinceACommand(t *testing.T) {
	var c Contents
	told := func(n uint32) Told { return Told(n) * toldFetch }
	c.Add(told(1), 10, false)
	c.Add(told(2), 11, false)
	if got, known := c.from(told(1)); !known || len(got) != 1 || got[0] != 11 {
		t.Error(got, known)
	}
	c.Forget(told(2))
	if _, known := c.from(told(1)); known {
		t.Error("what was forgotten is called known")
	}
	if got, known := c.from(told(2)); !known || len(got) != 0 {
		t.Error(got, known)
	}
	for i := range uint32(maxContents + 1) {
		c.Add(told(3+i), i, false)
	}
	if _, known := c.from(told(2)); known {
		t.Error("more than the bound is called known")
	}
	c.Forget(told(9000))
	c.Add(told(9001), 10, true)
	if got, known := c.from(told(9000)); !known || len(got) != 1 || !c.uids {
		t.Error(got, known, c.uids)
	}
	if _, known := (*Contents)(nil).from(0); known {
		t.Error("without Contents something is known")
	}
}

func TestWhatIsContent(t *testing.T) {
	for line, want := range map[string]bool{
		"* 1 FETCH (UID 3 FLAGS (\\Seen))\r\n":              false,
		"* 1 FETCH (FLAGS ($[x]))\r\n":                      false,
		"* 1 FETCH (RFC822.SIZE 5)\r\n":                     false,
		"* 1 FETCH (RFC822.SIZE 5 RFC822 NIL)\r\n":          true,
		"* 1 FETCH (RFC822.HEADER \"\")\r\n":                true,
		"* 1 FETCH (BODY[TEXT]<0> \"x\")\r\n":               true,
		"* 1 FETCH (BINARY[1] ~{3}\r\n":                     true,
		"* 1 FETCH (BODY (\"TEXT\" \"PLAIN\" NIL NIL))\r\n": false,
	} {
		if got := HasContent([]byte(line)); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

// The rest of many messages with gaps between their UIDs is asked for in few words, and only messages that the client counts.
func TestTheRestOfMessagesWithGaps(t *testing.T) {
	var uids, told []uint32
	for n := range uint32(4000) {
		uids = append(uids, 10+100*n)
		if n%1000 == 0 {
			told = append(told, n+1)
		}
	}
	r := &Rest{Tag: "a", Text: []byte("a UID FETCH 1:* (BODY.PEEK[])\r\n"), Told: told}
	cmd, ok := r.Command(view.UIDsOf(uids...))
	if want := "a UID FETCH 110:99910,100110:199910,200110:299910,300110:399910 (BODY.PEEK[])\r\n"; !ok || string(cmd) != want {
		t.Errorf("%.200q (%t)", cmd, ok)
	}
	r.Text = []byte("a UID FETCH 399911:999999,5 (BODY.PEEK[])\r\n")
	if cmd, ok := r.Command(view.UIDsOf(uids...)); !ok || cmd != nil {
		t.Errorf("%.200q (%t)", cmd, ok)
	}
}

func TestARestOfBothKinds(t *testing.T) {
	r := &Rest{Tag: "a", Text: []byte("a UID FETCH 1:* (BODY.PEEK[])\r\n")}
	r.Tells(2, true)
	if cmd, ok := r.Command(view.UIDsOf(2, 3, 4)); !ok || string(cmd) != "a UID FETCH 3:4 (BODY.PEEK[])\r\n" {
		t.Errorf("%q (%t)", cmd, ok)
	}
	r.Tells(2, false)
	if cmd, ok := r.Command(view.UIDsOf(2, 3, 4)); ok {
		t.Errorf("%q", cmd)
	}
}
