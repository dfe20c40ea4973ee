package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
)

// policeman is a policy server. Its answers to questions are by which one of a login it is, before or after the password.
type policeman struct {
	t       *testing.T
	url     string
	reports chan string // success and policy_reject of each

	mu            sync.Mutex // guards what follows
	before, after string     // answers; "": of status 500
	asked         map[string]int
}

func newPoliceman(t *testing.T) *policeman {
	t.Helper()
	o := &policeman{t: t, reports: make(chan string, 100), before: policyGoesOn, after: policyGoesOn, asked: map[string]int{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

const (
	policyGoesOn  = `{"status":0}`
	policyRefuses = `{"status":-1,"msg":"the policy says no"}`
	policyWaits   = `{"status":3}`
)

func (o *policeman) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	said := struct {
		Session      string `json:"session_id"`
		Hash         string `json:"pwhash"`
		Success      bool   `json:"success"`
		PolicyReject bool   `json:"policy_reject"`
		Login        string `json:"login"`
	}{}
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil || said.Hash == "" || said.Session == "" || said.Login == "" {
		o.t.Errorf("not a login: %+v, %v", said, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	answer := `{"status":"ok"}`
	if r.URL.RawQuery == "command=allow" {
		answer = o.before
		if o.asked[said.Session]++; o.asked[said.Session]%2 == 0 {
			answer = o.after
		}
	} else {
		o.reports <- fmt.Sprint(said.Success, " ", said.PolicyReject)
	}
	if answer == "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	fmt.Fprint(w, answer)
}

func (o *policeman) says(before, after string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before, o.after, o.asked = before, after, map[string]int{}
}

// of has a proxy ask it.
func (o *policeman) of(more authpolicy.Options) func(*Options) {
	more.URL, more.HashNonce, more.HashTruncate = o.url, "of-the-fleet", 12
	more.CheckBefore, more.CheckAfter, more.Report = true, true, true
	client, err := authpolicy.New(more)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { client.Close() }) // after the lab's end
	return func(opts *Options) { opts.Policy = client }
}

// ends are what a client hears of a login after the command, and what the server is told.
func (l *lab) ends(o *policeman, command string) (heard, told string) {
	l.t.Helper()
	c := l.dial(plain)
	defer c.Close()
	c.Write(command)
	for {
		r := c.Read()
		heard += strings.TrimRight(r.Text, "\r\n") + "\n"
		switch r.Tag() {
		case "+":
			c.Write("AQ==")
		case "a1":
			select {
			case told = <-o.reports:
			case <-time.After(10 * time.Second):
				told = "nothing"
			}
			return heard, told
		}
	}
}

// A refusal by the policy server, before the password is checked and after, is told as a wrong password is, and leaves nothing behind; the
// server is told how each login ended.
func TestAPolicysRefusalLooksLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	limits := session.Limits{PerUser: 1, AuthFailureDelay: -1}
	for name, how := range map[string]struct {
		start        func(t *testing.T, policy func(*Options)) *lab
		right, wrong string // "": each is right
	}{
		"by the backend": {func(t *testing.T, policy func(*Options)) *lab {
			return newLab(t, labOptions{limits: limits, change: policy})
		}, "a1 LOGIN alice " + password, "a1 LOGIN alice wrong"},
		"by a source": {func(t *testing.T, policy func(*Options)) *lab {
			return newLab(t, labOptions{limits: limits, change: func(o *Options) {
				policy(o)
				o.Sources = []auth.Source{&changeable{verdict: auth.Accepted{}}}
			}})
		}, "a1 LOGIN alice " + password, ""},
		"by a token": {func(t *testing.T, policy func(*Options)) *lab {
			p, _ := newTokens(t, policy, func(o *Options) { o.Limits = limits })
			return p.lab
		}, "a1 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", password), "a1 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", "wrong")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newPoliceman(t)
			l := how.start(t, o.of(authpolicy.Options{}))
			wrong := "a1 NO [AUTHENTICATIONFAILED] Authentication failed\n"
			if how.wrong != "" {
				var told string
				if wrong, told = l.ends(o, how.wrong); told != "false false" || !strings.Contains(wrong, "a1 NO [AUTHENTICATIONFAILED]") {
					t.Errorf("a wrong password: told %s, heard %s", told, wrong)
				}
			}
			for _, at := range [][2]string{{policyRefuses, policyGoesOn}, {policyGoesOn, policyRefuses}, {policyRefuses, policyRefuses}} {
				o.says(at[0], at[1])
				if heard, told := l.ends(o, how.right); heard != wrong || told != "false true" {
					t.Errorf("%v: heard %q, want %q; told %s", at, heard, wrong, told)
				}
			}
			for _, at := range []string{"", policyGoesOn} { // no answer: it fails open
				o.says(at, policyGoesOn)
				if heard, told := l.ends(o, how.right); !strings.Contains(heard, "a1 OK ") || told != "true false" {
					t.Errorf("%q: heard %q, told %s", at, heard, told)
				}
				eventually(t, "the session has ended", func() bool { return l.srv.Status().Sessions == 0 })
			}
			if n := l.metric("imapproxy_login_failures_total", `reason="policy_refused"`); n != 3 {
				t.Errorf("%v refusals are counted", n)
			}
			if line := l.logs.wait(t, "login refused by the policy server"); !strings.Contains(line, "the policy says no") {
				t.Error(line)
			}
			eventually(t, "no backend connection is left", func() bool { return l.metric("imapproxy_backend_connections", `kind="session"`) == 0 })
		})
	}
}

