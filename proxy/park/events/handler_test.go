package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/telemetry"
)

const eventSecret = "0123456789abcdef-secret"

type eventsLab struct {
	*Handler
	queue *park.HintQueue
	log   *bytes.Buffer
	srv   *httptest.Server
}

func newEventsLab(t *testing.T, o Options) *eventsLab {
	t.Helper()
	l := &eventsLab{queue: park.NewHintQueue(park.HintQueueOptions{}), log: &bytes.Buffer{}}
	if o.Secrets == nil {
		o.Secrets = []telemetry.Secret{eventSecret}
	}
	o.Log = slog.New(slog.NewTextHandler(l.log, nil))
	var err error
	if l.Handler, err = New(o, l.queue); err != nil {
		t.Fatal(err)
	}
	l.srv = httptest.NewServer(l.Handler)
	t.Cleanup(l.srv.Close)
	return l
}

// send gives the status of an event sent with the right token unless auth says
// otherwise.
func (l *eventsLab) send(t *testing.T, method, body string, auth func(*http.Request)) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, l.srv.URL+"/v1/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if auth == nil {
		r.Header.Set("Authorization", "Bearer "+eventSecret)
	} else {
		auth(r)
	}
	resp, err := l.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestAnEventBecomesAHint(t *testing.T) {
	l := newEventsLab(t, Options{})
	for _, m := range []string{"POST", "PUT"} {
		if s := l.send(t, m, `{"user":"a","events":[{"mailbox":"Sent"}]}`, nil); s != http.StatusNoContent {
			t.Errorf("%s: %d", m, s)
		}
	}
	sameHints(t, drain(t, l.queue), park.Hint{User: "a", Mailbox: "Sent", Source: park.HintPush})
	if s := l.Stats(); s.Own != 2 || s.Hints != 2 {
		t.Errorf("%+v", s)
	}
}

func TestSendersMustKnowASecret(t *testing.T) {
	const other = "another-secret-of-24-octets"
	l := newEventsLab(t, Options{Secrets: []telemetry.Secret{eventSecret, other}})
	for _, c := range []struct {
		name  string
		auth  func(*http.Request)
		right bool
	}{
		{"none", func(*http.Request) {}, false},
		{"bearer", func(r *http.Request) { r.Header.Set("Authorization", "bearer  "+eventSecret) }, true},
		{"bearer, the other", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+other) }, true},
		{"bearer, wrong", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+eventSecret+"x") }, false},
		{"bearer, empty", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, false},
		{"basic", func(r *http.Request) { r.SetBasicAuth("anybody", eventSecret) }, true},
		{"basic, wrong", func(r *http.Request) { r.SetBasicAuth(eventSecret, "x") }, false},
		{"basic, empty", func(r *http.Request) { r.SetBasicAuth("", "") }, false},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Digest "+eventSecret) }, false},
		{"in the URL", func(r *http.Request) { r.URL.RawQuery = "token=" + eventSecret }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := http.StatusUnauthorized
			if c.right {
				want = http.StatusNoContent
			}
			if s := l.send(t, "POST", `{"user":"a"}`, c.auth); s != want {
				t.Errorf("%d, not %d", s, want)
			}
		})
	}
	if n := len(drain(t, l.queue)); n != 1 {
		t.Errorf("%d hints", n)
	}
	if strings.Contains(l.log.String(), "secret") || strings.Count(l.log.String(), "\n") != 1 {
		t.Errorf("logged:\n%s", l.log)
	}
}

func TestEventsNeedAProperSecret(t *testing.T) {
	for _, s := range [][]telemetry.Secret{nil, {""}, {"short"}, {eventSecret, ""}} {
		if _, err := New(Options{Secrets: s}, park.NewHintQueue(park.HintQueueOptions{})); err == nil {
			t.Errorf("%d secrets were enough", len(s))
		}
	}
}

func TestEventsThatAreRefused(t *testing.T) {
	l := newEventsLab(t, Options{MaxBody: 100})
	for _, c := range []struct {
		method, body string
		status       int
	}{
		{"GET", "", 405}, {"DELETE", `{"user":"a"}`, 405}, {"POST", "", 400}, {"POST", `{"user":`, 400},
		{"POST", `{"user":"a","x":"` + strings.Repeat("x", 100) + `"}`, 413},
	} {
		if s := l.send(t, c.method, c.body, nil); s != c.status {
			t.Errorf("%s %.20s: %d, not %d", c.method, c.body, s, c.status)
		}
	}
	// Without a Content-Length.
	pr, pw := io.Pipe()
	go func() { // ends with the request that reads it
		_, err := io.Copy(pw, strings.NewReader(strings.Repeat(" ", 101)))
		pw.CloseWithError(err)
	}()
	r, err := http.NewRequestWithContext(t.Context(), "POST", l.srv.URL, pr)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+eventSecret)
	resp, err := l.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if s := l.Stats(); s.Malformed != 6 || s.Hints != 0 {
		t.Errorf("%+v", s)
	}
}

