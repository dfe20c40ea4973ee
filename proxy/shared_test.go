package proxy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/proxy/shared"
	"imapproxy/routing"
)

const sharedCaps = "IMAP4rev1 IDLE ID LITERAL+ UIDPLUS MOVE ACL NAMESPACE UNSELECT MULTIAPPEND ENABLE CONDSTORE NOTIFY METADATA QUOTA URLAUTH REPLACE"

// sharing is a proxy before bob's backend and alice's, where the mailbox team is shared with bob. Neither judges rights: what they
// are told is what the tests are about.
type sharing struct {
	*lab
	mu    sync.Mutex
	told  [2][]string      // the commands that bob's and alice's backend were told
	caps  string           // of both; "": sharedCaps
	third bool             // there is another backend like bob's
	last  imaptest.Handler // of another backend; nil: there is none
	cuts  bool             // the proxy may cut a command off at bob's backend, as it may at alice's
	alice map[string]imaptest.CommandFunc
	bob   map[string]imaptest.CommandFunc
}

// serve is a backend's side: 0 is bob's, 1 alice's.
func (s *sharing) serve(at int) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		stranger := false
		ok := func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") }
		d := imaptest.Dialogue{LoginCaps: cmp.Or(s.caps, sharedCaps), Commands: map[string]imaptest.CommandFunc{"*": ok}}
		d.Check = func(_ *imaptest.BackendConn, l imaptest.Login) string {
			switch stranger = strings.HasPrefix(l.User, "imapproxy-nobody-"); {
			case at == 0 && (l.User != "bob" || l.Password != password), at == 1 && (l.Authzid != "alice" || l.Password != password):
				return "NO [AUTHENTICATIONFAILED] wrong"
			}
			return ""
		}
		d.Commands["MYRIGHTS"] = func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if stranger {
				return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
			}
			return c.Send("* MYRIGHTS team lrswite", cmd.Tag()+" OK done")
		}
		d.Commands["EXAMINE"] = func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
		}
		for name, f := range map[int]map[string]imaptest.CommandFunc{0: s.bob, 1: s.alice}[at] {
			d.Commands[name] = f
		}
		for name, f := range d.Commands {
			d.Commands[name] = s.noting(at, f)
		}
		if err := d.Serve(c); at == 0 && !s.cuts {
			return err
		}
		return nil // the proxy may cut a command off
	}
}

// noting records commands.
func (s *sharing) noting(at int, f imaptest.CommandFunc) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		s.mu.Lock()
		s.told[at] = append(s.told[at], cmd.Name)
		s.mu.Unlock()
		return f(c, cmd)
	}
}

func newSharing(t *testing.T, bob, alice map[string]imaptest.CommandFunc) *sharing {
	t.Helper()
	return newSharingWith(t, bob, alice, func(*Options) {})
}

func newSharingWith(t *testing.T, bob, alice map[string]imaptest.CommandFunc, change func(*Options)) *sharing {
	t.Helper()
	return (&sharing{bob: bob, alice: alice}).start(t, change)
}

func (s *sharing) start(t *testing.T, change func(*Options)) *sharing {
	t.Helper()
	handlers := []imaptest.Handler{s.serve(0), s.serve(1)}
	if s.third {
		handlers = append(handlers, s.serve(0))
	}
	if s.last != nil {
		handlers = append(handlers, s.last)
	}
	s.lab = newLab(t, labOptions{storage: routing.Separate, handlers: handlers, change: func(o *Options) {
		o.Placement = func(_ context.Context, user string) (string, bool, error) {
			return map[string]string{"bob": "b1", "alice": "b2"}[user], true, nil
		}
		o.Shared = session.SharedOptions{Space: shared.Space{Prefix: "shared/"}, Password: password,
			Owners: func(context.Context, int) ([]string, error) { return []string{"alice", "bob"}, nil }}
		change(o)
	}})
	return s
}

