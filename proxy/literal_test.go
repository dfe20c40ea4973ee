package proxy

import (
	"errors"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// A client that sends a literal without waiting for the backend's word has
// nothing behind the announcement looked at before that word has come: the same
// bytes are a literal after "+", and commands after NO.
func TestTheBackendsWordDecidesWhatALiteralIs(t *testing.T) {
	const behind = "b COMPRESS DEFLATE\r\n"
	for _, listener := range []string{plain, implicit} {
		for _, verdict := range []string{"+", "NO"} {
			for _, portions := range []string{"one write", "two writes"} {
				t.Run(strings.Join([]string{listener, verdict, portions}, " "), func(t *testing.T) {
					t.Parallel()
					l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
						c.OnLiteral(func(int64) error {
							c.Backend.Fire("announced")
							if err := c.Stall("verdict"); err != nil {
								return err
							}
							if verdict == "NO" {
								return errRefused
							}
							return c.Send("+ go ahead")
						})
						d := polite()
						d.Commands = commands{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
							if len(cmd.Literals) != 1 || string(cmd.Literals[0].Data) != behind {
								t.Errorf("the backend has got %s", cmd)
							}
							return c.Send(cmd.Tag() + " OK appended")
						}}
						err := d.Serve(c)
						if !errors.Is(err, errRefused) {
							return err
						}
						if err := c.Send("a NO [OVERQUOTA] full"); err != nil {
							return err
						}
						for {
							cmd, err := c.ReadCommand()
							if err != nil {
								return err
							}
							if cmd.Text == "" {
								continue // what was left of the line
							}
							if cmd.Name == "COMPRESS" {
								t.Error("COMPRESS has reached the backend")
							}
							if err := c.Send(cmd.Tag() + " OK done"); err != nil {
								return err
							}
						}
					}}})
					c := l.dial(listener)
					c.Login("alice", password)
					announced, rest := "a APPEND x {20}\r\n", behind+"\r\nc NOOP\r\n"
					if portions == "one write" {
						must(t, c.SendRaw(announced+rest))
					} else {
						must(t, c.SendRaw(announced))
						must(t, l.backends[0].Wait("announced"))
						must(t, c.SendRaw(rest))
					}
					l.backends[0].Fire("verdict")
					if verdict == "+" {
						c.Expect("+")
						c.Expect("a OK appended")
					} else {
						// In either order: answers are matched by their tags.
						first, second := c.Read(), c.Read()
						if got := first.Tag() + second.Tag(); got != "ab" && got != "ba" || first.Status() == second.Status() {
							t.Fatal(first, second)
						}
					}
					c.Expect("c OK")
				})
			}
		}
	}
}

// What a client says in IDLE but DONE is the backend's to judge, and no literal
// is announced in it.
func TestOnlyDoneEndsIdle(t *testing.T) {
	l := politeWith(t, commands{"IDLE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		b := make([]byte, len("x FROB {20}\r\n"))
		for n := 0; n < len(b); {
			m, err := c.Read(b[n:])
			if err != nil {
				return err
			}
			n += m
		}
		return c.Send(cmd.Tag() + " BAD expected DONE, got " + strings.TrimSpace(string(b)))
	}}, labOptions{})
	c := l.login("alice")
	c.Write("a IDLE")
	c.Expect("+")
	c.Write("x FROB {20}")
	if r := c.Expect("a BAD"); !strings.HasSuffix(r.Text, "x FROB {20}") {
		t.Fatal(r)
	}
	c.Write("b COMPRESS DEFLATE")
	c.Expect("b BAD")
	c.MustOK("NOOP")
}
