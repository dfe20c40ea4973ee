package proxy

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// once closes the connection at the first of these commands, and answers the others.
func once(name string) imaptest.CommandFunc {
	var lost atomic.Bool
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if !lost.Swap(true) {
			return c.Do(imaptest.FaultClose)
		}
		if name != "" {
			return c.Send("* "+name, cmd.Tag()+" OK done")
		}
		return c.Send(cmd.Tag() + " OK done")
	}
}

// parking turns parking on: only then sessions outlive their connections.
func parking(o *Options) {
	o.Park = session.ParkOptions{Hub: park.NewHub(park.HubOptions{}), Pool: upstream.NewPool(upstream.PoolOptions{}), Linger: time.Hour}
}

// A message of another user's mailbox is expunged while it is copied to one of the user's own. Their own backend waits for the rest of
// an APPEND then: that connection is given up, and the session goes on with another.
func TestACopyToTheOwnBackendOfAMessageThatIsGone(t *testing.T) {
	s := (&sharing{cuts: true, alice: map[string]imaptest.CommandFunc{"UID": fetches(3, 2), "UID FETCH": fetches(3, 2), "FETCH": fetches(3, 2)}}).start(t, parking)
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	a := c.Cmd("COPY 1:3 mine")
	if a.Tagged.Status() != "NO" || a.Tagged.Code() != "EXPUNGEISSUED" {
		t.Errorf("%s", a)
	}
	if told := a.String(); !strings.Contains(told, `* 1 FETCH (UID 11 FLAGS (\Seen \Recent))`) || strings.Contains(told, "INTERNALDATE") {
		t.Errorf("the client is told of flags by\n%s", told)
	}
	c.MustOK("NOOP")
	c.MustOK("STATUS mine (MESSAGES)")
	c.MustOK("SELECT mine")
}

// A backend doesn't agree to the literal of a copy. The message was begun to be read from the other: that connection can be used
// further.
func TestACopyWhoseLiteralIsRefused(t *testing.T) {
	refuses := map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " NO [OVERQUOTA] full")
	}}
	texts := map[string]imaptest.CommandFunc{"UID": fetches(2, 9), "UID FETCH": fetches(2, 9), "FETCH": fetches(2, 9)}
	for _, own := range []bool{false, true} {
		s := &sharing{caps: strings.ReplaceAll(sharedCaps, "LITERAL+ ", ""), bob: texts, alice: refuses}
		selected, target := "INBOX", "shared/alice/team"
		if own {
			s.bob, s.alice, selected, target = refuses, texts, target, "mine"
		}
		c := s.start(t, parking).login("bob")
		c.MustOK("SELECT %s", selected)
		for range 2 {
			if a := c.Cmd("COPY 1:2 %s", target); a.Tagged.Status() != "NO" || a.Tagged.Code() != "OVERQUOTA" {
				t.Errorf("to the own backend: %v: %s", own, a)
			}
		}
		c.MustOK("NOOP")
	}
}

// A user's own backend is lost while they have a mailbox of another user selected, or ask for one: their session goes on with
// another connection. What only reads is sent again, what may have been done is answered NO.
func TestTheOwnBackendIsLostBesideASharedMailbox(t *testing.T) {
	s := newSharingWith(t, map[string]imaptest.CommandFunc{"STATUS": once("STATUS INBOX (MESSAGES 7)"), "CREATE": once(""), "LIST": once(`LIST () "/" INBOX`), "UNSELECT": once("")}, nil,
		parking)
	c := s.login("bob")
	if a := c.Cmd(`LIST "" "*"`); a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" { // with none selected: the relay finds another connection
		t.Errorf("%s", a)
	}
	c.MustOK("SELECT INBOX")
	c.MustOK("SELECT shared/alice/team") // deselects INBOX on a connection that is lost then
	c.MustOK("FETCH 1 FLAGS")
	if a := c.MustOK("STATUS INBOX (MESSAGES)"); len(a.Untagged) != 1 {
		t.Errorf("%s", a)
	}
	if a := c.Cmd("CREATE new"); a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" {
		t.Errorf("%s", a)
	}
	c.MustOK("CREATE new")
	s.backends[0].CloseConns()
	c.MustOK("STATUS INBOX (MESSAGES)")
	c.MustOK("FETCH 1 FLAGS")
	c.MustOK("SELECT INBOX")
	c.MustOK("NOOP")
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	s.ended(session.ReasonLogout)
}

