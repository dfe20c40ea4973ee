package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Clients of a Dovecot whose processes are killed, which is reloaded, restarted and killed as a whole: they stay connected, each command is answered, and each
// message whose APPEND was answered OK is there once.
func TestClientsOutliveTheirBackendsRestart(t *testing.T) {
	servers.Real(t)
	s := servers.StartDovecot(t, servers.DovecotOptions{Store: "sdbox"})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "d1", Address: s.Addr}}, Linger: "10ms"})
	const busy, idling = 10, 5
	end := make(chan struct{})
	var all []*outliver
	var running sync.WaitGroup
	for i := range busy + idling {
		o := &outliver{user: s.User(i%5 + 1), n: i}
		all = append(all, o)
		o.connect(t, p.Plain)
		running.Go(func() {
			if i < busy {
				o.work(end)
			} else {
				o.idle(end)
			}
		})
	}
	// busy ones have had so many answers since.
	worked := func(n int64) {
		t.Helper()
		before := make([]int64, busy)
		for i := range before {
			before[i] = all[i].answers.Load()
		}
		p.eventually(t, "the clients' work", func() error {
			for i, n0 := range before {
				if all[i].ended.Load() == nil && all[i].answers.Load() < n0+n {
					return fmt.Errorf("client %d has had %d answers", i, all[i].answers.Load()-n0)
				}
			}
			return nil
		})
	}
	worked(3)
	for range 3 {
		for _, pid := range childrenNamed(t, s.Process.Pid(), "imap") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		worked(3)
	}
	s.Process.Stop()
	s.StartAgain(t)
	worked(5)
	s.Process.Kill()
	s.StartAgain(t)
	worked(5)
	close(end)
	running.Wait()

	stored, unsure := map[string]bool{}, map[string]bool{}
	for _, o := range all {
		if err := o.ended.Load(); err != nil {
			t.Errorf("client %d (%s): %v", o.n, o.user, *err)
		}
		for id, ok := range o.appended {
			if ok {
				stored[id] = true
			} else {
				unsure[id] = true
			}
		}
	}
	found := map[string]int{}
	for i := range 5 {
		c := imaptest.Dial(t, s.Addr)
		c.Login(s.User(i+1), servers.Password)
		c.MustOK("EXAMINE INBOX")
		for _, r := range c.MustOK("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])").Untagged {
			for _, l := range r.Literals {
				found[strings.TrimSpace(strings.TrimPrefix(string(l.Data), "Subject: "))]++
			}
		}
		c.MustOK("LOGOUT")
	}
	for id := range stored {
		if found[id] != 1 {
			t.Errorf("message %s was stored, and is there %d times", id, found[id])
		}
	}
	for id := range unsure {
		if found[id] > 1 {
			t.Errorf("message %s is there %d times", id, found[id])
		}
	}
	t.Logf("%d APPENDs were answered OK, %d NO; the longest answer took %v", len(stored), len(unsure), longest(all))
}

// childrenNamed finds the processes below one, by their program's name.
func childrenNamed(t testing.TB, parent int, name string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := bytes.Cut(b, []byte(" ("))
		program, rest, _ := bytes.Cut(rest, []byte(") "))
		f := bytes.Fields(rest)
		if len(f) < 2 || string(program) != name || string(f[1]) != strconv.Itoa(parent) {
			continue
		}
		n, err := strconv.Atoi(string(pid))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

// outliver is a client that goes on whatever its backend does.
type outliver struct {
	user     string
	n        int
	conn     *imaptest.Conn
	answers  atomic.Int64
	ended    atomic.Pointer[error]
	appended map[string]bool // by subject: whether the answer was OK
	longest  time.Duration
}

func (o *outliver) connect(t testing.TB, addr string) {
	t.Helper()
	o.appended = map[string]bool{}
	nc, err := imaptest.DialConn(context.Background(), addr, imaptest.DialOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	o.conn = nc
	if _, err := nc.Next(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"LOGIN " + o.user + " " + servers.Password, "APPEND INBOX {4+}\r\na: b", "SELECT INBOX"} {
		if r, err := o.command(line); err != nil || r.Status() != "OK" {
			t.Fatal(r, err)
		}
	}
}

// command says a command and waits for its answer.
func (o *outliver) command(line string) (imaptest.Response, error) {
	tag, begun := fmt.Sprintf("t%d", o.answers.Load()), time.Now()
	_, r, err := o.conn.Command(tag, line)
	o.longest = max(o.longest, time.Since(begun))
	o.answers.Add(1)
	return r, err
}

func (o *outliver) gone(err error) { o.ended.CompareAndSwap(nil, &err) }

// work does what mail programs do.
func (o *outliver) work(end <-chan struct{}) {
	r := rand.New(rand.NewPCG(uint64(o.n), 1))
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		default:
		}
		subject := fmt.Sprintf("%d-%d", o.n, i)
		line := []string{
			"NOOP", "UID FETCH 1:* (FLAGS)", "FETCH 1:* (UID FLAGS ENVELOPE)", `UID STORE 1:* +FLAGS.SILENT (\Seen)`, "UID SEARCH UNSEEN", "STATUS INBOX (MESSAGES UIDNEXT)",
			fmt.Sprintf("APPEND INBOX {%d+}\r\nSubject: %s\r\n\r\ntext", len(subject)+17, subject),
		}[r.IntN(7)]
		a, err := o.command(line)
		switch {
		case err != nil:
			o.gone(fmt.Errorf("%q: %w", line, err))
			return
		case a.Status() != "OK" && a.Code() != "UNAVAILABLE":
			o.gone(fmt.Errorf("%q: %s", line, a))
			return
		case strings.HasPrefix(line, "APPEND"):
			o.appended[subject] = a.Status() == "OK"
		}
	}
}

// idle waits in IDLE, and asks now and then.
func (o *outliver) idle(end <-chan struct{}) {
	for i := 0; ; i++ {
		tag := fmt.Sprintf("i%d", i)
		if err := o.conn.Send(tag + " IDLE"); err != nil {
			o.gone(err)
			return
		}
		over, done := time.NewTimer(2*time.Second), false
		for !done {
			select {
			case <-end:
				done = true
			case <-over.C:
				done = true
			default:
				if _, err := o.conn.NextWithin(100 * time.Millisecond); err != nil && !os.IsTimeout(err) {
					o.gone(err)
					return
				}
			}
		}
		if err := o.conn.Send("DONE"); err != nil {
			o.gone(err)
			return
		}
		if _, a, err := o.conn.Until(tag); err != nil || a.Status() != "OK" {
			o.gone(fmt.Errorf("DONE: %s %w", a, err))
			return
		}
		select {
		case <-end:
			return
		default:
		}
	}
}

func longest(all []*outliver) (d time.Duration) {
	for _, o := range all {
		d = max(d, o.longest)
	}
	return d
}
