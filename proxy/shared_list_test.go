package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// lists answers LIST with these lines.
func lists(lines ...string) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(append(lines, cmd.Tag()+" OK done")...)
	}
}

// listed are the responses to a LIST, one in a line.
func listed(a imaptest.Answer) string {
	var b strings.Builder
	for _, r := range a.Untagged {
		b.WriteString(strings.TrimRight(r.Text, "\r\n") + "\n")
	}
	return b.String()
}

// Bob may see a mailbox of alice's three levels down, and none above it. A client that lists one level after the other finds it, and LIST with its options
// is answered as RFC 5258 has it. What bob's backend has in the namespace isn't listed: it can't be reached.
func TestListOfSharedMailboxes(t *testing.T) {
	s := newSharing(t, map[string]imaptest.CommandFunc{"LIST": lists(`* LIST (\HasNoChildren) "/" INBOX`, `* LIST (\HasNoChildren) "/" shared/alice/old`), "LSUB": lists(`* LSUB () "/" "shared/alice/old"`)},
		map[string]imaptest.CommandFunc{"LIST": lists(`* LIST (\HasNoChildren) "/" a/b/c`, `* LIST (\HasNoChildren) "/" top`)})
	c := s.login("bob")
	level := `(\Noselect \HasChildren) "/" `
	for _, q := range []struct{ cmd, want string }{
		{`LIST "" INBOX`, "* LIST (\\HasNoChildren) \"/\" INBOX\n"},
		{`LIST "" shared/%`, "* LIST " + level + "\"shared/alice\"\n"},
		{`LIST "shared/alice/" %`, "* LIST (\\HasNoChildren) \"/\" \"shared/alice/top\"\n* LIST " + level + "\"shared/alice/a\"\n"},
		{`LIST "" shared/alice/a/%`, "* LIST " + level + "\"shared/alice/a/b\"\n"},
		{`LIST "" shared/alice/a/b/%`, "* LIST (\\HasNoChildren) \"/\" \"shared/alice/a/b/c\"\n"},
		{`LIST "shared/" ""`, "* LIST (\\Noselect) \"/\" \"shared/\"\n"},
		{`LSUB "" shared/alice/%`, "* LSUB () \"/\" \"shared/alice/top\"\n* LSUB (\\Noselect) \"/\" \"shared/alice/a\"\n"},
		{`LSUB "" *`, "* LSUB () \"/\" \"shared/alice/a/b/c\"\n* LSUB () \"/\" \"shared/alice/top\"\n"},
		{`LIST (SUBSCRIBED) "" shared/alice/%`, "* LIST (\\HasNoChildren \\Subscribed) \"/\" \"shared/alice/top\"\n"},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" shared/%`, "* LIST " + level + "\"shared/alice\" (\"CHILDINFO\" (\"SUBSCRIBED\"))\n"},
		{`LIST (SPECIAL-USE) "" shared/*`, ""},
	} {
		if got := listed(c.MustOK("%s", q.cmd)); got != q.want {
			t.Errorf("%s:\n%swant\n%s", q.cmd, got, q.want)
		}
	}
	for _, cmd := range []string{"(RECURSIVEMATCH)", "(FOO)"} {
		if a := c.Cmd("%s", "LIST "+cmd+` "" shared/*`); a.Tagged.Status() != "BAD" {
			t.Errorf("%s: %s", cmd, a)
		}
	}
}

