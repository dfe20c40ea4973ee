package track

import (
	"testing"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

func TestAStarOfACommandThatMarksIsTheClientsLastMessage(t *testing.T) {
	uids := view.UIDsOf(3, 5, 9)
	for _, c := range []struct{ Command, want string }{
		{"a STORE * +FLAGS (x*)\r\n", "a STORE 3 +FLAGS (x*)\r\n"},
		{"a STORE 2:* +FLAGS (x)\r\nb NOOP\r\n", "a STORE 2:3 +FLAGS (x)\r\nb NOOP\r\n"},
		{"a UID MOVE 1,*:4 x\r\n", "a UID MOVE 1,9:4 x\r\n"},
		{"a copy 1:2 *\r\n", "a copy 1:2 *\r\n"},
		{"a UID FETCH 4:* FLAGS\r\n", "a UID FETCH 4:* FLAGS\r\n"},
	} {
		cmd := []byte(c.Command)
		if last := StarValue(uids, wire.ParseCommandHead(wire.FirstLine(cmd)).Verb); last != 0 {
			cmd = ExpandStar(cmd, last)
		}
		if string(cmd) != c.want {
			t.Errorf("%q became %q", c.Command, cmd)
		}
	}
}

func TestWhileFlagsAreOwedNoStoreIsSilent(t *testing.T) {
	for _, c := range []struct{ Command, want string }{
		{"a STORE 1 +FLAGS.SILENT (x.SILENT)\r\n", "a STORE 1 +FLAGS (x.SILENT)\r\n"},
		{"a store 1:3 (UNCHANGEDSINCE 5) -flags.silent x\r\n", "a store 1:3 (UNCHANGEDSINCE 5) -flags x\r\n"},
		{"a STORE 1 FLAGS.Silent ()\r\nb NOOP\r\n", "a STORE 1 FLAGS ()\r\nb NOOP\r\n"},
		{"a STORE 1 FLAGS (FLAGS.SILENT)\r\n", "a STORE 1 FLAGS (FLAGS.SILENT)\r\n"},
	} {
		if got := string(StripSilent([]byte(c.Command))); got != c.want {
			t.Errorf("%q became %q", c.Command, got)
		}
	}
}
