package proxy

import "testing"

func TestALiteralBehindACommandWithoutArgumentsIsRefused(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.login("alice")
	must(t, c.Conn.SendRaw("a NOOP {16+}\r\ns SELECT INBOX\r\n\r\nb CHECK x {3+}\r\nabc\r\nc CAPABILITY {3}\r\nd NOOP\r\n"))
	c.Expect("a BAD NOOP takes no arguments")
	c.Expect("b BAD CHECK takes no arguments")
	c.Expect("c BAD CAPABILITY takes no arguments")
	c.Expect("d OK {*}")
	for _, cmd := range l.backends[0].Commands() {
		if cmd.Name == "SELECT" || cmd.Name == "CHECK" {
			t.Errorf("the backend was told %s", cmd)
		}
	}
}
