package push

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// pushLua puts push.lua and the token where Dovecot's mail processes can read
// them; change edits the script.
func pushLua(t *testing.T, change func(string) string) (script, tokenFile string) {
	t.Helper()
	dir := servers.Folder(t)
	script, tokenFile = filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	lua := repository(t, "contrib/dovecot/push.lua")
	if change != nil {
		changed := change(lua)
		if changed == lua {
			t.Fatal("push.lua no longer has what this test changes in it")
		}
		lua = changed
	}
	writeFile(t, script, lua, 0o644)
	writeFile(t, tokenFile, token+"\n", 0o644)
	return script, tokenFile
}

// luaPush runs the script.
func luaPush(script, tokenFile string, urls ...string) *servers.DovecotPush {
	return &servers.DovecotPush{Script: script, TokenFile: tokenFile, URLs: urls}
}

func TestDovecotTellsOfEveryChange(t *testing.T) {
	for _, store := range []string{"sdbox", "maildir"} {
		t.Run(store, func(t *testing.T) {
			servers.Real(t)
			l := listen(t)
			script, tokenFile := pushLua(t, nil)
			_, lmtp := servers.FreeAddr(t)
			s := servers.StartDovecot(t, servers.DovecotOptions{Store: store, LMTPPort: lmtp, Push: luaPush(script, tokenFile, l.url)})
			everyChange(t, l, s, 1, "", "/", map[string]string{
				"Entw&APw-rfe/a b": "Entwürfe/a b", "a&-b": "a&b", `{c\\d`: `{c\d`, `q\"`: `q"`, "&ZeVnLIqe-": "日本語",
			})

			// One request for a change, however many messages it concerns.
			many := login(t, s, 6)
			for range 20 {
				appendTo(many, "INBOX")
			}
			many.MustOK("SELECT INBOX")
			before := l.requests()
			many.MustOK(`STORE 1:* +FLAGS (\Flagged $Many)`)
			if n := l.requests() - before; n != 1 {
				t.Errorf("%d requests for one STORE of 20 messages", n)
			}

			// A delivery, without an IMAP session.
			servers.Deliver(t, net.JoinHostPort("127.0.0.1", lmtp), servers.User(2)+"@example.org")
			l.expect("LMTP", servers.User(2)+" INBOX")

			// A master login acts as the user.
			c := imaptest.Dial(t, s.Addr)
			if a := c.Plain(servers.User(3), servers.MasterUser, servers.MasterPassword); !a.OK() {
				t.Fatal(a)
			}
			appendTo(c, "INBOX")
			l.expect("APPEND by way of the master", servers.User(3)+" INBOX")

			// What another does in a shared mailbox is told of its owner.
			owner := login(t, s, 4)
			owner.MustOK(`SETACL INBOX %s lrswipte`, servers.User(5))
			other := login(t, s, 5)
			appendTo(other, "shared/"+servers.User(4)+"/INBOX")
			l.expect("APPEND by another user", servers.User(4)+" INBOX")
		})
	}
}

// A step is a command that changes something, and what must be told of it.
type step struct {
	command string
	told    []string // mailboxes; "" = all of the user's
}

