package app

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// A proxy's page shows which of its sessions have ended, which logins fail and what has changed.
func TestThePageShowsWhatHasHappened(t *testing.T) {
	b := imaptest.NewBrowser(t)
	text := settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr) + "limits {\n  per_ip = 50\n}\n"
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
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	write(t, path, strings.Replace(text, "per_ip = 50", "per_ip = 60", 1))
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{390, 1400} {
		b.Open(fmt.Sprintf("http://%s/", a.AdminAddr()), width)
		b.Await("document.getElementById('changes').textContent.includes('limits.per_ip: 50 → 60')", "true")
		b.Await("document.getElementById('ended').textContent.includes('alicelogout')", "true")
		b.Await("document.getElementById('failing').textContent.includes('address127.0.0.11')", "true")
		b.Await("document.querySelectorAll('#bill tr').length", "3")
		b.Await("document.querySelectorAll('#tiles article').length", "8")
		b.Await("document.getElementById('config-state').textContent.endsWith(', the same as its file')", "true")
	}
	end(t, a, running)
}
