package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// capabilitiesOf returns the capabilities in a response to CAPABILITY, or in a greeting's code.
func capabilitiesOf(text string) []string {
	_, list, _ := strings.Cut(text, "CAPABILITY ")
	list, _, _ = strings.Cut(list, "]")
	return strings.Fields(list)
}

// afterLogin logs in and asks for the capabilities.
func afterLogin(t *testing.T, addr string, user int) (*imaptest.Client, []string) {
	t.Helper()
	c := imaptest.Dial(t, addr)
	c.Login(servers.User(user), servers.Password)
	list, _ := c.MustOK("CAPABILITY").Find("CAPABILITY")
	return c, capabilitiesOf(list.Text)
}

// without returns the words of all except one.
func without(all []string, word string) string {
	var left []string
	for _, w := range all {
		if w != word {
			left = append(left, w)
		}
	}
	return strings.Join(left, " ")
}

func contains(all []string, word string) bool {
	for _, w := range all {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// knownBackends are /v1/backends, as far as this test needs them.
type knownBackends struct {
	Backends []struct {
		ID           string   `json:"id"`
		From         string   `json:"capabilities_from"`
		Capabilities []string `json:"capabilities"`
	} `json:"backends"`
	Differences []struct {
		Capability string   `json:"capability"`
		Have       []string `json:"have"`
		Lack       []string `json:"lack"`
	} `json:"differences"`
}

// Beside a Dovecot there is a Cyrus: before login clients are told only what both have, and after it what their own backend has.
func TestAMixedFleetPromisesWhatAllHave(t *testing.T) {
	t.Parallel()
	dovecot, cyrus := servers.StartDovecot(t, servers.DovecotOptions{}), servers.StartCyrus(t)
	lists := map[string][]string{}
	for id, addr := range map[string]string{"dovecot": dovecot.Addr, "cyrus": cyrus.Addr} {
		c, list := afterLogin(t, addr, 1)
		c.MustOK("LOGOUT")
		lists[id] = list
	}
	p := startProxy(t, proxyOptions{Backends: []backend{{"dovecot", dovecot.Addr}, {"cyrus", cyrus.Addr}}})
	own := "IMAP4rev1 SASL-IR ID LOGINDISABLED STARTTLS"
	greeting := func() []string {
		t.Helper()
		c := imaptest.Dial(t, p.Plain)
		list := capabilitiesOf(c.Greeting.Text)
		for _, name := range list {
			if !contains(strings.Fields(own), name) && !strings.HasPrefix(name, "AUTH=") && (!contains(lists["dovecot"], name) || !contains(lists["cyrus"], name)) {
				t.Errorf("before login: %s, which one of the backends lacks", name)
			}
		}
		c.MustOK("LOGOUT")
		return list
	}
	greeting()
	var known knownBackends
	user := 0
	p.eventually(t, "used at both backends", func() error {
		user++
		c, _ := afterLogin(t, p.Plain, user%8+1)
		c.MustOK("LOGOUT")
		if err := p.get("/v1/backends", &known); err != nil {
			return err
		}
		for _, b := range known.Backends {
			if b.From != "login" {
				return fmt.Errorf("%s is known from %q", b.ID, b.From)
			}
		}
		return nil
	})
	list := greeting()
	for _, name := range []string{"IDLE", "UIDPLUS", "NAMESPACE", "MOVE", "QRESYNC"} {
		if !contains(list, name) {
			t.Errorf("before login %s isn't listed, which both have: %v", name, list)
		}
	}
	if len(known.Differences) == 0 {
		t.Error("no difference between Dovecot and Cyrus")
	}
	for _, d := range known.Differences {
		for _, id := range d.Have {
			if !contains(lists[id], d.Capability) {
				t.Errorf("%s is said to have %s", id, d.Capability)
			}
		}
		for _, id := range d.Lack {
			if contains(lists[id], d.Capability) {
				t.Errorf("%s is said to lack %s", id, d.Capability)
			}
		}
	}
	if out := p.command(t, "backends", "--capabilities"); !strings.HasPrefix(out, "CAPABILITY") || !strings.Contains(out, "yes") {
		t.Errorf("imapproxy backends --capabilities:\n%s", out)
	}
}

// An exchange is an address at which one server stands for another: it cuts all connections and leads to the next.
type exchange struct {
	addr string
	mu   sync.Mutex
	to   string
	open []net.Conn
}

func newExchange(t *testing.T, to string) *exchange {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{addr: l.Addr().String(), to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			x.mu.Lock()
			out, err := net.Dial("tcp", x.to)
			if err != nil {
				_ = in.Close()
				x.mu.Unlock()
				continue
			}
			x.open = append(x.open, in, out)
			x.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		x.leadTo("")
		running.Wait()
	})
	return x
}

func (x *exchange) leadTo(to string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.to = to
	for _, c := range x.open {
		_ = c.Close()
	}
	x.open = nil
}

// A Dovecot is replaced by one with fewer capabilities and the same mail, while a session is attached to it and while one is parked.
func TestADovecotIsReplacedByOneThatCanDoLess(t *testing.T) {
	t.Parallel()
	mail := servers.DovecotMail(t)
	full := servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-full", Mail: mail})
	c, all := afterLogin(t, full.Addr, 1)
	c.MustOK("LOGOUT")
	for lost, ends := range map[string]bool{"MOVE": false, "LITERAL+": true} {
		less := servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-without-" + strings.TrimSuffix(lost, "+"), Mail: mail, Extra: "imap_capability = " + without(all, lost)})
		for _, parks := range []bool{false, true} {
			t.Run(lost+map[bool]string{false: ", attached", true: ", parked"}[parks], func(t *testing.T) {
				x := newExchange(t, full.Addr)
				p := startProxy(t, proxyOptions{Backends: []backend{{"b1", x.addr}}, Linger: map[bool]string{true: "1s"}[parks]})
				c := imaptest.Dial(t, p.Plain)
				c.Login(servers.User(1), servers.Password)
				c.MustOK("SELECT INBOX")
				if parks {
					c.Write("i IDLE")
					c.Expect("+{*}")
					p.eventually(t, "parked", func() error {
						var s struct{ Sessions []struct{ Attachment string } }
						if err := p.get("/v1/sessions", &s); err != nil || len(s.Sessions) != 1 || s.Sessions[0].Attachment != "parked" {
							return fmt.Errorf("%+v, %v", s, err)
						}
						return nil
					})
				}
				x.leadTo(less.Addr)
				if parks {
					c.Write("DONE")
				}
				c.Write("c UID FETCH 1:* FLAGS")
				told := false
				for {
					r := c.Read()
					switch {
					case strings.HasPrefix(r.Text, "* CAPABILITY"):
						told = true
						if contains(capabilitiesOf(r.Text), lost) || !contains(capabilitiesOf(r.Text), "IDLE") {
							t.Errorf("what is left: %s", r.Text)
						}
						continue
					case strings.HasPrefix(r.Text, "* BYE"):
						if !ends || !strings.Contains(r.Text, "can do less") {
							t.Errorf("the session ends: %s", r.Text)
						}
						return
					case r.Tag() != "c":
						continue
					case ends:
						t.Errorf("the session goes on without %s", lost)
						return
					case r.Status() != "OK":
						t.Errorf("the command is answered %s", r.Text)
					}
					break
				}
				list, _ := c.MustOK("CAPABILITY").Find("CAPABILITY")
				if !told || contains(capabilitiesOf(list.Text), lost) {
					t.Errorf("told: %v; the list is %s", told, list.Text)
				}
			})
		}
	}
}
