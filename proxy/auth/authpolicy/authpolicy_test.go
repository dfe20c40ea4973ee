package authpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// server is a policy server whose answers a test says.
type server struct {
	*httptest.Server
	asked chan map[string]any // each request, with its query as "query"

	mu     sync.Mutex // guards what follows
	status int        // of HTTP
	answer string
	hang   chan struct{} // requests wait until it is closed; nil: they don't
}

func start(t *testing.T, answer string) *server {
	t.Helper()
	s := &server{asked: make(chan map[string]any, 100), status: http.StatusOK, answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&said)
		said["query"], said["key"], said["type"] = r.URL.RawQuery, r.Header.Get("X-API-Key")+r.Header.Get("Authorization"), r.Header.Get("Content-Type")
		s.mu.Lock()
		status, answer, hang := s.status, s.answer, s.hang
		s.mu.Unlock()
		s.asked <- said
		if hang != nil {
			<-hang
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(status int, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer = status, answer
}

func (o Options) client(t *testing.T, url string) *Client {
	t.Helper()
	o.URL, o.HashNonce = url, "of-the-fleet"
	o.CheckBefore, o.CheckAfter, o.Report = true, true, true
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var alice = Login{
	Credentials: auth.Credentials{User: "alice", Password: "pw", Client: netip.MustParseAddr("::ffff:192.0.2.7"), TLS: true},
	Session:     "s1", Device: `"name" "x"`,
}

// The hashes of a Dovecot 2.3.19 with this nonce, which Dovecot's own client has sent.
func TestTheHashIsDovecots(t *testing.T) {
	for _, c := range []struct {
		user, password string
		bits           int
		want           string
	}{
		{"alice", "pw", 12, "0ae9"}, {"alice", "wrong", 12, "042b"}, {"refused", "pw", 12, "021e"}, {"alice@example.org", "pw", 12, "06f8"}, {"alice", "pw", 20, "0ae97c"},
		{"alice", "pw", 16, "ae97"}, {"alice", "pw", 1, "01"}, {"alice", "pw", 9, "015d"},
	} {
		o := Options{HashNonce: "nonce1", HashTruncate: c.bits}
		if got := o.hash(c.user, telemetry.Secret(c.password)); got != c.want {
			t.Errorf("%d bits for %s: %s, want %s", c.bits, c.user, got, c.want)
		}
	}
	for mech, size := range map[string]int{"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64} {
		if got := (&Options{HashMech: mech, HashNonce: "n"}).hash("alice", "pw"); len(got) != 2*size {
			t.Errorf("all of %s: %s", mech, got)
		}
	}
}

// What an answer makes of a login.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		answer string
		reject Options
		want   Answer
		failed string
	}{
		{200, `{"status":0,"msg":""}`, Options{RejectOnFail: true}, Answer{}, ""},
		{200, `{"msg":"r","status":-1,"r_attrs":{}}`, Options{}, Answer{Refused: true, Msg: "r"}, ""},
		{200, `{"status":-1,"msg":"a\nb` + "\u202e" + `"}`, Options{}, Answer{Refused: true, Msg: "a b "}, ""},
		{200, `{"status":-1,"msg":"the hash 01b2 is known"}`, Options{}, Answer{Refused: true}, ""},
		{200, `{"status":3}`, Options{}, Answer{Wait: 3 * time.Second}, ""},
		{200, `{"status":2000000000}`, Options{}, Answer{Wait: 15 * time.Second}, ""},
		{200, `{"status":-1}`, Options{LogOnly: true}, Answer{}, ""},
		{200, `{"status":9}`, Options{LogOnly: true}, Answer{}, ""},
		{200, `{"status":"ok"}`, Options{}, Answer{}, "isn't JSON"},
		{200, `{}`, Options{RejectOnFail: true}, Answer{Refused: true}, "isn't JSON"},
		{200, ``, Options{RejectOnFail: true, LogOnly: true}, Answer{}, "isn't JSON"},
		{200, `{"status":0` + strings.Repeat(" ", maxAnswer) + `}`, Options{}, Answer{}, "more than"},
		{403, `{"status":0}`, Options{RejectOnFail: true}, Answer{Refused: true}, "answers 403"},
		{302, `{"status":0}`, Options{}, Answer{}, "answers 302"},
	} {
		s := start(t, c.answer)
		s.set(c.status, c.answer)
		c.reject.HashTruncate = 12
		client := c.reject.client(t, s.URL)
		got := client.Before(t.Context(), alice)
		said := fmt.Sprint(got.Err)
		if got.Err = nil; got != c.want || (said == "<nil>") != (c.failed == "") || !strings.Contains(said, c.failed) {
			t.Errorf("%d %.40s: %+v, %s; want %+v", c.status, c.answer, got, said, c.want)
		}
		if client.State().Failures != map[bool]int{true: 1}[c.failed != ""] {
			t.Errorf("%d %.40s: %+v", c.status, c.answer, client.State())
		}
	}
}

// The server is told what Dovecot tells it.
func TestWhatTheServerIsTold(t *testing.T) {
	s := start(t, `{"status":0}`)
	o := Options{HashTruncate: 12, Header: "Authorization: Basic eDp5"}
	c := o.client(t, s.URL+"/?x=1&")
	want := map[string]any{"device_id": `"name" "x"`, "login": "alice", "protocol": "imap", "pwhash": (&Options{HashNonce: "of-the-fleet", HashTruncate: 12}).hash("alice", "pw"), "remote": "192.0.2.7", "session_id": "s1", "tls": true,
		"key": "Basic eDp5", "type": "application/json", "query": "x=1&command=allow"}
	c.After(t.Context(), alice)
	if got := <-s.asked; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told\n%v, want\n%v", got, want)
	}
	for _, ends := range [][2]bool{{true, false}, {false, false}, {false, true}} {
		c.Report(alice, ends[0], ends[1])
		want["query"], want["success"], want["policy_reject"] = "x=1&command=report", ends[0], ends[1]
		if got := <-s.asked; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("told\n%v, want\n%v", got, want)
		}
	}
	key := Options{Header: "secret"}.client(t, s.URL)
	key.Before(t.Context(), alice)
	if got := <-s.asked; got["key"] != "secret" {
		t.Errorf("without a name the header is %v", got["key"])
	}
}

