package idlers

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"imapproxy/e2e/servers"
)

// A list is a mailbox as go-imap's client was told of it: subjects by message
// number, "" where only EXISTS was heard.
type list struct {
	mu       sync.Mutex // guards what follows
	subjects []string
	expunges int
}

func (l *list) exists(n uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.subjects) < int(n) {
		l.subjects = append(l.subjects, "")
	}
}

func (l *list) expunged(n uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expunges++
	l.subjects = slices.Delete(l.subjects, int(n)-1, int(n))
}

func (l *list) get() (subjects []string, expunges int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.subjects), l.expunges
}

func (l *list) set(n uint32, subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subjects[n-1] = subject
}

// goIMAP works by message numbers alone, and keeps count by what it is told.
func goIMAP(a *account) {
	a.seed("seed", "")
	var told list
	c, err := imapclient.DialTLS(a.l.TLS, &imapclient.Options{
		TLSConfig: a.l.Cert.Client,
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Expunge: told.expunged,
			Mailbox: func(d *imapclient.UnilateralDataMailbox) {
				if d.NumMessages != nil {
					told.exists(*d.NumMessages)
				}
			},
		},
	})
	must(a, err)
	defer c.Close()
	must(a, c.Login(a.user, servers.Password).Wait())
	box, err := c.Select("INBOX", nil).Wait()
	must(a, err)
	told.exists(box.NumMessages)
	a.learn(c, &told)

	a.rounds(func() {
		idle, err := c.Idle()
		must(a, err)
		a.parked()
		_, before := told.get()
		a.expunge(a.any(""))
		newest := a.deliver(slices.Repeat([]mail{{"new", ""}}, 3)...)[2]
		a.eventually("EXPUNGE and EXISTS", func() error {
			if got, n := told.get(); n != before+1 || len(got) != len(a.have) {
				return fmt.Errorf("told of %d messages, %d expunged; want %d and 1", len(got), n-before, len(a.have))
			}
			return nil
		})
		var late string
		if a.round%2 == 1 { // one that it may hear of with DONE, or after it
			a.parked()
			for late = a.any(""); late == newest; late = a.any("") {
			}
			a.expunge(late)
		}
		must(a, idle.Close())
		must(a, idle.Wait())
		a.learn(c, &told)
		got, _ := told.get()
		if last := got[len(got)-1]; last != newest {
			a.Fatalf("the last message is %s, want %s (of %v)", last, newest, got)
		}
		n := a.rand.IntN(len(got))
		for got[n] == late {
			n = a.rand.IntN(len(got))
		}
		// By its number as it was told.
		must(a, c.Store(imap.SeqSetNum(uint32(n+1)), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
		gone, err := c.Expunge().Collect()
		must(a, err)
		for _, n := range gone {
			told.expunged(n)
		}
		a.gone(got[n])
		a.settles("go-imap deleted " + got[n])
		if got, _ := told.get(); !slices.Equal(got, a.have) {
			a.Fatalf("go-imap believes\n%v, want\n%v", got, a.have)
		}
	})
	must(a, c.Logout().Wait())
}

// learn fetches the subjects that aren't known. Of a message that is gone it is told with
// the next NOOP, if it wasn't before.
func (a *account) learn(c *imapclient.Client, told *list) {
	a.Helper()
	got, _ := told.get()
	for i, subject := range got {
		if subject != "" {
			continue
		}
		m, err := envelope(c, uint32(i+1))
		var refused *imap.Error
		if !errors.As(err, &refused) || refused.Code != "EXPUNGEISSUED" {
			must(a, err)
		}
		if err != nil || len(m) != 1 || m[0].SeqNum != uint32(i+1) || m[0].Envelope == nil {
			must(a, c.Noop().Wait())
			if now, _ := told.get(); len(now) >= len(got) {
				a.Fatalf("FETCH %d: %v, %d answers; but NOOP took none away", i+1, err, len(m))
			}
			a.learn(c, told)
			return
		}
		told.set(uint32(i+1), m[0].Envelope.Subject)
	}
}

// envelope fetches one. Flags that are told meanwhile, in a FETCH response of their own (RFC
// 9051 §7.5.2), go-imap takes for the answer: then it is asked again.
func envelope(c *imapclient.Client, n uint32) (m []*imapclient.FetchMessageBuffer, err error) {
	for range 3 {
		m, err = c.Fetch(imap.SeqSetNum(n), &imap.FetchOptions{Envelope: true}).Collect()
		if err != nil || len(m) != 1 || m[0].Envelope != nil {
			break
		}
	}
	return m, err
}
