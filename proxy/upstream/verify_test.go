package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/telemetry"
)

// realm is a backend with users, as far as the check for the intended user
// needs one.
type realm struct {
	inboxes     map[string]string // user → STATUS items; "" exists without an INBOX
	masterLogin bool              // the master may log in as themselves
	ignores     bool              // the authorization identity is ignored (Courier)
	anybody     bool              // users who don't exist are let in (Cyrus)
	creates     bool              // … and given an INBOX
	restless    bool              // mail arrives in every INBOX all the time
	fickle      bool              // each STATUS makes up a new UIDVALIDITY (Courier, never selected)
	unavailable bool              // STATUS fails for the time being
	gate        chan struct{}     // the master's own login waits for it, if not nil
	reached     chan struct{}     // gets a value when it does

	mu     sync.Mutex
	logins []string // authzid/authcid of each attempt
	tick   int
}

func (r *realm) attempts() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.logins, " ")
}

// admit decides a login and gives the user it is for.
func (r *realm) admit(authzid, authcid, password string) (user, no string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := authzid
	if strings.HasPrefix(seen, "imapproxy-nobody-") {
		_, domain, _ := strings.Cut(seen, "@")
		seen = "STRANGER@" + domain
	}
	r.logins = append(r.logins, seen+"/"+authcid)
	switch {
	case authcid == "proxy" && password != "masterpw":
		return "", "[AUTHENTICATIONFAILED] wrong"
	case r.ignores, authzid == "" && authcid == "proxy" && r.masterLogin:
		return authcid, ""
	case authzid == "":
		return "", "[AUTHENTICATIONFAILED] wrong"
	}
	if _, known := r.inboxes[authzid]; !known {
		if !r.anybody {
			return "", "[AUTHORIZATIONFAILED] no such user"
		}
		if r.creates {
			r.inboxes[authzid] = fmt.Sprintf("UIDVALIDITY %d UIDNEXT 1 MESSAGES 0", 1000+len(r.inboxes))
		}
	}
	return authzid, ""
}

func (r *realm) status(user string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	items := r.inboxes[user]
	r.tick++
	switch {
	case items == "":
	case r.restless:
		items = strings.Replace(items, "UIDNEXT ", fmt.Sprintf("UIDNEXT %d", r.tick), 1)
	case r.fickle:
		items = strings.Replace(items, "UIDVALIDITY ", fmt.Sprintf("UIDVALIDITY %d", r.tick), 1)
	}
	return items
}

func (r *realm) serve(c net.Conn) error {
	fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR OBJECTID AUTH=PLAIN] realm\r\n")
	in := bufio.NewScanner(c)
	user := ""
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch {
		case len(f) == 4 && f[1] == "AUTHENTICATE":
			raw, _ := base64.StdEncoding.DecodeString(f[3])
			part := strings.Split(string(raw), "\x00")
			if len(part) != 3 {
				return fmt.Errorf("bad PLAIN %q", raw)
			}
			if part[0] == "" && r.gate != nil {
				r.reached <- struct{}{}
				<-r.gate
			}
			var no string
			if user, no = r.admit(part[0], part[1], part[2]); no != "" {
				fmt.Fprintf(c, "%s NO %s\r\n", f[0], no)
				continue
			}
			fmt.Fprintf(c, "%s OK [CAPABILITY IMAP4rev1] in\r\n", f[0])
		case len(f) > 1 && f[1] == "STATUS":
			items := r.status(user)
			switch {
			case r.unavailable:
				fmt.Fprintf(c, "%s NO [UNAVAILABLE] later\r\n", f[0])
			case items == "":
				fmt.Fprintf(c, "%s NO Mailbox doesn't exist\r\n", f[0])
			default:
				if strings.Contains(in.Text(), "MAILBOXID") { // as Cyrus 3.6 does: memory that it has freed
					items += " MAILBOXID (\x03\xb2\n?=V)"
				}
				fmt.Fprintf(c, "* OK [ALERT] between\r\n* STATUS INBOX (%s)\r\n%s OK done\r\n", items, f[0])
			}
		case len(f) > 1 && f[1] == "LOGOUT":
			fmt.Fprintf(c, "* BYE\r\n%s OK\r\n", f[0])
			return nil
		default:
			return fmt.Errorf("unexpected %q", in.Text())
		}
	}
	return nil
}