// While the server doesn't answer, logins don't wait for it; after a while one of them asks again.
func TestASilentServerIsAskedSeldom(t *testing.T) {
	s := start(t, "")
	s.set(http.StatusInternalServerError, "")
	now := time.Now()
	c := Options{RejectOnFail: true, Now: func() time.Time { return now }}.client(t, s.URL)
	ask := func() (asked bool) {
		t.Helper()
		if a := c.Before(t.Context(), alice); !a.Refused || a.Err == nil {
			t.Errorf("without an answer: %+v", a)
		}
		select {
		case <-s.asked:
			return true
		default:
			return false
		}
	}
	for range failuresToPause {
		if !ask() {
			t.Fatal("not asked")
		}
	}
	if ask() {
		t.Error("asked after five failures")
	}
	if said := c.State(); said.Failures != failuresToPause || !said.Since.Equal(now) || !said.Rejects || !strings.Contains(said.Error, "500") {
		t.Errorf("%+v", said)
	}
	now = now.Add(pauseFor)
	if !ask() || ask() {
		t.Error("after the pause not exactly one login asks")
	}
	now = now.Add(pauseFor)
	s.set(http.StatusOK, `{"status":0}`)
	for range 2 {
		if a := c.Before(t.Context(), alice); a.Refused || a.Err != nil {
			t.Errorf("it answers again: %+v", a)
		}
	}
	if said := c.State(); said.Failures != 0 {
		t.Errorf("%+v", said)
	}
}

