package app

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/internal/task"
)

// awaitProblem waits until a proxy has a problem of a kind whose subject and text have these words; words "": until it has none of the kind.
func awaitProblem(t *testing.T, a *App, critical bool, kind, words string) {
	t.Helper()
	eventually(t, func() error {
		all, has := a.problems(), false
		for _, p := range all {
			has = has || p.Kind == kind && (words == "" || p.Critical == critical && strings.Contains(p.Subject+": "+p.Text, words))
		}
		if has == (words == "") {
			return fmt.Errorf("%s %q isn't what there is: %+v", kind, words, all)
		}
		return nil
	})
}

// A backend whose answers are slow, and that is lost while a client waits; sessions near their limit; and push events with a wrong token: each is a problem.
func TestProblemsThatClientsCause(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	var later atomic.Int64
	slow := imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true, Changed: func(string, string) { later.Add(int64(3 * time.Second)) }})
	text := strings.Replace(settings(slow.Addr), "routing {", "routing {\n  panic_threshold = \"100%\"", 1) + "limits {\n  connections = 2\n}\npark {\n  linger = \"20m\"\n  events {\n    token_file = \"token\"\n  }\n}\n"
	path := file(t, text)
	write(t, filepath.Join(filepath.Dir(path), "token"), "of-the-backends-which-is-long-enough\n")
	a := open(t, Options{File: path, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	running := task.Start(a.Run)
	<-a.Ready()
	if all := a.problems(); len(all) > 0 {
		t.Errorf("at the start: %+v", all)
	}

	c := imaptest.Dial(t, a.Addrs()["plain"])
	c.Login("alice", "alice")
	c.MustOK("CREATE box")
	c.MustOK("SELECT box")
	for range 12 {
		c.MustOK("APPEND box {8+}\r\nA: b\r\n\r\n")
	}
	awaitProblem(t, a, false, "backend_slow", "b1: is slow: 12 of ")

	second := imaptest.Dial(t, a.Addrs()["plain"])
	second.Login("bob", "bob")
	awaitProblem(t, a, true, "sessions", "2 of at most 2 sessions")
	second.MustOK("LOGOUT")
	awaitProblem(t, a, false, "sessions", "")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.AdminAddr()+"/v1/events", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer wrong")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _ = answer.Body.Close(); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("an event with a wrong token: %s", answer.Status)
	}
	awaitProblem(t, a, false, "push_refused", "(")

	slow.Close()
	c.Write("w1 NOOP")
	awaitProblem(t, a, true, "backend_down", "b1: ")
	awaitProblem(t, a, true, "backend_down", "1 session waiting for it")
	_ = c.Close()
	end(t, a, running)
}

// Backends that are all in maintenance take no new users: status names it, and what logins are answered. Another proxy's version, and a Consul that is gone, are named too.
func TestProblemsOfAFleet(t *testing.T) {
	consul := consultest.Start(t)
	inConsul(t, consul, 2)
	imaptest.VerifyNoLeaks(t)
	var later atomic.Int64
	var apps []*App
	var tasks []*task.Task
	for _, version := range []string{"1.2", "1.1"} {
		path := file(t, strings.Replace(agreeingSettings(consul.Address(), ""), "routing {", "routing {\n  flap_damp = \"0s\"", 1))
		write(t, filepath.Join(filepath.Dir(path), "token"), "of-all-proxies\n")
		a := open(t, Options{File: path, Version: version, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
		apps, tasks = append(apps, a), append(tasks, task.Start(a.Run))
		<-a.Ready()
	}
	a := apps[0]
	awaitProblem(t, a, false, "proxy_version", "has version 1.1, this proxy has 1.2")

	stays := imaptest.Dial(t, a.Addrs()["plain"])
	stays.Login("alice", "secret")
	for _, id := range []string{"b1", "b2"} {
		consul.Maintain(id, "new disks")
	}
	awaitProblem(t, a, true, "no_backend", "no backend takes new users, since 2 backends are in maintenance, drained, or without weight: their logins are refused with NO [UNAVAILABLE]")
	refused := imaptest.Dial(t, a.Addrs()["plain"]).TryLogin("bob", "secret")
	if refused.OK() || !strings.Contains(fmt.Sprint(refused.Tagged), "NO [UNAVAILABLE]") {
		t.Errorf("a login while all are in maintenance: %s", refused.Tagged)
	}
	stays.MustOK("NOOP")
	awaitProblem(t, a, true, "no_backend", "1 in the last 5 minutes")
	consul.EndMaintenance("b1")
	awaitProblem(t, a, false, "no_backend", "")

	consul.Kill()
	later.Store(int64(3 * time.Minute))
	awaitProblem(t, a, false, "consul_silent", "Consul does")
	stays.MustOK("NOOP")
	_ = stays.Close()
	for i := range apps {
		end(t, apps[i], tasks[i])
	}
}
