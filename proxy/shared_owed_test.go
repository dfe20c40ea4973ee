package proxy

import (
	"context"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/proxy/shared"
)

// owedOneAndShares is a session that is owed the EXPUNGE of its second message of four, at a proxy where mailboxes are shared.
func owedOneAndShares(t *testing.T) (*scripted, *imaptest.Client) {
	t.Helper()
	p := newScripted(t, scriptedCaps, 4, func(o *Options) {
		o.Shared = session.SharedOptions{Space: shared.Space{Prefix: "shared/"}, Password: password,
			Owners: func(context.Context, int) ([]string, error) { return []string{"bob"}, nil }}
	})
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
	c.MustOK("FETCH 3 (UID)")
	return p, c
}

// A client that is owed EXPUNGE sends a command about another user's mailbox together with another command: the own backend isn't asked about a name that
// isn't one of its own.
func TestACommandAboutASharedMailboxWhileExpungeIsOwed(t *testing.T) {
	for _, say := range []string{"STATUS shared/bob/team (MESSAGES)", "DELETE shared/bob/team", "APPEND shared/bob/team {3+}\r\nabc", "CREATE shared/bob/new"} {
		verb, _, _ := strings.Cut(say, " ")
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			p, c := owedOneAndShares(t)
			must(t, c.SendRaw("a "+say+"\r\nn NOOP\r\n"))
			pastFlags(t, c, "* 2 EXPUNGE")
			pastFlags(t, c, "a NO {*}")
			pastFlags(t, c, "n OK {*}")
			if said := p.said(verb); len(said) > 0 {
				t.Errorf("the own backend was told %q", said)
			}
		})
	}
}

// Its COPY there by number is answered NO. What it has sent behind that, before it could read the answer, removes nothing.
func TestWhatComesBehindACopyThatIsRefusedWhileExpungeIsOwed(t *testing.T) {
	p, c := owedOneAndShares(t)
	marked := p.marks()
	c.Write("a COPY 3 shared/bob/team", `b STORE 3 +FLAGS (\Deleted)`, "f FETCH 3 (UID)", "d UID EXPUNGE 3")
	for _, want := range []string{"a NO [UNAVAILABLE] {*}", "b NO [UNAVAILABLE] {*}", "f OK done", "d NO [UNAVAILABLE] {*}"} {
		pastFlags(t, c, want)
	}
	if all := marked() + strings.Join(p.said("UID EXPUNGE"), "|"); all != "" {
		t.Errorf("the backend was told %q", all)
	}
	c.MustOK(`STORE 3 +FLAGS (\Deleted)`) // the client has read the answers
	if all := marked(); !strings.HasSuffix(all, ` STORE 2 +FLAGS (\Deleted)`) {
		t.Errorf("the backend was told %q", all)
	}
}