// Guessers of unknown networks whose questions hang take no place from users of known ones, and a client that leaves doesn't count
// against the server.
func TestQuestionsThatHangDelayNoKnownNetwork(t *testing.T) {
	s := start(t, `{"status":0}`)
	hang := make(chan struct{})
	s.hang = hang
	c := Options{Asking: auth.AskingOptions{AtOnce: 4, Timeout: time.Minute}}.client(t, s.URL)
	ctx, leave := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	for i := range 20 {
		guess := alice
		guess.Client = netip.AddrFrom4([4]byte{198, 51, byte(i), 1})
		gone.Go(func() {
			if a := c.Before(ctx, guess); !errors.Is(a.Err, context.Canceled) && a.Err == nil {
				t.Errorf("a question that hangs: %+v", a)
			}
		})
	}
	<-s.asked
	<-s.asked // half of the places are taken
	s.mu.Lock()
	s.hang = nil
	s.mu.Unlock()
	known := alice
	known.Known = true
	if a := c.Before(t.Context(), known); a != (Answer{}) {
		t.Errorf("a user of a known network: %+v", a)
	}
	leave()
	gone.Wait()
	close(hang)
	if said := c.State(); said.Failures != 0 {
		t.Errorf("clients that left count: %+v", said)
	}
}

// Reports wait for no login, and no login for them; too many are dropped; those that wait are sent at the end.
func TestReportsWait(t *testing.T) {
	s := start(t, `{"status":"ok"}`)
	s.asked = make(chan map[string]any, 2*maxReports)
	hang := make(chan struct{})
	s.hang = hang
	c := Options{Asking: auth.AskingOptions{AtOnce: 4, Timeout: time.Minute}}.client(t, s.URL)
	c.Report(alice, true, false)
	<-s.asked // the one sender hangs
	for range 2 * maxReports {
		c.Report(alice, true, false)
	}
	close(hang)
	c.Close()
	if n := len(s.asked); n != maxReports {
		t.Errorf("%d reports were sent of those that waited, want %d", n, maxReports)
	}
	c.Report(alice, true, false) // after the end
	if n := len(s.asked); n != maxReports {
		t.Error("a report was sent after the end")
	}
}

// What New refuses, and what Try says.
func TestMistakes(t *testing.T) {
	for _, o := range []Options{
		{URL: "ldap://127.0.0.1", HashNonce: "n"}, {URL: "http://127.0.0.1"}, {URL: "http://127.0.0.1", HashNonce: "n", Header: "a b: c"}, {URL: "http://127.0.0.1", HashNonce: "n", Header: "a:"},
	} {
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	s := start(t, `{"status":0}`)
	c := Options{}.client(t, s.URL+"/?secret=x&")
	if said, err := c.Try(t.Context()); err != nil || !strings.HasSuffix(said, " answers") {
		t.Error(said, err)
	}
	s.set(200, `{"status":-1}`)
	if said, err := c.Try(t.Context()); err != nil || !strings.Contains(said, "refuses a made-up user") {
		t.Error(said, err)
	}
	mend := func() string {
		_, err := c.Try(t.Context())
		fault, ok := errors.AsType[*auth.Fault](err)
		if !ok || strings.Contains(err.Error(), "secret") {
			t.Fatal(err)
		}
		return fault.Mend
	}
	for status, want := range map[int]string{401: "server_api_header_file", 404: "server_url", 200: "server_url"} {
		s.set(status, "x")
		if got := mend(); !strings.Contains(got, want) {
			t.Errorf("%d: %s", status, got)
		}
	}
	s.Close()
	if got := mend(); !strings.Contains(got, "start the policy server") {
		t.Error(got)
	}
	var none *Client
	none.Report(alice, true, false)
	if none.Before(t.Context(), alice) != (Answer{}) || none.After(t.Context(), alice) != (Answer{}) || none.State() != (State{}) || none.Close() != nil {
		t.Error("no client isn't nothing")
	}
}
