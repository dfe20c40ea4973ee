package track

import (
	"testing"

	"imapproxy/proxy/wire"
)

func TestWhatChangesAMailbox(t *testing.T) {
	for line, want := range map[string]bool{
		"a FETCH 1 BODY[]": true, "a FETCH 1 (UID BODY[1.2]<0.10>)": true, "a UID FETCH 1:* (FLAGS RFC822)": true,
		"a FETCH 1 RFC822": true, "a FETCH 1 rfc822.text": true, "a FETCH 1 (RFC822 UID)": true, "a FETCH 1 BINARY[1]": true,
		"a FETCH 1 (BODY.PEEK[])": false, "a FETCH 1 (RFC822.SIZE RFC822.HEADER BODY)": false, "a FETCH 1 BODYSTRUCTURE": false,
		"a FETCH 1 BINARY.PEEK[1]": false, "a FETCH 1 ALL": false, "a STORE 1 +FLAGS (x)": true, "a NOOP": false, "a SEARCH BODY x": false,
	} {
		h := wire.ParseCommandHead([]byte(line + "\r\n"))
		if got := changes(h, true, false); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	fetch := wire.ParseCommandHead([]byte("a FETCH 1 BODY[]\r\n"))
	if changes(fetch, true, true) {
		t.Error("a FETCH in a mailbox that was examined")
	}
	if peek := wire.ParseCommandHead([]byte("a FETCH 1,3,5")); !changes(peek, false, false) {
		t.Error("a FETCH that wasn't seen whole")
	}
}
