package imaptest

import (
	"strings"
	"testing"
)

func TestATapShowsHoldsAndCuts(t *testing.T) {
	b := NewBackend(t, Dialogue{}.Serve)
	tap := NewTap(t, b.Addr)
	c := Dial(t, tap.Addr)
	c.Login("alice", "secret")

	held := tap.Once("NOOP", func() {
		if n := len(b.Commands()); n != 1 {
			t.Errorf("%d commands went on", n)
		}
	})
	c.MustOK("NOOP")
	<-held
	if sent := strings.Join(tap.Sent(), "\n"); !strings.Contains(sent, "NOOP") || strings.Contains(sent, "secret") {
		t.Errorf("kept: %s", sent)
	}

	// A command whose name is the end of another one's.
	selected := false
	first := tap.Once("SELECT", func() { selected = true })
	c.Cmd("UNSELECT")
	select {
	case <-first:
		t.Error("UNSELECT counts as SELECT")
	default:
	}
	c.Cmd("SELECT")
	if <-first; !selected {
		t.Error("SELECT wasn't noticed")
	}

	// An answer that doesn't come any more, though the command was carried out.
	tap.OnDown(func(_ *Tapped, line string) bool { return !strings.Contains(line, "EXISTS") })
	c.Write("a SELECT INBOX")
	c.Expect("* FLAGS {*}")
	c.ExpectEOF()
	b.WaitCommand("SELECT")
	b.WaitOpen(0)
	tap.OnDown(nil)

	c = Dial(t, tap.Addr)
	c.Login("bob", "secret")
	tap.Down(true)
	c.ExpectEOF()
	refused, err := DialConn(t.Context(), tap.Addr, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := refused.Next(); err == nil {
		t.Errorf("who should be refused is told %s", r)
	}
	_ = refused.Close()
	tap.Down(false)
	other := NewBackend(t, Dialogue{Greeting: "* OK the other"}.Serve)
	tap.Move(other.Addr)
	if c := Dial(t, tap.Addr); c.Greeting.Text != "* OK the other" {
		t.Error(c.Greeting)
	}
	if n := tap.Opened(); n != 4 {
		t.Errorf("%d connections", n)
	}
}
