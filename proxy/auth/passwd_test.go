package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/telemetry"
)

const (
	fast     = "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e" // of "correct horse"
	password = "correct horse"
)

var lower = Names{Lowercase: true}

func TestParsePasswd(t *testing.T) {
	src := strings.Join([]string{
		"# users",
		"",
		"Alice@Example.org:{BLF-CRYPT}" + fast + ":5000:5000:Alice A.:/home/alice:/bin/sh:backend=b1 userdb_mail=maildir:~/Maildir  nodelay",
		"bob:{PLAIN}bob\r",
		"carol:{PLAIN}with space::::::backend=b2",
		"dave:",
		"erin:!" + fast + "::::::backend=b3",
		"frank:" + fast + "::::::nologin=y backend=b4",
		"grace:" + fast + "::::::pass=hunter2 USERDB_pass=hunter2",
		"   ",
		"heidi:{PLAIN}no newline at the end",
	}, "\n")
	got, err := parsePasswd("f", []byte(src), lower)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.users) != 8 {
		t.Errorf("%d users", len(got.users))
	}
	for user, want := range map[string]struct {
		password, placement string
		line                int
		extra               map[string]string
	}{
		"alice@example.org": {password, "b1", 3, map[string]string{"userdb_mail": "maildir:~/Maildir", "nodelay": ""}},
		"bob":               {"bob", "", 4, nil},
		"carol":             {"with space", "b2", 5, nil},
		"dave":              {"", "", 6, nil},
		"erin":              {"", "b3", 7, nil},
		"frank":             {"", "b4", 8, map[string]string{"nologin": "y"}},
		"grace":             {password, "", 9, nil},
		"heidi":             {"no newline at the end", "", 11, nil},
	} {
		e := got.users[user]
		if e == nil {
			t.Errorf("no %s", user)
			continue
		}
		if e.placement != want.placement || e.line != want.line || !maps.Equal(e.extraMap(), want.extra) {
			t.Errorf("%s: %+v %v", user, e, e.extraMap())
		}
		if want.password == "" {
			if e.password != nil {
				t.Errorf("%s isn't locked", user)
			}
		} else if !e.password.matches(want.password) {
			t.Errorf("%s: wrong password", user)
		}
	}
	// Most users have clear text, but an unknown user costs a hash all the same.
	if got.unknown == nil || got.unknown.class != "bcrypt/04" {
		t.Errorf("an unknown user is compared with %+v", got.unknown)
	}
}