func TestIntendedUserIsVerified(t *testing.T) {
	const mine, masters = "UIDVALIDITY 7 UIDNEXT 4 MESSAGES 3", "UIDVALIDITY 9 UIDNEXT 1 MESSAGES 0"
	for _, tc := range []struct {
		name     string
		realm    *realm
		user     string
		err      error
		attempts string
	}{
		{"Dovecot: the master isn't a user", &realm{inboxes: map[string]string{"alice": mine}}, "alice", nil,
			"alice/proxy /proxy"},
		{"the master is a user himself", &realm{inboxes: map[string]string{"alice": mine, "proxy": masters}, masterLogin: true}, "alice", nil,
			"alice/proxy /proxy"},
		{"Cyrus: the master has no INBOX", &realm{inboxes: map[string]string{"alice": mine}, masterLogin: true, anybody: true}, "alice", nil,
			"alice/proxy /proxy"},
		{"the user has no INBOX yet", &realm{inboxes: map[string]string{"alice": "", "proxy": masters}, masterLogin: true}, "alice", nil,
			"alice/proxy /proxy"},
		{"Courier: the identity is ignored", &realm{inboxes: map[string]string{"proxy": masters}, ignores: true}, "alice@example.org", ErrIntendedUser,
			"alice@example.org/proxy /proxy STRANGER@example.org/proxy"},
		{"INBOXes alike by chance, strangers refused", &realm{inboxes: map[string]string{"alice": mine, "proxy": mine}, masterLogin: true}, "alice", nil,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"INBOXes alike by chance, strangers have none", &realm{inboxes: map[string]string{"alice": mine, "proxy": mine}, masterLogin: true, anybody: true}, "alice", nil,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"INBOXes alike by chance, strangers get one", &realm{inboxes: map[string]string{"alice": mine, "proxy": mine}, masterLogin: true, anybody: true, creates: true}, "alice", nil,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"nobody has an INBOX, strangers refused", &realm{inboxes: map[string]string{"alice": ""}, masterLogin: true}, "alice", nil,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"nobody has an INBOX, strangers let in", &realm{inboxes: map[string]string{"alice": ""}, masterLogin: true, anybody: true}, "alice", ErrUnverified,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"the identity is ignored and the master has no INBOX", &realm{inboxes: map[string]string{}, ignores: true}, "alice", ErrUnverified,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"mail arrives all the time", &realm{inboxes: map[string]string{"alice": mine, "proxy": masters}, masterLogin: true, restless: true}, "alice", nil,
			"alice/proxy /proxy"},
		{"mail arrives all the time, the identity is ignored", &realm{inboxes: map[string]string{"proxy": masters}, ignores: true, restless: true}, "alice", ErrIntendedUser,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"Courier: the identity is ignored, the INBOX was never selected", &realm{inboxes: map[string]string{"proxy": masters}, ignores: true, fickle: true}, "alice", ErrIntendedUser,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"never selected, strangers refused", &realm{inboxes: map[string]string{"alice": mine, "proxy": masters}, masterLogin: true, fickle: true}, "alice", nil,
			"alice/proxy /proxy STRANGER@/proxy"},
		{"STATUS fails", &realm{inboxes: map[string]string{"alice": mine, "proxy": masters}, masterLogin: true, unavailable: true}, "alice", ErrUnverified,
			"alice/proxy /proxy"},
		{"the master logs in as himself", &realm{inboxes: map[string]string{"proxy": masters}, masterLogin: true}, "proxy", nil,
			"proxy/proxy /proxy STRANGER@/proxy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := serve(t, tc.realm.serve)
			d := newDialer(t, Options{})
			auth := boss
			auth.User = tc.user
			target := Target{ID: "b1", Address: b.addr}
			c, err := d.Login(t.Context(), target, auth, Client{})
			if !errors.Is(err, tc.err) {
				t.Fatalf("got %v, want %v", err, tc.err)
			}
			if got := tc.realm.attempts(); got != tc.attempts {
				t.Fatalf("logins %q, want %q", got, tc.attempts)
			}
			if err == nil {
				for _, line := range c.Untagged {
					if bytes.HasPrefix(line, []byte("* STATUS")) {
						t.Errorf("the client would see %q", line)
					}
				}
				_ = c.Close()
			} else {
				var down *Unavailable
				if !errors.As(err, &down) || down.Stage != StageVerify || down.BackendDown() {
					t.Fatalf("got %#v", err)
				}
			}

			// What was found out, and only that, spares the next login the search.
			before := b.connections()
			c, err = d.Login(t.Context(), target, auth, Client{})
			if !errors.Is(err, tc.err) {
				t.Fatalf("second login: %v, want %v", err, tc.err)
			}
			if c != nil {
				_ = c.Close()
			}
			more := b.connections() - before
			switch {
			case err == nil && more != 1:
				t.Errorf("the second login took %d connections", more)
			case tc.err == ErrIntendedUser && more != 0:
				t.Errorf("%d connections to a backend that mixes users up", more)
			case tc.err == ErrUnverified && more < 2:
				t.Errorf("nothing was asked again: %d connections", more)
			}
		})
	}
}

