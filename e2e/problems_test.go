package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
)

// An overview looks for a proxy's problems in all places in which operators see them.
type overview struct {
	t     *testing.T
	b     *imaptest.Browser
	p     *runningProxy
	token string // the file with the admin API's; "" = none
}

func newOverview(t *testing.T, p *runningProxy, token string) *overview {
	t.Helper()
	o := &overview{t: t, b: imaptest.NewBrowser(t), p: p, token: token}
	o.b.Open(p.Admin+"/", 390)
	if token != "" {
		o.b.Await("document.getElementById('error').textContent", "A token is needed.")
		o.b.Run("document.getElementById('token').value = '" + clusterToken + "'; document.querySelector('#login button').click()")
	}
	o.b.Await("document.getElementById('state').textContent !== ''", "true")
	return o
}

// until repeats a question until it is answered without an error.
func (o *overview) until(what string, try func() error) {
	o.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // between two questions
		if err = try(); err == nil {
			return
		}
	}
	o.t.Fatalf("not %s in a minute: %v", what, err)
}

// line returns the line of imapproxy status that names a kind of problem; "": there is none.
func (o *overview) line(kind string) string {
	o.t.Helper()
	args := []string{"status", "--admin", strings.TrimPrefix(o.p.Admin, "http://")}
	if o.token != "" {
		args = append(args, "--token-file", o.token)
	}
	out, err := exec.Command(os.Getenv(proxyBinary), args...).CombinedOutput()
	if err != nil {
		o.t.Fatalf("imapproxy status: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "["+kind+"]") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// metric returns the value of the series that has a label.
func (o *overview) metric(name, label string) float64 {
	o.t.Helper()
	request, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, o.p.Admin+"/metrics", nil)
	if err != nil {
		o.t.Fatal(err)
	}
	if o.token != "" {
		request.Header.Set("Authorization", "Bearer "+clusterToken)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				o.t.Fatal(err)
			}
			return value
		}
	}
	o.t.Fatalf("there is no %s with %s (%s)", name, label, answer.Status)
	return 0
}

// has waits until imapproxy status, the metric and the page, as wide as a phone and as a desk, show a problem.
func (o *overview) has(critical bool, kind, words string) {
	o.t.Helper()
	mark, class := "problem ", "warning"
	if critical {
		mark, class = "PROBLEM ", "critical"
	}
	o.until("a problem of the kind "+kind, func() error {
		if line := o.line(kind); !strings.HasPrefix(line, mark) || !strings.Contains(line, words) {
			return fmt.Errorf("imapproxy status has %q, not %s%q", line, mark, words)
		}
		if n := o.metric("imapproxy_problems", `kind="`+kind+`"`); n < 1 {
			return fmt.Errorf("the metric of %s is %v", kind, n)
		}
		return nil
	})
	for _, width := range []int{390, 1400} {
		o.b.Open(o.p.Admin+"/", width)
		o.b.Await(fmt.Sprintf("[...document.querySelectorAll('#problems li')].some((e) => e.className === %q && e.textContent.includes(%q) && e.textContent.endsWith(%q))",
			class, words, "["+kind+"]"), "true")
		o.b.Await("document.title.startsWith('(') && document.getElementById('icon').href.match(/[a-z]+\\.svg$/)[0] !== 'well.svg' && document.getElementById('well').hidden && !document.getElementById('wrong').hidden", "true")
	}
}

// hasNot waits until no place shows a problem of this kind.
func (o *overview) hasNot(kind string) {
	o.t.Helper()
	o.until("without a problem of the kind "+kind, func() error {
		if line := o.line(kind); line != "" {
			return fmt.Errorf("imapproxy status has %q", line)
		}
		if n := o.metric("imapproxy_problems", `kind="`+kind+`"`); n != 0 {
			return fmt.Errorf("the metric of %s is %v", kind, n)
		}
		return nil
	})
	o.b.Await(fmt.Sprintf("[...document.querySelectorAll('#problems li')].some((e) => e.textContent.endsWith(%q))", "["+kind+"]"), "false")
}