func TestParsePasswdReportsEveryBadLine(t *testing.T) {
	src := strings.Join([]string{
		"alice:{PLAIN}alice",
		"bob",
		"carol:{SSHA}hunter2",
		"da ve:{PLAIN}hunter2",
		":{PLAIN}hunter2",
		"ALICE:{PLAIN}hunter2",
		"erin:hunter2",
		"frank:{PLAIN}f::::::nopassword",
		"grace:{PLAIN}g::::::allow_nets=10.0.0.0/8,somewhere",
		"heidi:{PLAIN}h::::::user=a user=b",
		"ivan:{PLAIN}i::::::backend=",
		"judy:{PLAIN}j::::::backend=a backend=b",
		"kim:{PLAIN}" + strings.Repeat("k", maxLine),
	}, "\n")
	table, err := parsePasswd("users.passwd", []byte(src), lower)
	if err == nil || table != nil {
		t.Fatal("taken")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 12 {
		t.Errorf("%d errors: %v", len(lines), err)
	}
	for i, want := range []string{"no password field", "{SSHA} isn't supported", "white space", "empty", "same user as in line 1",
		"no scheme", "nopassword would let the user in without a password", "allow_nets", "user: write it once", "backend=ID", "backend=ID", "longer than"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], fmt.Sprintf("users.passwd:%d: ", i+2)) || !strings.Contains(lines[i], want) {
			t.Errorf("error %d: %s, want %q", i, lines[i], want)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is shown: %v", err)
	}
	var first *LineError
	if !errors.As(err, &first) || first.Line != 2 || first.File != "users.passwd" {
		t.Errorf("%+v", first)
	}

	_, err = parsePasswd("f", []byte(strings.Repeat("bad\n", 1000)), lower)
	if n := strings.Count(err.Error(), "\n") + 1; n != maxReported+1 || !strings.Contains(err.Error(), "and 980 more") {
		t.Errorf("%d errors told: %v", n, err)
	}
	for _, empty := range []string{"", "\n", "# nobody\n"} {
		if _, err := parsePasswd("f", []byte(empty), lower); err == nil || !strings.Contains(err.Error(), "no users") {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func FuzzParsePasswd(f *testing.F) {
	f.Add("alice:{PLAIN}alice::::::backend=b1\nbob:"+fast, "example.org", true)
	for _, h := range hashes {
		f.Add("u:"+h.field, "", false)
	}
	for _, name := range hostileNames() {
		f.Add(name+":{PLAIN}"+name, "", true)
	}
	f.Fuzz(func(t *testing.T, src, domain string, fold bool) {
		names := Names{DefaultDomain: domain, Lowercase: fold}
		if names.Validate() != nil {
			return
		}
		got, err := parsePasswd("f", []byte(src), names)
		if (got == nil) == (err == nil) {
			t.Fatal("both or neither")
		}
		if err != nil {
			return
		}
		for user, e := range got.users {
			if again, err := names.Normalize(user); err != nil || again != user {
				t.Fatalf("user %q isn't canonical", user)
			}
			if e.line < 1 || e.line > strings.Count(src, "\n")+1 {
				t.Fatalf("line %d", e.line)
			}
			if e.password != nil && e.password.cheap() && e.password.matches("") {
				t.Fatalf("%q has an empty password", user)
			}
			for key := range e.extraMap() {
				if strings.Contains(key, "pass") || unsupportedExtra(key) != "" {
					t.Fatalf("extra %q", key)
				}
			}
		}
	})
}

// logged is a log that tests can read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
	got chan struct{}
}

func newLogged() *logged { return &logged{got: make(chan struct{}, 1000)} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got <- struct{}{}
	return l.buf.Write(p)
}

// take returns what was logged since the last take.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}

// testFile is a PasswdFile without its goroutine, and its file.
type testFile struct {
	t    *testing.T
	path string
	now  time.Time // the file's modification time; each write is a minute later
	log  *logged
	p    *PasswdFile
}

func newTestFile(t *testing.T, content string) *testFile {
	f := &testFile{t: t, path: filepath.Join(t.TempDir(), "users.passwd"), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), log: newLogged()}
	f.write(content)
	p, err := openPasswdFile(f.path, PasswdFileOptions{Names: lower, Log: slog.New(slog.NewTextHandler(f.log, nil)), Now: func() time.Time { return f.now.Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	f.p = p
	return f
}

func (f *testFile) write(content string) {
	f.t.Helper()
	f.now = f.now.Add(time.Minute)
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chtimes(f.path, f.now, f.now); err != nil {
		f.t.Fatal(err)
	}
}

func (f *testFile) login(user, password string) Verdict {
	f.t.Helper()
	c, err := NewCredentials(lower, MechanismPlain, "", user, telemetry.Secret(password))
	if err != nil {
		f.t.Fatal(err)
	}
	return f.p.Authenticate(context.Background(), c)
}

// want compares a verdict. An Accepted's stamp is the source's own affair.
func want(t *testing.T, got, want Verdict) {
	t.Helper()
	if a, ok := got.(Accepted); ok {
		a.Stamp = nil
		got = a
	}
	var has, wanted telemetry.Secret // %#v shows none
	if a, ok := got.(Accepted); ok {
		has = a.Password
	}
	if a, ok := want.(Accepted); ok {
		wanted = a.Password
	}
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) || has != wanted {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestPasswdFileVerdicts(t *testing.T) {
	f := newTestFile(t, "alice:"+fast+"::::::backend=b1 quota=1\nbob:{PLAIN}bob\ncarol:\n")
	if f.p.Name() != "passwd_file" || f.p.Users() != 3 {
		t.Error(f.p.Name(), f.p.Users())
	}
	want(t, f.login("Alice", password), Accepted{Placement: "b1", Extra: map[string]string{"quota": "1"}})
	want(t, f.login("alice", "wrong"), Rejected{Reason: ReasonBadPassword})
	want(t, f.login("alice", strings.Repeat("x", maxPassword+1)), Rejected{Reason: ReasonBadPassword})
	want(t, f.login("bob", "bob"), Accepted{})
	want(t, f.login("bob", "Bob"), Rejected{Reason: ReasonBadPassword})
	want(t, f.login("carol", "x"), Rejected{Reason: ReasonAccountDisabled})
	want(t, f.login("mallory", password), Unknown{})

	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("the client is gone")
	cancel(gone)
	for user, cheap := range map[string]bool{"alice": false, "carol": false, "bob": true} {
		c, _ := NewCredentials(lower, MechanismPlain, "", user, password)
		v := f.p.Authenticate(ctx, c)
		if u, ok := v.(Unavailable); ok == cheap || (ok && !errors.Is(u.Err, gone)) {
			t.Errorf("%s after the end: %#v", user, v)
		}
	}
}

func TestPasswdFileNetsOfAUser(t *testing.T) {
	f := newTestFile(t, "alice:{PLAIN}a::::::allow_nets=192.0.2.0/24,198.51.100.7,2001:db8::/32\nbob:{PLAIN}b\n")
	for client, in := range map[string]bool{
		"192.0.2.1": true, "::ffff:192.0.2.1": true, "198.51.100.7": true, "2001:db8:7::1": true, "2001:db8::1%eth0": true,
		"192.0.3.1": false, "198.51.100.8": false, "2001:db9::1": false, "127.0.0.1": false, "": false,
	} {
		c, err := NewCredentials(lower, MechanismPlain, "", "alice", "a")
		if err != nil {
			t.Fatal(err)
		}
		if client != "" {
			c.Client = netip.MustParseAddr(client)
		}
		var verdict Verdict = Rejected{Reason: ReasonAccountDisabled}
		if in {
			verdict = Accepted{}
		}
		want(t, f.p.Authenticate(t.Context(), c), verdict)
		c.Password = "wrong" // the answer doesn't say whether the network is one of the user's
		want(t, f.p.Authenticate(t.Context(), c), Rejected{Reason: ReasonBadPassword})
		c.User, c.Password = "bob", "b"
		want(t, f.p.Authenticate(t.Context(), c), Accepted{})
	}
	for _, bad := range []string{"", "192.0.2.0/33", "192.0.2.1,", "local", "::ffff:192.0.2.0/120", "10.0.0.0/8 allow_nets=0.0.0.0/0"} {
		if _, err := parsePasswd("f", []byte("alice:{PLAIN}a::::::allow_nets="+bad+"\n"), lower); err == nil || !strings.Contains(err.Error(), "allow_nets") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPasswdFileGivesAnotherName(t *testing.T) {
	names := lower
	names.DefaultDomain = "example.org"
	parse := func(lines ...string) (*PasswdFile, error) {
		table, err := parsePasswd("f", []byte(strings.Join(lines, "\n")+"\n"), names)
		p := &PasswdFile{opts: PasswdFileOptions{Hashing: NewHashing(0)}}
		p.users.Store(table)
		return p, err
	}
	p, err := parse("alice:{PLAIN}a::::::user=U17 backend=b1", "old:{PLAIN}a::::::backend=b1 user=u17", "carol:{PLAIN}c::::::user=carol@example.org backend=b2")
	if err != nil {
		t.Fatal(err)
	}
	for login, verdict := range map[string]Accepted{"alice": {User: "u17", Placement: "b1"}, "old": {User: "u17", Placement: "b1"}} {
		c, err := NewCredentials(names, MechanismPlain, "", login, "a")
		if err != nil {
			t.Fatal(err)
		}
		want(t, p.Authenticate(t.Context(), c), verdict)
	}
	for user, at := range map[string]string{"u17": "b1", "carol@example.org": "b2", "alice@example.org": "", "nobody": ""} {
		if got, known := p.Placed(user); got != at || known != (at != "") {
			t.Errorf("%s is placed at %q, %v", user, got, known)
		}
	}
	for what, lines := range map[string][]string{
		"two aliases":         {"a:{PLAIN}a::::::user=u backend=b1", "b:{PLAIN}b::::::user=u backend=b2"},
		"one without":         {"a:{PLAIN}a::::::user=u backend=b1", "b:{PLAIN}b::::::user=u"},
		"the user's own line": {"a:{PLAIN}a::::::user=u@example.org backend=b1", "u:{PLAIN}b::::::backend=b2"},
	} {
		if _, err := parse(lines...); err == nil || !strings.Contains(err.Error(), "f:2: another backend than in line 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, bad := range []string{"user=", "user=a user=b", "user=a*b"} {
		names.RefuseSeparators = "*"
		if _, err := parse("a:{PLAIN}a::::::" + bad); err == nil || !strings.Contains(err.Error(), "user: write it once") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPasswdFileReload(t *testing.T) {
	f := newTestFile(t, "alice:{PLAIN}one\n")
	quiet := func() {
		t.Helper()
		for range 3 {
			f.p.look()
		}
		if got := f.log.take(); got != "" {
			t.Errorf("logged: %s", got)
		}
	}
	quiet()

	// A change counts at the second look that finds it.
	f.write("alice:{PLAIN}two\nbob:{PLAIN}bob\n")
	f.p.look()
	want(t, f.login("alice", "one"), Accepted{})
	f.write("alice:{PLAIN}three\nbob:{PLAIN}bob\n")
	f.p.look()
	want(t, f.login("alice", "one"), Accepted{})
	f.p.look()
	want(t, f.login("alice", "three"), Accepted{})
	want(t, f.login("alice", "two"), Rejected{Reason: ReasonBadPassword})
	want(t, f.login("bob", "bob"), Accepted{})
	if got := f.log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "users=2 users_before=1") {
		t.Errorf("logged: %s", got)
	}
	quiet()

	// A broken one changes nothing and is told of once, with file and line.
	f.write("alice:{PLAIN}four\nbob:hunter2\ncarol:{NONSENSE}hunter2\n")
	f.p.look()
	f.p.look()
	want(t, f.login("alice", "three"), Accepted{})
	want(t, f.login("bob", "bob"), Accepted{})
	got := f.log.take()
	if strings.Count(got, "level=ERROR") != 2 || !strings.Contains(got, f.path+":2: ") || !strings.Contains(got, f.path+":3: ") {
		t.Errorf("logged: %s", got)
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a password is logged: %s", got)
	}
	quiet()

	// Nor does one that is empty (being written), or gone (being replaced).
	f.write("")
	f.p.look()
	f.p.look()
	if got := f.log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no users in it") {
		t.Errorf("logged: %s", got)
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.p.look()
	if got := f.log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "can't be read") {
		t.Errorf("logged: %s", got)
	}
	quiet()
	want(t, f.login("alice", "three"), Accepted{})

	// By rename, with size and time as before: another file is another file.
	f.write("alice:{PLAIN}five!\n")
	f.p.look()
	f.p.look()
	want(t, f.login("alice", "five!"), Accepted{})
	want(t, f.login("bob", "bob"), Unknown{})
	f.log.take()
	path := f.path
	f.path += ".new"
	f.now = f.now.Add(-time.Minute)
	f.write("alice:{PLAIN}sixth\n")
	f.path = path
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
	f.p.look()
	f.p.look()
	want(t, f.login("alice", "sixth"), Accepted{})
	f.log.take()

	// Touched only: nothing to say.
	f.write("alice:{PLAIN}sixth\n")
	quiet()
}

// Within one tick of the file system's clock a file can change and look as it did.
func TestPasswdFileThatWasJustWrittenIsReadAgain(t *testing.T) {
	f := newTestFile(t, "alice:{PLAIN}one\n")
	p, err := openPasswdFile(f.path, PasswdFileOptions{Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	before := f.now
	f.write("alice:{PLAIN}two\n") // same size
	f.now = before
	if err := os.Chtimes(f.path, before, before); err != nil {
		t.Fatal(err)
	}
	p.look()
	p.look()
	c, _ := NewCredentials(lower, MechanismPlain, "", "alice", "two")
	want(t, p.Authenticate(context.Background(), c), Accepted{})
}

func TestPasswdFileThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("alice:{PLAIN}a\nbob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		dir:                        "not a regular file",
		os.DevNull:                 "not a regular file",
		bad:                        bad + ":2: no password field",
	} {
		p, err := NewPasswdFile(path, PasswdFileOptions{})
		if err == nil || p != nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

// The goroutine and its clock, with logins all the while: none may fail for a
// user whom every version of the file has.
func TestPasswdFileFollowsTheFileUnderLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	put := func(content string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put("alice:{PLAIN}alice\n")
	log := newLogged()
	p, err := NewPasswdFile(path, PasswdFileOptions{Poll: time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var source Source = p
	c, _ := NewCredentials(Names{}, MechanismPlain, "", "alice", "alice")
	var stop atomic.Bool
	var wait sync.WaitGroup
	wait.Go(func() {
		for !stop.Load() {
			if v, ok := source.Authenticate(context.Background(), c).(Accepted); !ok {
				t.Errorf("refused: %#v", v)
				return
			}
		}
	})
	for i := range 5 {
		put(fmt.Sprintf("alice:{PLAIN}alice\nu%d:{PLAIN}x\n", i))
		<-log.got
		if got := log.take(); !strings.Contains(got, "reloaded") {
			t.Errorf("logged: %s", got)
		}
	}
	stop.Store(true)
	wait.Wait()
	for range 2 {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHashingIsBounded(t *testing.T) {
	h := NewHashing(2)
	var wait sync.WaitGroup
	var now, most atomic.Int32
	inside, open := make(chan struct{}, 10), make(chan struct{})
	for range 10 {
		wait.Go(func() {
			ok, err := h.do(context.Background(), netip.Addr{}, false, nil, func() bool {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				inside <- struct{}{}
				<-open
				now.Add(-1)
				return true
			})
			if !ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
	<-inside
	<-inside
	// All places are taken: a waiting call returns when its context ends.
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	wait.Go(func() {
		_, err := h.do(ctx, netip.Addr{}, false, nil, func() bool { t.Error("hashed for nobody"); return true })
		left <- err
	})
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(open)
	wait.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
}