// A hundred clients at first use: one of them looks, the others wait.
func TestOneSearchServesAllWhoWait(t *testing.T) {
	r := &realm{
		inboxes: map[string]string{"alice": "UIDVALIDITY 7 UIDNEXT 4 MESSAGES 3"},
		gate:    make(chan struct{}), reached: make(chan struct{}, 100),
	}
	b := serve(t, r.serve)
	d := newDialer(t, Options{})
	var wg sync.WaitGroup
	const n = 20
	for range n {
		wg.Go(func() {
			c, err := d.Login(t.Context(), Target{ID: "b1", Address: b.addr}, boss, Client{})
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	<-r.reached
	close(r.gate)
	wg.Wait()
	if got := strings.Count(r.attempts(), " /proxy"); got != 1 {
		t.Errorf("%d searches: %s", got, r.attempts())
	}
}

// The client whose login looks goes away: another one takes over.
func TestSearchIsTakenOver(t *testing.T) {
	r := &realm{
		inboxes: map[string]string{"alice": "UIDVALIDITY 7 UIDNEXT 4 MESSAGES 3"},
		gate:    make(chan struct{}), reached: make(chan struct{}, 100),
	}
	b := serve(t, r.serve)
	d := newDialer(t, Options{})
	target := Target{ID: "b1", Address: b.addr}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := d.Login(ctx, target, boss, Client{})
		first <- err
	}()
	<-r.reached
	second := make(chan error, 1)
	go func() {
		c, err := d.Login(t.Context(), target, boss, Client{})
		if c != nil {
			_ = c.Close()
		}
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	<-r.reached
	close(r.gate)
	if err := <-second; err != nil {
		t.Errorf("second: %v", err)
	}
}

func TestFindingsAgeAndAreForgotten(t *testing.T) {
	r := &realm{inboxes: map[string]string{"proxy": "UIDVALIDITY 9 UIDNEXT 1 MESSAGES 0"}, ignores: true}
	b := serve(t, r.serve)
	now := time.Unix(1e9, 0)
	var log bytes.Buffer
	d := newDialer(t, Options{Now: func() time.Time { return now }})
	d.tel.Log = slog.New(slog.NewTextHandler(&log, nil))
	target := Target{ID: "b1", Address: b.addr}
	try := func(auth Auth) error {
		c, err := d.Login(t.Context(), target, auth, Client{})
		if c != nil {
			_ = c.Close()
		}
		return err
	}
	if err := try(boss); !errors.Is(err, ErrIntendedUser) {
		t.Fatal(err)
	}
	// The administrator mends it; a minute later it is seen.
	r.mu.Lock()
	r.ignores, r.inboxes["alice"] = false, "UIDVALIDITY 7 UIDNEXT 4 MESSAGES 3"
	r.mu.Unlock()
	now = now.Add(recheckAfter - time.Second)
	if err := try(boss); !errors.Is(err, ErrIntendedUser) {
		t.Fatalf("too early: %v", err)
	}
	now = now.Add(time.Second)
	if err := try(boss); err != nil {
		t.Fatalf("still after %v: %v", recheckAfter, err)
	}
	// Other credentials are another matter.
	wrong := boss
	wrong.MasterPassword = "other"
	var down *Unavailable
	if err := try(wrong); !errors.As(err, &down) || down.Code != "AUTHENTICATIONFAILED" {
		t.Fatalf("got %v", err)
	}
	// Honoured lasts, until the backend was away.
	now = now.Add(24 * time.Hour)
	before := b.connections()
	if err := try(boss); err != nil || b.connections()-before != 1 {
		t.Fatalf("%v, %d connections", err, b.connections()-before)
	}
	dial := d.opt.Dialer
	d.opt.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	if err := try(boss); err == nil {
		t.Fatal("logged in without a connection")
	}
	d.opt.Dialer = dial
	before = b.connections()
	if err := try(boss); err != nil || b.connections()-before != 2 {
		t.Fatalf("%v, %d connections", err, b.connections()-before)
	}
	if s := log.String(); !strings.Contains(s, "level=ERROR") || strings.Contains(s, "masterpw") {
		t.Errorf("log: %s", s)
	}
}

func TestVerifyIntendedUserForCheck(t *testing.T) {
	const mine, masters = "UIDVALIDITY 7 UIDNEXT 4 MESSAGES 3", "UIDVALIDITY 9 UIDNEXT 1 MESSAGES 0"
	for _, tc := range []struct {
		name, user, password string
		realm                *realm
		err                  error // nil with code "": honoured
		code                 string
	}{
		{"Dovecot with a user", "alice", "masterpw", &realm{inboxes: map[string]string{"alice": mine}}, nil, ""},
		{"Dovecot without", "", "masterpw", &realm{inboxes: map[string]string{}}, nil, ""},
		{"Cyrus without a user", "", "masterpw", &realm{inboxes: map[string]string{"proxy": masters}, masterLogin: true, anybody: true}, nil, ""},
		{"strangers let in, the master isn't", "", "masterpw", &realm{inboxes: map[string]string{}, anybody: true}, nil, ""},
		{"Courier without a user", "", "masterpw", &realm{inboxes: map[string]string{"proxy": masters}, ignores: true}, ErrIntendedUser, ""},
		{"wrong password, without a user", "", "guess", &realm{inboxes: map[string]string{}}, errNo, "AUTHENTICATIONFAILED"},
		{"no password at all", "", "", &realm{inboxes: map[string]string{}}, nil, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := serve(t, tc.realm.serve)
			d := newDialer(t, Options{})
			how, err := d.VerifyIntendedUser(t.Context(), Target{ID: "b1", Address: b.addr},
				Auth{User: tc.user, MasterUser: "proxy", MasterPassword: telemetry.Secret(tc.password)})
			var down *Unavailable
			switch {
			case tc.err == nil && tc.code == "":
				if err != nil || how == "" {
					t.Fatalf("%q, %v", how, err)
				}
			case !errors.As(err, &down):
				t.Fatalf("got %v", err)
			case tc.code == "none":
				if down.Stage != StageSettings {
					t.Fatalf("got %v", err)
				}
			case !errors.Is(err, tc.err) || down.Code != tc.code:
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestParseInbox(t *testing.T) {
	got := parseInbox([]byte(`* STATUS "INBOX" (messages 3 UIDNEXT 4 MAILBOXID (F22) UIDVALIDITY 7)`))
	if want := (inbox{true, "7", "4", "3"}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}