// everyChange does, as the i-th user, all that changes a mailbox, and waits for
// each to be told. prefix is what the server wants before the names, sep its
// separator; names are mailboxes to try besides, as the client writes them and
// in UTF-8.
func everyChange(t *testing.T, l *listener, s *servers.Server, i int, prefix, sep string, names map[string]string) *imaptest.Client {
	t.Helper()
	c := login(t, s, i)
	told := func(what string, mailboxes []string) {
		t.Helper()
		var hints []string
		for _, m := range mailboxes {
			hints = append(hints, strings.TrimSpace(servers.User(i)+" "+m))
		}
		l.expect(what, hints...)
		l.fresh(c, servers.User(i), prefix)
	}
	for name, canonical := range names {
		c.MustOK(`CREATE "%s%s"`, prefix, name)
		told("CREATE "+name, []string{prefix + canonical})
		appendTo(c, prefix+name)
		told("APPEND "+name, []string{prefix + canonical})
	}
	appendTo(c, "INBOX")
	told("APPEND", []string{"INBOX"})
	p1, p2 := prefix+"P1", prefix+"P2"
	for _, step := range []step{
		{`CREATE "` + p1 + `"`, []string{p1}},
		{`SELECT INBOX`, nil},
		{`STORE 1 +FLAGS (\Flagged)`, []string{"INBOX"}},
		{`STORE 1 -FLAGS (\Flagged)`, []string{"INBOX"}},
		{`STORE 1 +FLAGS (\Seen)`, []string{"INBOX"}},
		{`STORE 1 -FLAGS.SILENT (\Seen)`, []string{"INBOX"}},
		{`STORE 1 +FLAGS.SILENT ($Keyword)`, []string{"INBOX"}},
		{`STORE 1 FLAGS ()`, []string{"INBOX"}},
		{`FETCH 1 BODY[]`, []string{"INBOX"}}, // sets \Seen
		{`COPY 1 "` + p1 + `"`, []string{p1}},
		{`MOVE 1 "` + p1 + `"`, []string{p1, "INBOX"}},
		{`SELECT "` + p1 + `"`, nil},
		{`STORE 1:* +FLAGS (\Deleted)`, []string{p1}},
		{`UID EXPUNGE 1`, []string{p1}},
		{`EXPUNGE`, []string{p1}},
		{`UNSELECT`, nil},
		{`CREATE "` + p1 + sep + `below"`, []string{p1 + sep + "below"}},
		{`RENAME "` + p1 + `" "` + p2 + `"`, []string{""}}, // what is below isn't named
		{`DELETE "` + p2 + sep + `below"`, []string{p2 + sep + "below"}},
	} {
		c.MustOK("%s", step.command)
		told(step.command, step.told)
	}
	return c
}

func TestDovecotTellsOfWhatCanBeSeen(t *testing.T) {
	for _, store := range []string{"sdbox", "maildir"} {
		t.Run(store, func(t *testing.T) {
			servers.Real(t)
			l := listen(t)
			script, tokenFile := pushLua(t, nil)
			_, lmtp := servers.FreeAddr(t)
			changesAreSeen(t, l, servers.StartDovecot(t, servers.DovecotOptions{Store: store, LMTPPort: lmtp, Push: luaPush(script, tokenFile, l.url)}))
		})
	}
}

// TestDovecotIsHeldUpOnceAtMost: a proxy that takes the request and doesn't answer
// costs one command half a second, not each. What was missed is made up for.
func TestDovecotIsHeldUpOnceAtMost(t *testing.T) {
	servers.Real(t)
	l := listen(t)
	hang := make(chan struct{})
	stuck := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer close(hang)
	script, tokenFile := pushLua(t, nil)
	_, lmtp := servers.FreeAddr(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{LMTPPort: lmtp, Push: luaPush(script, tokenFile, stuck, l.url)})
	c := login(t, s, 1)
	first := appendTo(c, "INBOX")
	l.expect("APPEND, beside a proxy that hangs", servers.User(1)+" INBOX")
	if first < 400*time.Millisecond || first > 5*time.Second {
		t.Errorf("the first APPEND took %v: push.lua's time-out is half a second", first)
	}
	started := time.Now()
	for range 5 {
		appendTo(c, "INBOX")
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("five more took %v: a proxy that hangs must be left alone", took)
	}
	l.expect("APPEND, later", servers.User(1)+" INBOX")
}

