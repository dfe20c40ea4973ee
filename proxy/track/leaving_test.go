package track

import (
	"testing"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

func TestWhatACommandMakesOfTheMailbox(t *testing.T) {
	caps := wire.ParseCaps([]byte("IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE QRESYNC ESEARCH LITERAL+ UIDPLUS MOVE"))
	for _, c := range []struct {
		line   string
		Client Client
		caps   wire.Caps
		want   Leaving
	}{
		{"a SELECT Work", Client{}, caps, Leaves},
		{`a examine "Work"`, Client{}, caps, Leaves},
		{"a SELECT {4+}", Client{}, caps, Leaves},
		{"a SELECT Work (CONDSTORE)", Client{}, caps, Leaves},
		{"a SELECT Work (CONDSTORE)", Client{}, nil, Stays},
		{"a SELECT Work (QRESYNC (7 12))", Client{Dialect: view.QResync}, caps, Leaves},
		{"a SELECT Work (QRESYNC (7 12))", Client{}, caps, Stays},
		{"a SELECT", Client{}, caps, Stays},
		{`a SELECT "Work`, Client{}, caps, Stays},
		{"a SELECT Work again", Client{}, caps, Stays},
		{"a SELECT Work {4+}", Client{}, caps, Stays},
		{"(a SELECT Work", Client{}, caps, Stays},
		{"a UNSELECT", Client{}, caps, Leaves},
		{"a UNSELECT", Client{}, nil, Stays},
		{"a UNSELECT Work", Client{}, caps, Stays},
		{"a CLOSE", Client{}, caps, LeavesSelected},
		{"a CLOSE", Client{Mailbox: Mailbox{ReadOnly: true}}, caps, Leaves},
		{"a CLOSE it", Client{}, caps, Stays},
		{"a STATUS Work (MESSAGES)", Client{}, caps, Stays},
		{"a LOGOUT", Client{}, caps, Stays},
	} {
		if got := LeavingBy([]byte(c.line+"\r\n"), &c.Client, c.caps); got != c.want {
			t.Errorf("%q: %d, want %d", c.line, got, c.want)
		}
	}
	if got := LeavingBy([]byte("a SELECT Wo"), &Client{}, caps); got != Stays {
		t.Errorf("half a line: %d", got)
	}
}