// A client that moves messages by three commands at once must not lose what wasn't copied. A connection is lost during the first, or can't be made, or
// the first is refused.
func TestWhatComesBehindACopyWhoseBackendIsLost(t *testing.T) {
	says := func(lines ...string) imaptest.CommandFunc {
		return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(append(lines, cmd.Tag()+" OK done")...)
		}
	}
	copies, flags := once(""), says(`* 1 FETCH (UID 11 FLAGS ())`, `* 2 FETCH (UID 12 FLAGS ())`)
	fetch := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "INTERNALDATE") {
			return copies(c, cmd)
		}
		return flags(c, cmd)
	}
	own := map[string]imaptest.CommandFunc{"SELECT": says("* 2 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 13] n"), "UID SEARCH": says("* SEARCH 11 12"), "UID FETCH": fetch, "UID": fetch}
	texts := map[string]imaptest.CommandFunc{"UID": fetches(1, 9), "UID FETCH": fetches(1, 9), "FETCH": fetches(1, 9)}
	for name, c := range map[string]struct {
		s                *sharing
		selected, target string
		before           func(s *sharing)
	}{
		"the own one, where the messages are": {&sharing{bob: own}, "INBOX", "shared/alice/team", func(*sharing) {}},
		"the own one, where they go":          {&sharing{cuts: true, alice: texts, bob: map[string]imaptest.CommandFunc{"APPEND": once("")}}, "shared/alice/team", "mine", func(*sharing) {}},
		"the owner's":                         {&sharing{bob: own}, "INBOX", "shared/alice/team", func(s *sharing) { s.backends[1].Close() }},
		"none, but it is refused": {&sharing{bob: texts, alice: map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(cmd.Tag() + " NO [UNAVAILABLE] the disk is full")
		}}}, "INBOX", "shared/alice/team", func(*sharing) {}},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.s.start(t, parking)
			k := s.login("bob")
			k.MustOK("SELECT %s", c.selected)
			c.before(s)
			k.Write("a UID COPY 11 "+c.target, `b UID STORE 11 +FLAGS (\Deleted)`, "d UID EXPUNGE 11")
			for _, want := range []string{"a NO [UNAVAILABLE] {*}", "b NO [UNAVAILABLE] {*}", "d NO [UNAVAILABLE] {*}"} {
				pastFlags(t, k, want)
			}
			k.MustOK("NOOP")
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, told := range s.told {
				if slices.Contains(told, "UID STORE") || slices.Contains(told, "UID EXPUNGE") {
					t.Errorf("a backend was told %q", told)
				}
			}
		})
	}
}

// Commands that go to the own backend stand between them.
func TestWhatComesFurtherBehindACopyThatIsRefused(t *testing.T) {
	var marked atomic.Int32
	s := newSharingWith(t, map[string]imaptest.CommandFunc{"UID STORE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		marked.Add(1)
		return c.Send(cmd.Tag() + " OK done")
	}}, nil, parking)
	c := s.login("bob")
	c.MustOK("SELECT INBOX")
	s.backends[1].Close()
	c.Write("a UID COPY 11 shared/alice/team", "n NOOP", `b UID STORE 11 +FLAGS (\Deleted)`, "l LIST \"\" INBOX", "p APPEND INBOX {3+}", "abc", "e UID EXPUNGE 11")
	want := map[string]string{"a": "NO", "n": "OK", "b": "NO", "l": "OK", "p": "NO", "e": "NO"}
	for got := 0; got < len(want); {
		if r := c.Read(); r.Tag() != "*" {
			if got++; r.Status() != want[r.Tag()] {
				t.Error(r)
			}
		}
	}
	c.MustOK(`UID STORE 11 +FLAGS (\Seen)`) // the client has read the answers
	if n := marked.Load(); n != 1 {
		t.Errorf("the backend was asked to mark messages %d times", n)
	}
}

// The backend of a selected shared mailbox is lost. The session ends with a reason of its own.
func TestTheBackendOfASharedMailboxIsLost(t *testing.T) {
	s := newSharing(t, nil, nil)
	for _, idle := range []bool{false, true} {
		c := s.login("bob")
		c.MustOK("SELECT shared/alice/team")
		if idle {
			c.Idle()
		}
		s.backends[1].CloseConns()
		if !idle {
			c.Write("a NOOP")
		}
		c.Expect("* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again")
		c.ExpectEOF()
		s.ended(session.ReasonSharedLost)
	}
}

