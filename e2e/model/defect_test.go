//go:build parking

package model

import (
	"fmt"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

func TestDefect(t *testing.T) {
	for _, kind := range []string{"sdbox", "maildir"} {
		for _, what := range []string{"same flag", "other flag", "other message", "fetch", "expunge"} {
			t.Run(kind+"/"+what, func(t *testing.T) {
				l := newLab(t, labOptions{start: dovecot(kind, "")})
				w := &world{l: l, t: &transcript{}, user: l.user(), box: l.box(), settle: time.Second}
				defer w.close()
				var err error
				if w.w, err = newWitness(l.server.Addr, w.user, servers.Password, w.box, true); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"A", "B"} {
					c, err := dial(dialing{addr: l.addr, user: w.user, name: name, box: w.box, t: w.t})
					must(t, err)
					w.clients = append(w.clients, c)
					must(t, c.selectBox(imaptest.ModelQResync))
				}
				a, b := w.clients[0], w.clients[1]
				for range 3 {
					_, err := a.run(w.appending(a))
					must(t, err)
				}
				check, conv := 0, 0
				first := ""
				for i := range 600 {
					for _, c := range w.clients {
						must(t, c.catchUp())
					}
					sign := string("+-"[i%2])
					one := fmt.Sprintf(`UID STORE 2 %sFLAGS (\Answered)`, sign)
					two := ""
					switch what {
					case "same flag":
						two = fmt.Sprintf(`UID STORE 2 %sFLAGS (\Answered)`, string("-+"[i%2]))
					case "other flag":
						two = fmt.Sprintf(`UID STORE 2 %sFLAGS (\Flagged)`, string("-+"[i/2%2]))
					case "other message":
						two = fmt.Sprintf(`UID STORE 1 %sFLAGS (\Flagged)`, string("-+"[i/2%2]))
					case "fetch":
						two = "FETCH 1:* (FLAGS)"
					case "expunge":
						_, err := a.run(w.appending(a))
						must(t, err)
						must(t, a.catchUp())
						must(t, b.catchUp())
						uid := a.model.UID(a.model.Count())
						_, _, err = b.do("UID STORE", "UID STORE %d +FLAGS.SILENT (\\Deleted)", uid)
						must(t, err)
						two = "EXPUNGE"
					}
					from := len(w.t.lines)
					ta, err := a.begin("UID STORE", "%s", one)
					must(t, err)
					verb := "UID STORE"
					if what == "fetch" {
						verb = "FETCH"
					}
					tb, err := b.begin(verb, "%s", two)
					must(t, err)
					_, _, err = a.finish(ta)
					must(t, err)
					_, _, err = b.finish(tb)
					must(t, err)
					_, err = w.w.look()
					must(t, err)
					bad := ""
					for _, c := range w.clients {
						if err := c.model.Check(w.w.truth); err != nil {
							check++
							bad = err.Error()
						}
					}
					for _, c := range w.clients {
						_, _, err := c.do("NOOP", "NOOP")
						must(t, err)
						if err := c.model.Converged(w.w.truth); err != nil {
							conv++
							bad += " / " + err.Error()
						}
					}
					if bad != "" && first == "" {
						first = bad + "\n" + lastLines(w.t.String(), len(w.t.lines)-from)
					}
				}
				t.Logf("of 600: %d would lose by a cut, %d not converged by NOOP\n%s", check, conv, first)
			})
		}
	}
}
