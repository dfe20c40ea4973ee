package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

func TestAStarOfACommandThatMarksIsTheClientsLastMessage(t *testing.T) {
	uids := view.UIDsOf(3, 5, 9)
	for _, c := range []struct{ command, want string }{
		{"a STORE * +FLAGS (x*)\r\n", "a STORE 3 +FLAGS (x*)\r\n"},
		{"a STORE 2:* +FLAGS (x)\r\nb NOOP\r\n", "a STORE 2:3 +FLAGS (x)\r\nb NOOP\r\n"},
		{"a UID MOVE 1,*:4 x\r\n", "a UID MOVE 1,9:4 x\r\n"},
		{"a copy 1:2 *\r\n", "a copy 1:2 *\r\n"},
		{"a UID FETCH 4:* FLAGS\r\n", "a UID FETCH 4:* FLAGS\r\n"},
	} {
		cmd := []byte(c.command)
		if last := lastOf(uids, wire.ParseCommandHead(firstLine(cmd)).Verb); last != 0 {
			cmd = withStar(cmd, last)
		}
		if string(cmd) != c.want {
			t.Errorf("%q became %q", c.command, cmd)
		}
	}
}

func TestWhileFlagsAreOwedNoStoreIsSilent(t *testing.T) {
	for _, c := range []struct{ command, want string }{
		{"a STORE 1 +FLAGS.SILENT (x.SILENT)\r\n", "a STORE 1 +FLAGS (x.SILENT)\r\n"},
		{"a store 1:3 (UNCHANGEDSINCE 5) -flags.silent x\r\n", "a store 1:3 (UNCHANGEDSINCE 5) -flags x\r\n"},
		{"a STORE 1 FLAGS.Silent ()\r\nb NOOP\r\n", "a STORE 1 FLAGS ()\r\nb NOOP\r\n"},
		{"a STORE 1 FLAGS (FLAGS.SILENT)\r\n", "a STORE 1 FLAGS (FLAGS.SILENT)\r\n"},
	} {
		if got := string(aloud([]byte(c.command))); got != c.want {
			t.Errorf("%q became %q", c.command, got)
		}
	}
}

// What "*" meant in the command that a session came back for says nothing of later ones.
func TestAStarIsOfOneCommandAlone(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		var out []string
		for i, uid := range p.uids {
			out = append(out, fmt.Sprintf("* %d FETCH (UID %d)", i+1, uid))
		}
		p.mu.Unlock()
		return c.Send(append(out, cmd.Tag()+" OK done")...)
	})
	c := p.idle("SELECT INBOX")
	done(c)
	p.deliver()
	c.Write("s UID STORE * +FLAGS (a)")
	c.Expect("* 5 EXISTS")
	c.Expect("s OK done")
	if said := p.said("UID STORE"); len(said) != 1 || !strings.HasSuffix(said[0], "UID STORE 4 +FLAGS (a)") {
		t.Fatalf("%q", said)
	}
	c.MustOK("UNSELECT")
	p.parked()
	c.MustOK(`CREATE "all*"`)
	if said := p.said("CREATE"); len(said) != 1 || !strings.HasSuffix(said[0], `CREATE "all*"`) {
		t.Errorf("the backend was asked for %q", said)
	}
}
