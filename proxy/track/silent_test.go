package track

import (
	"testing"

	"imapproxy/proxy/park/view"
)

func TestSilentStoresAreRead(t *testing.T) {
	for line, ok := range map[string]bool{
		"a STORE 1 +FLAGS.SILENT (\\Seen)\r\n": true, "a UID STORE 1:*,7 -flags.silent x\r\n": true, "a STORE 1 FLAGS.SILENT ()\r\n": true,
		"a STORE 1 (UNCHANGEDSINCE 5) FLAGS.SILENT (x)\n": true,
		"a STORE 1 +FLAGS (\\Seen)\r\n":                   false, "a STORE 1 +FLAGS.SILENT (\\Se": false, "a STORE 1 +FLAGS.SILENT \\Se": false,
		"a STORE $ +FLAGS.SILENT (x)\r\n": false, "a STORE\r\n": false, "a STORE 1\r\n": false, "a FETCH 1 FLAGS.SILENT (x)\r\n": false,
		"a STORE 1 (OTHER 5) FLAGS.SILENT (x)\r\n": false, "a STORE 1 (UNCHANGEDSINCE 5 FLAGS.SILENT (x\r\n": false,
	} {
		st, got := ParseSilentStore([]byte(line), 9)
		if got != ok {
			t.Errorf("%q: %v %+v", line, got, st)
		}
	}
	st, _ := ParseSilentStore([]byte("a UID STORE 3:* +FLAGS.SILENT (\\Seen)\r\n"), 9)
	if want := view.UIDRange(3, 9); !st.set.Equal(want) || !st.uid || st.sign != '+' || st.flags != `\Seen` {
		t.Errorf("%+v", st)
	}
}
