package app

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// A proxy's page shows which of its sessions have ended, which logins fail and what has changed.
func TestThePageShowsWhatHasHappened(t *testing.T) {
	b := imaptest.NewBrowser(t)
	text := settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr) + "limits {\n  per_ip = 50\n}\ntelemetry {\n  trace_url = \"https://traces.example.org/{trace_id}\"\n  traces {\n    endpoint = \"http://127.0.0.1:9\"\n    sample   = \"100%\"\n  }\n}\n"
	path := file(t, text)
	a := open(t, Options{File: path})
	running := task.Start(a.Run)
	<-a.Ready()
	address := a.Addrs()["plain"]
	if answer := imaptest.Dial(t, address).TryLogin("", "wrong"); answer.OK() {
		t.Fatal(answer)
	}
	c := imaptest.Dial(t, address)
	c.Login("alice", "alice")
	c.MustOK("NOOP")
	api := &admin.Client{Address: a.AdminAddr(), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	sessions, err := api.Sessions(t.Context(), admin.SessionsQuery{User: "alice"})
	if err != nil || len(sessions.Sessions) != 1 {
		t.Fatal(sessions, err)
	}
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	write(t, path, strings.Replace(text, "per_ip = 50", "per_ip = 60", 1))
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := sessions.Sessions[0].ID
	for _, width := range []int{390, 1400} {
		b.Open(fmt.Sprintf("http://%s/", a.AdminAddr()), width)
		b.Await("document.getElementById('changes').textContent.includes('limits.per_ip: 50 → 60')", "true")
		b.Await("document.getElementById('ended').textContent.includes('alicelogout')", "true")
		b.Await("document.getElementById('failing').textContent.includes('address127.0.0.11')", "true")
		b.Await("document.querySelectorAll('#bill tr').length", "3")
		b.Await("document.querySelectorAll('#tiles article').length", "8")
		b.Await("document.getElementById('config-state').textContent.endsWith(', the same as its file')", "true")
	}
	// The session has ended, and what it did can still be seen.
	b.Open("about:blank", 1400)
	b.Open(fmt.Sprintf("http://%s/#session=%s", a.AdminAddr(), id), 1400)
	b.Await("document.getElementById('one-commands').textContent.includes('NOOPOK')", "true")
	b.Await("document.querySelector('#one-commands a').href.startsWith('https://traces.example.org/')", "true")
	b.Await("document.getElementById('one-attachments').textContent.includes('noneattached')", "true")
	b.Await("document.getElementById('one-attachments').textContent.includes('attachedended')", "true")
	end(t, a, running)
}