// A mailbox of another user that was opened by EXAMINE is one from which nothing is moved: nothing is copied either.
func TestAMoveFromAnExaminedMailbox(t *testing.T) {
	var copied atomic.Int32
	examine := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "INBOX") { // the proof
			return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
		}
		return c.Send("* 2 EXISTS", cmd.Tag()+" OK [READ-ONLY] done")
	}
	s := newSharing(t, map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		copied.Add(1)
		return c.Send(cmd.Tag() + " OK [APPENDUID 1 1:2] done")
	}}, map[string]imaptest.CommandFunc{"EXAMINE": examine, "FETCH": fetches(2, 9), "UID FETCH": fetches(2, 9), "UID": fetches(2, 9), "MYRIGHTS": rights("lrswite")})
	c := s.login("bob")
	c.MustOK("EXAMINE shared/alice/team")
	if a := c.Cmd("MOVE 1:2 INBOX"); a.Tagged.Status() != "NO" || a.Tagged.Code() != "READ-ONLY" {
		t.Errorf("%s", a)
	}
	if n := copied.Load(); n > 0 {
		t.Errorf("%d APPENDs", n)
	}
	c.MustOK("COPY 1:2 INBOX")
}

// rights answers MYRIGHTS, but a user who can't exist has none.
func rights(all string) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "INBOX") {
			return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
		}
		return c.Send("* MYRIGHTS team "+all, cmd.Tag()+" OK done")
	}
}

// Messages are copied one by one to the user's own mailbox, and the backend that they come from is lost within the second. What stands open at the own backend
// is a literal: nothing but the message may go into it, so no command that would undo the first copy is sent there.
func TestACopyThatIsCutOffIsNotUndoneWithinAMessage(t *testing.T) {
	got := make(chan string, 9)
	texts := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "UID FETCH 12") {
			if err := c.SendRaw("* 2 FETCH (UID 12 BODY[] {9}\r\nte"); err != nil {
				return err
			}
			return c.Do(imaptest.FaultClose)
		}
		return fetches(2, 9)(c, cmd)
	}
	appends := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		got <- cmd.Text
		return c.Sendf("%s OK [APPENDUID 1 %d] done", cmd.Tag(), len(got))
	}
	s := (&sharing{cuts: true, caps: strings.ReplaceAll(sharedCaps, "MULTIAPPEND ", ""), bob: map[string]imaptest.CommandFunc{"APPEND": appends},
		alice: map[string]imaptest.CommandFunc{"FETCH": texts, "UID FETCH": texts, "UID": texts, "MYRIGHTS": rights("lr")}}).start(t, parking)
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	c.Write("a COPY 1:2 mine")
	for {
		if r := c.Read(); r.Word(1) == "BYE" {
			break
		}
	}
	c.ExpectEOF()
	s.backends[0].Close() // after its handlers
	if n := len(got); n != 1 {
		t.Errorf("%d messages were appended", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.told[0], "SELECT") {
		t.Errorf("told: %q", s.told[0])
	}
}

// The backend of another user's mailbox refuses to expunge what was moved: the messages aren't left marked as deleted, but for those that were before.
func TestAMoveThatCanNotRemove(t *testing.T) {
	var stored sync.Map
	pieces := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		switch {
		case strings.Contains(cmd.Text, "EXPUNGE"):
			return c.Send(cmd.Tag() + " NO [INUSE] later")
		case strings.Contains(cmd.Text, "STORE"):
			stored.Store(strings.TrimPrefix(strings.TrimSpace(cmd.Text), cmd.Tag()+" "), true)
		case strings.Contains(cmd.Text, "INTERNALDATE"):
			return c.Send(`* 1 FETCH (UID 11 FLAGS () INTERNALDATE "01-Jan-2026 00:00:00 +0000")`, `* 2 FETCH (UID 12 FLAGS (\Deleted) INTERNALDATE "01-Jan-2026 00:00:00 +0000")`, cmd.Tag()+" OK done")
		case strings.Contains(cmd.Text, "BODY.PEEK"):
			return c.Send("* 1 FETCH (UID 11 BODY[] {4}", "text)", cmd.Tag()+" OK done")
		}
		return c.Send(cmd.Tag() + " OK done")
	}
	s := newSharing(t, map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " OK [APPENDUID 1 1:2] done")
	}}, map[string]imaptest.CommandFunc{"*": pieces, "MYRIGHTS": rights("lrte"), "FETCH": pieces, "UID": pieces, "UID FETCH": pieces, "UID STORE": pieces, "UID EXPUNGE": pieces})
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	if a := c.Cmd("MOVE 1:2 INBOX"); a.Tagged.Status() != "NO" {
		t.Errorf("%s", a)
	}
	for _, want := range []string{`UID STORE 11,12 +FLAGS.SILENT (\Deleted)`, `UID STORE 11 -FLAGS.SILENT (\Deleted)`} {
		if _, ok := stored.Load(want); !ok {
			t.Errorf("the backend wasn't told %s", want)
		}
	}
}