// TestDovecotTellsOneOfSeveral: proxies that tell each other. The first that takes an event is the
// only one that gets it; one that doesn't is passed over; what none has taken is made up for.
func TestDovecotTellsOneOfSeveral(t *testing.T) {
	servers.Real(t)
	first, second := listen(t), listen(t)
	refuses := make(chan bool, 1)
	refuses <- false
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		no := <-refuses
		refuses <- no
		if no {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		second.events.ServeHTTP(w, r)
	})) + "/v1/events"
	script, tokenFile := pushLua(t, func(lua string) string {
		return strings.Replace(lua, "local pause_secs = 10", "local pause_secs = 1", 1)
	})
	addr, _ := servers.FreeAddr(t)
	_, lmtp := servers.FreeAddr(t)
	one := luaPush(script, tokenFile, "http://"+addr+"/v1/events", url, first.url)
	one.One = true
	s := servers.StartDovecot(t, servers.DovecotOptions{LMTPPort: lmtp, Push: one})
	c := login(t, s, 1)
	appendTo(c, "INBOX")
	second.expect("APPEND, the first being down", servers.User(1)+" INBOX")
	if n := first.requests(); n != 0 {
		t.Errorf("%d requests to one behind the one that takes them", n)
	}
	<-refuses
	refuses <- true
	appendTo(c, "Sent")
	first.expect("APPEND, the two before it refusing", servers.User(1)+" Sent")
	<-refuses
	refuses <- false
	for deadline := time.Now().Add(patience); second.queue.Stats().Waiting == 0; {
		if time.Now().After(deadline) {
			t.Fatal("one that is well again is never told again")
		}
		appendTo(c, "Sent")
	}
	second.expect("APPEND, later", servers.User(1)+" Sent")
}

// TestDovecotMakesUpForWhatAProxyMissed: the proxy is down, refuses, comes back.
func TestDovecotMakesUpForWhatAProxyMissed(t *testing.T) {
	servers.Real(t)
	l := listen(t)
	addr, _ := servers.FreeAddr(t)
	down := "http://" + addr + "/v1/events" // refused at first
	script, tokenFile := pushLua(t, func(lua string) string {
		return strings.Replace(lua, "local pause_secs = 10", "local pause_secs = 1", 1)
	})
	_, lmtp := servers.FreeAddr(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{LMTPPort: lmtp, Push: luaPush(script, tokenFile, down)})
	c := login(t, s, 1)
	if took := appendTo(c, "INBOX"); took > 5*time.Second {
		t.Errorf("APPEND beside a proxy that is down took %v", took)
	}

	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: l.events, ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }() // ends with Close below
	defer func() {
		srv.Close()
		<-done
	}()
	// Until the pause is over nothing is sent; the event after it is for all.
	for deadline := time.Now().Add(patience); l.queue.Stats().Added == 0; {
		if time.Now().After(deadline) {
			t.Fatal("it was never told again")
		}
		appendTo(c, "Sent")
	}
	l.expect("the first event that a proxy gets after it missed some", servers.User(1))
	appendTo(c, "Sent")
	l.expect("the next", servers.User(1)+" Sent")
}

// TestDovecotWithAWrongToken: the command isn't disturbed.
func TestDovecotWithAWrongToken(t *testing.T) {
	servers.Real(t)
	l := listen(t)
	script, tokenFile := pushLua(t, nil)
	writeFile(t, tokenFile, "another\n", 0o644)
	_, lmtp := servers.FreeAddr(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{LMTPPort: lmtp, Push: luaPush(script, tokenFile, l.url)})
	appendTo(login(t, s, 1), "INBOX")
	if st := l.events.Stats(); st.Unauthorized == 0 || st.Hints != 0 {
		t.Errorf("%+v", st)
	}
}

const oxToken = "the-ox-drivers-password"

// TestDovecotOXDriver: for those who have it already. It tells of deliveries
// only.
func TestDovecotOXDriver(t *testing.T) {
	t.Run("user", func(t *testing.T) { oxDriver(t, false, servers.User(1)) })
	t.Run("user from METADATA", func(t *testing.T) { oxDriver(t, true, "somebody") })
}

func oxDriver(t *testing.T, fromMetadata bool, user string) {
	servers.Real(t)
	l := listen(t)
	_, lmtp := servers.FreeAddr(t)
	url := strings.Replace(l.url, "http://", "http://dovecot:"+oxToken+"@", 1)
	s := servers.StartDovecot(t, servers.DovecotOptions{LMTPPort: lmtp, Push: &servers.DovecotPush{OX: url, OXUserFromMetadata: fromMetadata}})
	// Without this METADATA entry the driver tells nothing about the user.
	login(t, s, 1).MustOK(`SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify "user=somebody")`)
	servers.Deliver(t, net.JoinHostPort("127.0.0.1", lmtp), servers.User(1)+"@example.org")
	l.expect("LMTP", user+" INBOX")
	if st := l.events.Stats(); st.OX != 1 {
		t.Errorf("%+v", st)
	}
}
