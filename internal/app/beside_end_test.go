package app

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// process starts a process that ends only when it is killed, and stands for one of the proxy's.
func process(t testing.TB) *handover.Process {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	p, err := handover.Find(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// An older process ends, and its number is another one's by now (the test's own): the new process sees the end.
func TestTheEndOfAnOlderProcessIsSeen(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	server := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	text, _ := handingOver(t, server.Addr)
	path := file(t, text)
	old := open(t, Options{File: path})
	oldRuns := task.Start(old.Run)
	<-old.Ready()
	client := imaptest.Dial(t, old.Addrs()["plain"])
	client.Login("user1", "secret") // the old process stays for it
	fresh := open(t, Options{File: path, Trial: time.Millisecond})
	o, stands := fresh.beside.before()[0], process(t)
	o.forget()
	o.processes = []*handover.Process{stands}
	freshRuns := task.Start(fresh.Run)
	imaptest.Eventually(t, "the new process serves", old.beside.passed.Load)
	imaptest.Eventually(t, "the user is known", func() bool { return fresh.beside.table.Where("user1") == "b1" })
	end(t, old, oldRuns)
	select {
	case <-o.ended:
		t.Error("the old process lives, and counts as ended")
	default:
	}
	if err := syscall.Kill(stands.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.ended:
	case <-time.After(patience):
		t.Fatal("the end of the old process isn't seen")
	}
	if at := fresh.beside.table.Where("user1"); at != "" || len(fresh.beside.before()) > 0 {
		t.Errorf("the user counts as being at %q", at)
	}
	end(t, fresh, freshRuns)
}