func TestUsersAreMadeCanonicalAndUnwantedOnesLeftOut(t *testing.T) {
	l := newEventsLab(t, Options{
		User: func(u string) (string, error) {
			if strings.Contains(u, "!") {
				return "", errors.New("no such name")
			}
			return strings.ToLower(u) + "@d", nil
		},
		Wanted: func(u string) bool { return u != "b@d" },
	})
	for _, u := range []string{"A", "b", "c!", strings.Repeat("x", maxUserName+1)} {
		if s := l.send(t, "POST", fmt.Sprintf(`{"user":%q,"events":[{"mailbox":"inbox"}]}`, u), nil); s != http.StatusNoContent {
			t.Errorf("%.10s: %d", u, s)
		}
	}
	l.send(t, "POST", `{"event":"FlagsSet","uri":"imap://h/common"}`, nil)
	sameHints(t, drain(t, l.queue), park.Hint{User: "a@d", Mailbox: "INBOX", Source: park.HintPush})
	if s := l.Stats(); s.Hints != 1 || s.Unwanted != 1 || s.BadUser != 2 || s.Impersonal != 1 {
		t.Errorf("%+v", s)
	}
}

// TestAllIsSentOnUnderTheCanonicalName: other proxies may have sessions of users who aren't wanted here.
func TestAllIsSentOnUnderTheCanonicalName(t *testing.T) {
	var sent []string
	l := newEventsLab(t, Options{
		User: func(u string) (string, error) {
			if strings.Contains(u, "!") {
				return "", errors.New("no such name")
			}
			return strings.ToLower(u) + "@d", nil
		},
		Wanted:  func(u string) bool { return u != "b@d" },
		Forward: func(user, mailbox string) { sent = append(sent, user+" "+mailbox) },
	})
	for _, body := range []string{`{"user":"A","events":[{"mailbox":"inbox"},{"mailbox":"Sent"}]}`, `{"user":"b"}`, `{"user":"c!"}`, `{"event":"FlagsSet","uri":"imap://h/common"}`} {
		if s := l.send(t, "POST", body, nil); s != http.StatusNoContent {
			t.Errorf("%s: %d", body, s)
		}
	}
	if got := strings.Join(sent, ", "); got != "a@d INBOX, a@d Sent, b@d " {
		t.Errorf("sent on: %s", got)
	}
	sameHints(t, drain(t, l.queue), park.Hint{User: "a@d", Mailbox: "INBOX", Source: park.HintPush}, park.Hint{User: "a@d", Mailbox: "Sent", Source: park.HintPush})
}

// TestSlowSendersHoldUpNobody: those who send slowly take the readers; the next
// is told so at once, and the slow are cut off.
func TestSlowSendersHoldUpNobody(t *testing.T) {
	l := newEventsLab(t, Options{MaxReaders: 1, ReadTimeout: time.Second})
	slow, err := net.Dial("tcp", l.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", eventSecret)
	for len(l.readers) == 0 { // until the handler reads
		if l.send(t, "POST", `{"user":"a"}`, nil) == http.StatusServiceUnavailable {
			break
		}
	}
	if s := l.send(t, "POST", `{"user":"a"}`, nil); s != http.StatusServiceUnavailable {
		t.Errorf("beside a slow one: %d", s)
	}
	answer, err := io.ReadAll(slow)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("the slow one is told %q", answer)
	}
	if s := l.send(t, "POST", `{"user":"a"}`, nil); s != http.StatusNoContent {
		t.Errorf("after it: %d", s)
	}
}

// TestARefusedSenderIsAnsweredBeforeItsBody: the answer to a sender without the
// secret doesn't wait for what it may never send.
func TestARefusedSenderIsAnsweredBeforeItsBody(t *testing.T) {
	l := newEventsLab(t, Options{})
	c, err := net.Dial("tcp", l.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 401" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestAFullQueueIsNotTheSendersTrouble: no hint is taken, and each event is still answered.
func TestAFullQueueIsNotTheSendersTrouble(t *testing.T) {
	queue := park.NewHintQueue(park.HintQueueOptions{MaxHints: 1})
	e, err := New(Options{Secrets: []telemetry.Secret{eventSecret}}, queue)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		r := httptest.NewRequestWithContext(context.Background(), "POST", "/v1/events", strings.NewReader(fmt.Sprintf(`{"user":"u%d"}`, i)))
		r.SetBasicAuth("", eventSecret)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			t.Fatalf("the %dth: %d", i, w.Code)
		}
	}
	if s := queue.Stats(); s.Waiting != 2 || s.Lost != 98 {
		t.Errorf("%+v", s)
	}
}

func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	now := time.Unix(1, 0)
	l := newEventsLab(t, Options{Now: func() time.Time { return now }})
	wrong := func(r *http.Request) { r.SetBasicAuth("", "wrong") }
	for range 3 {
		l.send(t, "POST", "{}", wrong)
	}
	l.send(t, "POST", "{}", nil)
	if n := strings.Count(l.log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, one of each kind expected:\n%s", n, l.log)
	}
	now = now.Add(logEvery)
	l.send(t, "POST", "{}", wrong)
	if n := strings.Count(l.log.String(), "\n"); n != 3 {
		t.Errorf("%d lines after a minute:\n%s", n, l.log)
	}
}

func BenchmarkEvent(b *testing.B) {
	e, err := New(Options{Secrets: []telemetry.Secret{eventSecret}}, park.NewHintQueue(park.HintQueueOptions{}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(context.Background(), "POST", "/v1/events", strings.NewReader(`{"user":"u","events":[{"mailbox":"INBOX"}]}`))
		r.SetBasicAuth("", eventSecret)
		e.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// drain takes what waits, in order.
func drain(t testing.TB, q *park.HintQueue) []park.Hint {
	t.Helper()
	var hints []park.Hint
	for q.Stats().Waiting > 0 {
		h, err := q.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		hints = append(hints, h)
	}
	return hints
}

func sameHints(t testing.TB, got []park.Hint, want ...park.Hint) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