// Another user's mailboxes get no special use, which is their owner's to give, and no message whose parts would be found by the owner's names.
func TestWhatASharedMailboxIsNotCreatedWith(t *testing.T) {
	s := newSharing(t, nil, nil)
	c := s.login("bob")
	for cmd, code := range map[string]string{`CREATE shared/alice/new (USE (\Sent))`: "USEATTR", `APPEND shared/alice/team (\Seen) catenate (URL "/INBOX;UID=1")`: "CANNOT",
		"APPEND shared/alice/team CATENATE (TEXT {1+}\r\na URL \"/INBOX;UID=1\")": "CANNOT"} {
		if a := c.Cmd("%s", cmd); a.Tagged.Status() != "NO" || a.Tagged.Code() != code {
			t.Errorf("%s: %s", cmd, a)
		}
	}
	c.MustOK("CREATE shared/alice/new")
	c.MustOK("NOOP")
}

// A copy to another server may take minutes, as may a LIST of many owners' mailboxes: the client hears meanwhile that the proxy is there.
func TestAClientHearsOfALongCopy(t *testing.T) {
	t.Parallel()
	waits := func(text string) imaptest.CommandFunc {
		return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if err := c.Stall(cmd.Name); err != nil {
				return err
			}
			return c.Send(cmd.Tag() + " OK " + text)
		}
	}
	s := newSharing(t, map[string]imaptest.CommandFunc{"UID": fetches(2, 9), "UID FETCH": fetches(2, 9), "FETCH": fetches(2, 9)},
		map[string]imaptest.CommandFunc{"APPEND": waits("[APPENDUID 1 1:2] done"), "LIST": waits("done")})
	copies, lists := s.login("bob"), s.login("bob")
	copies.MustOK("SELECT INBOX")
	copies.Write("a COPY 1:2 shared/alice/team")
	lists.Write(`a LIST "" shared/*`)
	for c, name := range map[*imaptest.Client]string{copies: "APPEND", lists: "LIST"} {
		for r := c.Read(); !strings.HasPrefix(r.Text, "* OK Still here"); r = c.Read() {
			if r.Tag() == "a" {
				t.Fatalf("%s", r)
			}
		}
		s.backends[1].Fire(name)
		for r := c.Read(); r.Tag() != "a"; r = c.Read() {
		}
	}
}

// The server that messages are copied to is lost within one of them: the command is answered, and neither the session nor the proxy has lost count of its
// connections.
func TestACopyIsLostWithinAMessage(t *testing.T) {
	const size = 8 << 20
	var s *sharing
	texts := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Text, "UID FETCH 12") {
			s.backends[1].CloseConns()
			if err := c.Sendf("* 2 FETCH (UID 12 BODY[] {%d}", size); err != nil {
				return err
			}
			if err := c.SendRaw(strings.Repeat("x", size)); err != nil {
				return err
			}
			return c.Send(")", cmd.Tag()+" OK done")
		}
		return fetches(2, 9)(c, cmd)
	}
	s = newSharing(t, map[string]imaptest.CommandFunc{"UID": texts, "UID FETCH": texts, "FETCH": texts}, nil)
	c := s.login("bob")
	c.MustOK("SELECT INBOX")
	for _, verb := range []string{"COPY", "MOVE"} {
		if a := c.Cmd("%s 1:2 shared/alice/team", verb); a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" {
			t.Errorf("%s", a)
		}
	}
	c.MustOK("NOOP")
	c.MustOK("STATUS shared/alice/team (MESSAGES)")
}