// Most of the fleet fails its checks at once, a proxy dies, and Consul doesn't answer any more: operators see each of it while it lasts.
func TestTheProblemsOfAFleetAreSeen(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 3, "  isolated = \"hold\"\n")
	p := k.proxies[0]
	o := newOverview(t, p, k.token)
	stays := login(t, p, servers.User(1))

	for _, id := range []string{"d1", "d2", "d3"} {
		k.consul.TTL("service:"+id, "critical")
	}
	o.has(false, "backend_kept", "is used although discovery took it away: routing.panic_threshold keeps it")
	stays.MustOK("NOOP")
	for _, id := range []string{"d1", "d2", "d3"} {
		k.consul.TTL("service:"+id, "passing")
	}
	o.hasNot("backend_kept")

	k.proxies[1].Kill()
	o.has(false, "proxy_gone", "doesn't renew its Consul session")
	for _, other := range k.agreement(p).Proxies {
		if !other.Session {
			k.must(p, "proxies", "remove", other.ID)
		}
	}
	o.hasNot("proxy_gone")

	k.consul.Stop()
	o.has(true, "isolated", "this proxy is cut off from the others, and its logins wait")
	k.consul.Continue()
	o.hasNot("isolated")
	stays.MustOK("NOOP")
}

// A proxy that had no file descriptor left for a client says so when there are some again.
func TestALackOfDescriptorsIsSeen(t *testing.T) {
	t.Parallel()
	k, _, p := alone(t, proxyOptions{})
	var was unix.Rlimit
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 4 // fewer than are open
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", p.Plain) // the kernel accepts it
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	p.eventually(t, "short of descriptors", func() error {
		if !strings.Contains(p.Output(), syscall.EMFILE.Error()) {
			return fmt.Errorf("its log doesn't say so")
		}
		return nil
	})
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	newOverview(t, p, k.several.token).has(true, "shortage", "descriptors: the proxy itself ran out of descriptors (accept) at ")
	login(t, p, servers.User(1))
}

// Parked sessions rely on push events, and none comes for an hour; and a user's password has changed, so that the proxy can't look at their mailbox any more.
func TestTheProblemsOfParkingAreSeen(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	dove := servers.StartDovecot(t, servers.DovecotOptions{})
	var later atomic.Int64
	a := apptest.Start(t, apptest.Config{
		Backend: dove.Addr, Cert: imaptest.NewCert(t), Events: true, Park: apptest.Park{"linger": "200ms", "warm_for": "0s"}, Limits: `idle_timeout = "2h"`,
	}, app.Options{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	o := newOverview(t, &runningProxy{Admin: "http://" + a.AdminAddr()}, "")
	const users = 20
	for i := range users {
		c := imaptest.Dial(t, a.Addrs()["plain"])
		c.Login(servers.User(i+1), servers.Password)
		c.MustOK("SELECT INBOX")
		c.Idle()
	}
	o.until("watched by push events", func() error {
		if n := o.metric("imapproxy_park_mailboxes", `watch="push"`); n != users {
			return fmt.Errorf("%v mailboxes are", n)
		}
		return nil
	})
	o.hasNot("push_missing")
	later.Store(int64(61 * time.Minute))
	o.has(false, "push_missing", fmt.Sprintf("no push event has come since the start, and %d mailboxes rely on them", users))

	dove.SetPassword(t, servers.User(1), "another-22")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.p.Admin+"/v1/events",
		strings.NewReader(fmt.Sprintf(`{"user": %q, "mailbox": "INBOX"}`, servers.User(1))))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apptest.EventsToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _ = answer.Body.Close(); answer.StatusCode/100 != 2 {
		t.Fatalf("an event: %s", answer.Status)
	}
	o.has(false, "watches_lost", "watches of mailboxes with parked sessions were given up, the last one at ")
	o.hasNot("push_missing")
	later.Add(int64(11 * time.Minute))
	o.hasNot("watches_lost")
}
