package proxy

import (
	"bufio"
	"slices"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// byLine is a backend that takes no line of its client's for a literal: what
// announces one it has an answer for at once. answers are by the line, without
// its CRLF; a NOOP is answered OK. Each line is reported to heard.
func byLine(heard func(line string), answers map[string]string) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		if err := letIn(c); err != nil {
			return err
		}
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			line = strings.TrimSuffix(line, "\r\n")
			heard(line)
			answer := answers[line]
			if tag, ok := strings.CutSuffix(line, " NOOP"); ok {
				answer = tag + " OK done"
			}
			if answer == "" {
				continue
			}
			if err := c.Send(answer); err != nil {
				return err
			}
		}
	}
}

// TestNothingThatTheProxyTakesOverReachesABackendInDisguise: whatever the backend
// reads as a command, the proxy has looked at as a command.
func TestNothingThatTheProxyTakesOverReachesABackendInDisguise(t *testing.T) {
	const hidden = "b COMPRESS DEFLATE\r\n" // 20 bytes
	type step struct{ say, hear string }    // hear: tags and statuses, sorted
	for name, c := range map[string]struct {
		steps   []step
		answers map[string]string
		heard   []string
	}{
		"behind a head without verb": {
			steps: []step{{"{20}\r\n", "* BAD"}, {hidden, "b BAD"}},
		},
		"behind a head without verb, in one write": {
			steps: []step{{"{20}\r\n" + hidden, "* BAD|b BAD"}},
		},
		"in a literal of a head without verb": {
			steps: []step{{"{20+}\r\n" + hidden + "\r\n", "* BAD"}},
		},
		"in a literal behind an empty tag": {
			steps: []step{{" a NOOP {20+}\r\n" + hidden + "\r\n", "* BAD"}},
		},
		"in a literal behind a tag that is none": {
			steps: []step{{"* NOOP {20+}\r\n" + hidden + "\r\n", "* BAD"}},
		},
		"in a literal behind an empty verb": {
			steps: []step{{"a  NOOP {20+}\r\n" + hidden + "\r\n", "a BAD"}},
		},
		"behind the literal of a command that is taken over": {
			steps: []step{{"a LOGIN {20}\r\n" + hidden, "a BAD|b BAD"}},
		},
		"in a literal in IDLE": {
			steps:   []step{{"i IDLE\r\n", "+"}, {"x {9999+}\r\n", "i BAD"}, {hidden, "b BAD"}},
			answers: map[string]string{"i IDLE": "+ idling", "x {9999+}": "i BAD Expected DONE"},
			heard:   []string{"i IDLE", "x {9999+}"},
		},
		"in a literal in IDLE, in one write": {
			steps:   []step{{"i IDLE\r\n", "+"}, {"x {20+}\r\n" + hidden, "b BAD|i BAD"}},
			answers: map[string]string{"i IDLE": "+ idling", "x {20+}": "i BAD Expected DONE"},
			heard:   []string{"i IDLE", "x {20+}"},
		},
		"behind a line in IDLE, in one write": {
			steps:   []step{{"i IDLE\r\n", "+"}, {"x\r\n" + hidden, "b BAD|i BAD"}},
			answers: map[string]string{"i IDLE": "+ idling", "x": "i BAD Expected DONE"},
			heard:   []string{"i IDLE", "x"},
		},
		"with IDLE, in one write": {
			steps:   []step{{"i IDLE\r\na NOOP {20+}\r\n" + hidden, "+|b BAD|i BAD"}},
			answers: map[string]string{"i IDLE": "+ idling", "a NOOP {20+}": "i BAD Expected DONE"},
			heard:   []string{"i IDLE", "a NOOP {20+}"},
		},
		"behind an IDLE that is refused": {
			steps:   []step{{"i IDLE\r\na XNO {20}\r\n" + hidden, "a NO|b BAD|i NO"}},
			answers: map[string]string{"i IDLE": "i NO not now", "a XNO {20}": "a NO never"},
			heard:   []string{"i IDLE", "a XNO {20}"},
		},
		"behind the second IDLE of two": {
			steps:   []step{{"i IDLE\r\nDONE\r\nj IDLE\r\na XNO {20}\r\n" + hidden, "+|a NO|b BAD|i OK|j NO"}},
			answers: map[string]string{"i IDLE": "+ idling", "DONE": "i OK idled", "j IDLE": "j NO not twice", "a XNO {20}": "a NO never"},
			heard:   []string{"i IDLE", "DONE", "j IDLE", "a XNO {20}"},
		},
		"behind a literal that is refused": {
			steps:   []step{{"a APPEND nowhere {20}\r\n", "a NO"}, {hidden, "b BAD"}},
			answers: map[string]string{"a APPEND nowhere {20}": "a NO [TRYCREATE] no such mailbox"},
			heard:   []string{"a APPEND nowhere {20}"},
		},
		"behind a literal that is refused, in one write": {
			steps:   []step{{"a APPEND nowhere {20}\r\n" + hidden, "a NO|b BAD"}},
			answers: map[string]string{"a APPEND nowhere {20}": "a NO [TRYCREATE] no such mailbox"},
			heard:   []string{"a APPEND nowhere {20}"},
		},
	} {
		for _, listener := range []string{plain, implicit} {
			t.Run(name+" "+listener, func(t *testing.T) {
				t.Parallel()
				lines := make(chan string, 100)
				l := newLab(t, labOptions{handlers: []imaptest.Handler{byLine(func(line string) { lines <- line }, c.answers)}})
				client := l.dial(listener)
				client.Login("alice", password)
				for _, s := range c.steps {
					must(t, client.SendRaw(s.say))
					// In any order: the proxy's own may overtake the backend's.
					var got []string
					for range strings.Count(s.hear, "|") + 1 {
						r := client.Read()
						got = append(got, strings.TrimSpace(r.Tag()+" "+r.Status()))
					}
					slices.Sort(got)
					if got := strings.Join(got, "|"); got != s.hear {
						t.Fatalf("%q is answered %s, not %s", s.say, got, s.hear)
					}
				}
				client.Write("z NOOP")
				client.Expect("z OK done")
				for _, want := range append(c.heard, "z NOOP") {
					if got := <-lines; got != want {
						t.Errorf("the backend has heard %q, not %q", got, want)
					}
				}
			})
		}
	}
}

func TestALiteralAnnouncedWhenItsCommandIsAnsweredAlreadyIsNotWaitedFor(t *testing.T) {
	l := newLab(t, labOptions{handlers: []imaptest.Handler{byLine(func(string) {}, map[string]string{"a APPEND nowhere {5+}": "a NO [TRYCREATE] no such mailbox"})}})
	c := l.login("alice")
	must(t, c.SendRaw("a APPEND nowhere {5+}\r\nhello"))
	c.Expect("a NO {*}")
	must(t, c.SendRaw(" {20}\r\n"))
	c.Write("b COMPRESS DEFLATE")
	c.Expect("b BAD")
	c.Write("c NOOP")
	c.Expect("c OK")
}
