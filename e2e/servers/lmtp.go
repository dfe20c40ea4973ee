package servers

import (
	"net/textproto"
	"testing"
)

// Deliver gives a message to LMTP at an address. RFC 2033.
func Deliver(t testing.TB, addr, to string) {
	t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, step := range []struct {
		say  string
		code int
	}{
		{"", 220}, {"LHLO here", 250}, {"MAIL FROM:<>", 250}, {"RCPT TO:<" + to + ">", 250}, {"DATA", 354},
		{"From: <a@b>\r\nSubject: x\r\n\r\nbody\r\n.", 250},
	} {
		if step.say != "" {
			if err := c.PrintfLine("%s", step.say); err != nil {
				t.Fatal(err)
			}
		}
		if _, msg, err := c.ReadResponse(step.code); err != nil {
			t.Fatalf("LMTP %q: %v %s", step.say, err, msg)
		}
	}
}