// Before a refusal no source is asked.
func TestAPolicysRefusalComesBeforeThePassword(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	policy := o.of(authpolicy.Options{RejectOnFail: true})
	l := newLab(t, labOptions{change: func(opts *Options) {
		policy(opts)
		opts.Sources = []auth.Source{&changeable{verdict: auth.Unavailable{Err: fmt.Errorf("it is asked")}}}
	}})
	for _, c := range []struct{ before, code, reason string }{{policyRefuses, "AUTHENTICATIONFAILED", "policy_refused"}, {"", "UNAVAILABLE", "unavailable"}} {
		o.says(c.before, policyGoesOn)
		client := l.dial(plain)
		if a := client.TryLogin("alice", password); a.Tagged.Code() != c.code {
			t.Errorf("%q: %s", c.before, a.Tagged)
		}
		client.Close()
		l.logs.wait(t, "reason="+c.reason)
	}
	if said := l.logs.String(); strings.Contains(said, "it is asked") {
		t.Error("the source was asked")
	}
}

// Where logins are refused while the server doesn't answer, a right password is told as a wrong one: otherwise a guesser would know it.
func TestASilentPolicyDoesntShowThatAPasswordIsRight(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	l := newLab(t, labOptions{change: o.of(authpolicy.Options{RejectOnFail: true})})
	o.says(policyGoesOn, "")
	if heard, told := l.ends(o, "a1 LOGIN alice "+password); !strings.Contains(heard, "AUTHENTICATIONFAILED") || told != "false true" {
		t.Errorf("heard %s, told %s", heard, told)
	}
}