// The names of mailboxes are in UTF-8 for a client that has enabled it, and in modified UTF-7 for another one of the same user. Neither is told the other's.
func TestSharedMailboxesInBothEncodings(t *testing.T) {
	var accepting sync.Map // by connection
	enable := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		accepting.Store(c, true)
		return c.Send("* ENABLED UTF8=ACCEPT", cmd.Tag()+" OK done")
	}
	list := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		name := "&AOQ-"
		if _, utf8 := accepting.Load(c); utf8 {
			name = "ä"
		}
		return c.Send(`* LIST () "/" "`+name+`"`, cmd.Tag()+" OK done")
	}
	s := (&sharing{caps: sharedCaps + " UTF8=ACCEPT", bob: map[string]imaptest.CommandFunc{"ENABLE": enable}, alice: map[string]imaptest.CommandFunc{"ENABLE": enable, "LIST": list}}).start(t, func(*Options) {})
	plain, accepts := s.login("bob"), s.login("bob")
	accepts.MustOK("ENABLE UTF8=ACCEPT")
	for range 2 {
		if got := listed(plain.MustOK("%s", `LIST "" shared/alice/*`)); !strings.Contains(got, `"shared/alice/&AOQ-"`) {
			t.Errorf("in modified UTF-7: %s", got)
		}
		if got := listed(accepts.MustOK("%s", `LIST "" shared/alice/*`)); !strings.Contains(got, `"shared/alice/ä"`) {
			t.Errorf("in UTF-8: %s", got)
		}
	}
}

// A backend that doesn't answer is asked once by a LIST, not for each of the owners whose mail is there. Other owners' mailboxes are listed.
func TestListDoesNotWaitForABackendAgain(t *testing.T) {
	const gone = 20
	var ready atomic.Bool
	s := (&sharing{last: func(c *imaptest.BackendConn) error { return c.Do(imaptest.FaultClose) }, alice: map[string]imaptest.CommandFunc{"LIST": lists(`* LIST () "/" team`)}}).start(t, func(o *Options) {
		places := o.Placement
		o.Placement = func(ctx context.Context, user string) (string, bool, error) {
			if strings.HasPrefix(user, "gone") {
				return "b3", true, nil
			}
			return places(ctx, user)
		}
		o.Shared.Owners = func(context.Context, int) (all []string, err error) {
			for i := range gone {
				if ready.Load() { // not for the proof at the start
					all = append(all, fmt.Sprintf("gone%d", i))
				}
			}
			return append(all, "zoe", "alice", "bob"), nil
		}
	})
	c := s.login("bob")
	ready.Store(true)
	before := s.backends[2].Accepted()
	if got := listed(c.MustOK("%s", `LIST "" shared/*`)); !strings.Contains(got, "shared/alice/team") {
		t.Errorf("%s", got)
	}
	if n := s.backends[2].Accepted() - before; n == 0 || n >= gone {
		t.Errorf("%d connections to a backend that doesn't answer", n)
	}
}

// An owner whose mailboxes can't be listed, as the backend ends each connection to their mail, doesn't keep those of others at the same backend from being listed.
func TestListIsOfOtherOwnersOfTheSameBackend(t *testing.T) {
	owners := []string{"carol", "dave", "erin"}
	last := func(c *imaptest.BackendConn) error {
		var owner string
		list := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if owner == "carol" {
				return c.Do(imaptest.FaultClose)
			}
			return lists(`* LIST () "/" of-`+owner)(c, cmd)
		}
		rights := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
		}
		d := imaptest.Dialogue{LoginCaps: sharedCaps, Commands: map[string]imaptest.CommandFunc{"LIST": list, "MYRIGHTS": rights, "EXAMINE": rights}}
		d.Check = func(_ *imaptest.BackendConn, l imaptest.Login) string {
			owner = l.Authzid
			return ""
		}
		_ = d.Serve(c) // it ends connections
		return nil
	}
	s := (&sharing{last: last}).start(t, func(o *Options) {
		places := o.Placement
		o.Placement = func(ctx context.Context, user string) (string, bool, error) {
			if slices.Contains(owners, user) {
				return "b3", true, nil
			}
			return places(ctx, user)
		}
		o.Shared.Owners = func(context.Context, int) ([]string, error) { return owners, nil }
	})
	c := s.login("bob")
	got := listed(c.MustOK("%s", `LIST "" shared/*`))
	for _, owner := range owners[1:] {
		if !strings.Contains(got, "shared/"+owner+"/of-"+owner) {
			t.Errorf("none of %s's:\n%s", owner, got)
		}
	}
}