// A connection to another user's mail gets only commands that its backend judges by the rights of the session's user: the owner's
// subscriptions, annotations, quota, URLs and what the proxy doesn't know are not for others.
func TestOnlySomeCommandsReachAnOwnersBackend(t *testing.T) {
	s := newSharing(t, nil, nil)
	c := s.login("bob")
	may := []string{"MYRIGHTS", "EXAMINE", "SELECT", "STATUS", "LIST", "APPEND", "GETACL", "SETACL", "DELETEACL", "LISTRIGHTS", "CREATE", "DELETE", "RENAME",
		"FETCH", "STORE", "SEARCH", "SORT", "THREAD", "COPY", "MOVE", "EXPUNGE", "CHECK", "CLOSE", "UNSELECT", "CANCELUPDATE", "UIDBATCHES",
		"UID FETCH", "UID STORE", "UID SEARCH", "UID SORT", "UID THREAD", "UID COPY", "UID MOVE", "UID EXPUNGE", "UID"}
	names := []string{"shared/alice/team", `"shared/alice/team"`, "INBOX", "shared/alice/team shared/alice/new", "shared/alice/team INBOX", `"" "*"`, `"" "shared/*"`,
		"1 shared/alice/team", "1 INBOX", "1:* (FLAGS)", "1 shared/alice/team (\\Seen)", "shared/alice/team (MESSAGES)", "shared/alice/team /private/comment", "(DEPTH 1) shared/alice/team /private/comment",
		"SET (mailboxes shared/alice/team (MessageNew))", "imap://bob@localhost/shared/alice/team;uid=1", "shared/alice", "shared", "shared/alice/team bob lr", "CONDSTORE", "", "ALL"}
	verbs := strings.Fields("CAPABILITY ID ENABLE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST LSUB XLIST RLIST RLSUB NAMESPACE STATUS CHECK EXPUNGE SEARCH FETCH STORE COPY MOVE REPLACE SORT THREAD ESEARCH CANCELUPDATE " +
		"GETACL SETACL DELETEACL LISTRIGHTS MYRIGHTS GETQUOTA GETQUOTAROOT SETQUOTA GETMETADATA SETMETADATA GETANNOTATION SETANNOTATION GENURLAUTH RESETKEY URLFETCH NOTIFY GETJMAPACCESS XAPPLEPUSHSERVICE XYZZY")
	verbs = append(verbs, "UID COPY", "UID MOVE", "UID REPLACE", "UID FETCH", "UID EXPUNGE", "UID XYZZY")
	for _, verb := range verbs {
		for _, args := range names {
			c.MustOK("SELECT shared/alice/team")
			if a := c.Cmd("%s", strings.TrimRight(verb+" "+args, " ")); a.Tagged.Status() == "" {
				t.Errorf("%s %s: %s", verb, args, a.Tagged)
			}
			c.MustOK("SELECT INBOX")
			c.Cmd("%s", strings.TrimRight(verb+" "+args, " "))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.told[1] {
		if !slices.Contains(may, name) && name != "ENABLE" {
			t.Errorf("the owner's backend was told %s", name)
		}
	}
	for _, name := range []string{"SUBSCRIBE", "GETMETADATA", "URLFETCH"} {
		if !slices.Contains(s.told[0], name) {
			t.Errorf("the own backend wasn't told %s", name)
		}
	}
}

// fetches answers the FETCH commands of a COPY: the messages 1 to n, of which gone isn't there any more.
func fetches(n, gone int) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "INTERNALDATE") {
			for i := 1; i <= n; i++ {
				if err := c.Sendf(`* %d FETCH (UID %d FLAGS (\Seen \Recent) INTERNALDATE "01-Jan-2026 00:00:00 +0000")`, i, i+10); err != nil {
					return err
				}
			}
		} else if !strings.Contains(cmd.Text, fmt.Sprint(gone+10)) {
			if err := c.Send("* 1 FETCH (UID 11 BODY[] {4}", "text)"); err != nil {
				return err
			}
		}
		return c.Send(cmd.Tag() + " OK done")
	}
}

