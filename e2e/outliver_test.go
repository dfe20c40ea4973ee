package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// outliver is a client that goes on whatever the proxy does.
type outliver struct {
	user     string
	n        int
	conn     *imaptest.Conn
	think    time.Duration // between two commands, on average; 0: none
	answers  atomic.Int64
	refused  atomic.Int64 // of them: NO
	ended    atomic.Pointer[error]
	appended map[string]bool // by subject: whether the answer was OK
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
	tag := fmt.Sprintf("t%d", o.answers.Load())
	told, r, err := o.conn.Command(tag, line)
	if err != nil && len(told) > 0 {
		err = fmt.Errorf("%w (after %s)", err, told[len(told)-1])
	}
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
		if a.Status() != "OK" {
			o.refused.Add(1)
		}
		if o.think > 0 {
			select {
			case <-end:
			case <-time.After(time.Duration(r.Int64N(int64(2 * o.think)))): // its user reads
			}
		}
	}
}

// storedOnce checks that each message that clients were told is stored is there once, and others at most once.
func storedOnce(t testing.TB, addr string, all []*outliver) {
	t.Helper()
	subjects := regexp.MustCompile(`(?m)^Subject: (\S+)\r?$`)
	users := map[string]map[string]int{} // the messages that there are
	for _, o := range all {
		found := users[o.user]
		if found == nil {
			found = map[string]int{}
			users[o.user] = found
			c := imaptest.Dial(t, addr)
			c.Login(o.user, servers.Password)
			c.MustOK("SELECT INBOX")
			for _, r := range c.MustOK("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").Untagged {
				for _, l := range r.Literals {
					if m := subjects.FindStringSubmatch(string(l.Data)); m != nil {
						found[m[1]]++
					}
				}
			}
			c.MustOK("LOGOUT")
		}
		for subject, ok := range o.appended {
			if n := found[subject]; n > 1 || ok && n == 0 {
				t.Errorf("%s: message %s is there %d times; the client was told OK: %v", o.user, subject, n, ok)
			}
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
