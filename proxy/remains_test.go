package proxy

import "testing"

// What is said of other mailboxes, of annotations and of URLs leaves nothing on the backend's connection,
// so a session that has said it is parked.
func TestASessionIsParkedThatHasSaidWhatLeavesNothingBehind(t *testing.T) {
	for _, command := range []string{
		`XLIST "" "*"`,
		`GETANNOTATION INBOX "/comment" "value.shared"`,
		`URLFETCH "imap://alice@example.org/INBOX;UIDVALIDITY=7/;UID=1;URLAUTH=anonymous:internal:1"`,
		`ESEARCH IN (mailboxes "Work" subtree "Archive") RETURN (COUNT) UNSEEN`,
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 2)
			c := p.idle("SELECT INBOX", command)
			done(c)
			c.MustOK("UID FETCH 1 (FLAGS)")
			if n := len(p.said("SELECT")); n != 2 {
				t.Errorf("selected %d times", n)
			}
		})
	}
}