// A message that is expunged while it is copied to another server has nothing copied: what the other server has of the command is
// cut off. The session goes on.
func TestACopyOfAMessageThatIsGone(t *testing.T) {
	appended := make(chan string, 9)
	s := newSharing(t, map[string]imaptest.CommandFunc{"UID": fetches(3, 2), "UID FETCH": fetches(3, 2), "FETCH": fetches(3, 2)}, map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		appended <- cmd.Text
		return c.Send(cmd.Tag() + " OK [APPENDUID 1 1:3] done")
	}})
	c := s.login("bob")
	c.MustOK("SELECT INBOX")
	a := c.Cmd("COPY 1:3 shared/alice/team")
	if a.Tagged.Status() != "NO" || !strings.Contains(a.Tagged.String(), "EXPUNGEISSUED") {
		t.Errorf("%s", a)
	}
	if told := a.String(); !strings.Contains(told, `* 1 FETCH (UID 11 FLAGS (\Seen \Recent))`) || strings.Contains(told, "INTERNALDATE") {
		t.Errorf("the client is told of flags by\n%s", told)
	}
	c.MustOK("NOOP")
	s.backends[1].Close() // after its handlers
	if len(appended) > 0 {
		t.Errorf("appended: %s", <-appended)
	}
}

// A backend that refuses the literal of an APPEND, and one that ends the connection behind it.
func TestACopyIsRefused(t *testing.T) {
	for name, f := range map[string]imaptest.CommandFunc{
		"NO [OVERQUOTA]": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(cmd.Tag() + " NO [OVERQUOTA] full")
		},
		"NO [UNAVAILABLE]": func(c *imaptest.BackendConn, _ imaptest.Command) error { return c.Do(imaptest.FaultClose) },
	} {
		s := newSharing(t, map[string]imaptest.CommandFunc{"UID": fetches(2, 9), "UID FETCH": fetches(2, 9), "FETCH": fetches(2, 9)}, map[string]imaptest.CommandFunc{"APPEND": f})
		c := s.login("bob")
		c.MustOK("SELECT INBOX")
		for _, verb := range []string{"COPY", "UID MOVE"} {
			if a := c.Cmd("%s 1:2 shared/alice/team", verb); !strings.Contains(a.Tagged.String(), name) {
				t.Errorf("%s: %s", name, a)
			}
		}
		c.MustOK("NOOP")
		s.mu.Lock()
		if slices.Contains(s.told[0], "UID EXPUNGE") || slices.Contains(s.told[0], "EXPUNGE") {
			t.Errorf("%s: messages were removed", name)
		}
		s.mu.Unlock()
	}
}

// A client that closes its connection while it uses a shared mailbox leaves nothing behind, in IDLE neither (the lab looks).
func TestAClientLeavesASharedMailbox(t *testing.T) {
	s := newSharing(t, nil, nil)
	for _, idle := range []bool{false, true} {
		c := s.login("bob")
		c.MustOK("SELECT shared/alice/team")
		if idle {
			c.Idle()
		}
		must(t, c.Close())
	}
	eventually(t, "the reason of both", func() bool { return s.closed(session.ReasonClientClosed) == 2 })
	for range 2 {
		c := s.login("bob")
		c.MustOK("SELECT shared/alice/team")
		c.Idle()
	}
	s.stop() // the proxy ends while they are selected
}

// Which backends may share mailboxes is found out when the proxy starts: a session that comes then needn't wait for it.
func TestSharingIsProvedAtTheStart(t *testing.T) {
	s := newSharing(t, nil, nil)
	s.backends[1].WaitCommand("EXAMINE")
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, command := range s.told[1] {
		if command == "EXAMINE" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("proved %d times", n)
	}
}

// Whether a paused backend may share mailboxes is asked after the pause, whether it ends by its time or sooner.
func TestSharingIsProvedAfterAPause(t *testing.T) {
	s := newSharingWith(t, nil, nil, func(o *Options) { o.Router.Pause(lasting("b2")) })
	s.backends[0].WaitAccepted(1) // bob's, who is asked about after alice
	if n := s.backends[1].Accepted(); n != 0 {
		t.Fatalf("%d connections to the paused backend were made", n)
	}
	s.router.Pause(routing.Pause{Backend: "b2", Until: time.Now().Add(10 * time.Millisecond)})
	s.backends[1].WaitCommand("EXAMINE")
}