// What isn't about the password isn't reported.
func TestOutagesAreNotReported(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	policy := o.of(authpolicy.Options{})
	source := &changeable{verdict: auth.Unavailable{Err: fmt.Errorf("down")}}
	l := newLab(t, labOptions{change: func(opts *Options) { policy(opts); opts.Sources = []auth.Source{source} }})
	c := l.dial(plain)
	c.TryLogin("alice", password)
	c.TryLogin("@alice", password) // not a name: the server isn't asked
	source.set(auth.Accepted{})
	if a := c.TryLogin("alice", password); !a.OK() {
		t.Fatal(a.Tagged)
	}
	if told := <-o.reports; told != "true false" {
		t.Errorf("told %s before", told)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, n := range o.asked {
		if n != 3 { // before, before and after
			t.Errorf("%s is asked about %d times", id, n)
		}
	}
}

// A login that the policy delays waits among the guesses, before the password and after; a refusal counts as a wrong password in the delays
// that follow, so that they don't show which password was right.
func TestAPolicysDelays(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	waited := make(chan time.Duration, 100)
	policy := o.of(authpolicy.Options{})
	l := newLab(t, labOptions{limits: session.Limits{AuthFailureDelay: time.Nanosecond}, change: func(opts *Options) {
		policy(opts)
		opts.Guessing.Longest = longestGuess
		opts.Guard = guessing.New(guessing.Options{Sleep: func(_ context.Context, d time.Duration) error {
			waited <- d
			return nil
		}})
	}})
	for _, at := range [][2]string{{policyWaits, policyGoesOn}, {policyGoesOn, policyWaits}} {
		o.says(at[0], at[1])
		if heard, _ := l.ends(o, "a1 LOGIN alice "+password); !strings.Contains(heard, "a1 OK ") {
			t.Error(heard)
		}
		if d := <-waited; d != 3*time.Second {
			t.Errorf("%v: it waited for %v", at, d)
		}
	}
	if n := l.metric("imapproxy_login_delays_total", `by="policy"`); n != 2 {
		t.Errorf("%v delays are counted", n)
	}
	for i := 0; len(waited) == 0; i++ {
		if i == 20 {
			t.Fatal("20 refusals of right passwords delay no login")
		}
		o.says(policyGoesOn, policyRefuses)
		c := guesser(t, l, 9)
		if _, r, err := c.Command("a1", fmt.Sprintf("LOGIN user%d %s", i, password)); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
			t.Fatal(r, err)
		}
		c.Close()
	}
}

// A client that leaves while the policy has it wait leaves nothing behind.
func TestAClientLeavesDuringAPolicysDelay(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	waiting := make(chan time.Duration, 10)
	policy := o.of(authpolicy.Options{})
	l := newLab(t, labOptions{limits: session.Limits{PreloginTimeout: 2 * time.Second}, change: func(opts *Options) {
		policy(opts)
		opts.Guard = guessing.New(guessing.Options{Sleep: func(ctx context.Context, d time.Duration) error {
			waiting <- d
			<-ctx.Done()
			return context.Cause(ctx)
		}})
	}})
	o.says(policyGoesOn, policyWaits)
	c := l.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	if d := <-waiting; d != time.Second/2 { // a quarter of the time for logins
		t.Errorf("it waits for %v", d)
	}
	if r := c.Read(); r.Status() != "BYE" {
		t.Errorf("when the time is over: %s", r)
	}
	eventually(t, "nothing is left", func() bool {
		return l.metric("imapproxy_backend_connections", `kind="session"`) == 0 && l.srv.Status().Sessions == 0
	})
	if n := l.metric("imapproxy_pinned_users"); n > 1 {
		t.Errorf("%v pins", n)
	}
}

// SCRAM has the same steps, whatever the policy says.
func TestAPolicysRefusalOfSCRAM(t *testing.T) {
	t.Parallel()
	o := newPoliceman(t)
	p, _ := newScram(t, o.of(authpolicy.Options{}))
	steps := func(secret string) string {
		t.Helper()
		c := p.dial(implicit)
		defer c.Close()
		sent, answer := byScram(t, c, "SCRAM-SHA-256", "alice", secret, scram.ChannelBinding{}, true)
		return fmt.Sprint(len(sent), " ", answer.Text)
	}
	wrong := steps("wrong")
	if told := <-o.reports; told != "false false" {
		t.Errorf("of a wrong password: %s", told)
	}
	o.says(policyRefuses, policyGoesOn)
	if got := steps(password); got != wrong {
		t.Errorf("refused before: %q, want %q", got, wrong)
	}
	if told := <-o.reports; told != "false true" {
		t.Errorf("of a refusal: %s", told)
	}
	o.says(policyGoesOn, policyGoesOn)
	if got := steps(password); !strings.Contains(got, " OK ") {
		t.Errorf("allowed: %s", got)
	}
	if told := <-o.reports; told != "true false" {
		t.Errorf("of a login: %s", told)
	}
}
