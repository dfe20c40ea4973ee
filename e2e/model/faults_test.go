//go:build parking

package model

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// faults are what a proxy that parks could do wrong, done to what a client is told. Each
// is made anew for each connection.
var faults = map[string]func() func(imaptest.Response) []imaptest.Response{
	"a dropped EXPUNGE": func() func(imaptest.Response) []imaptest.Response {
		n := 0
		return func(r imaptest.Response) []imaptest.Response {
			if r.Tag() == "*" && (r.Word(2) == "EXPUNGE" || r.Word(1) == "VANISHED") {
				if n++; n%4 == 0 {
					return nil
				}
			}
			return []imaptest.Response{r}
		}
	},
	"a shifted number": func() func(imaptest.Response) []imaptest.Response {
		n := 0
		return func(r imaptest.Response) []imaptest.Response {
			if f := strings.SplitN(r.Text, " ", 3); r.Tag() == "*" && r.Word(2) == "FETCH" && !strings.HasPrefix(r.Text, "* 1 ") {
				if n++; n%30 == 0 {
					number, _ := strconv.Atoi(f[1])
					r.Text = "* " + strconv.Itoa(number-1) + " " + f[2]
				}
			}
			return []imaptest.Response{r}
		}
	},
	"VANISHED, or EXPUNGE, over-reported": func() func(imaptest.Response) []imaptest.Response {
		n := 0
		return func(r imaptest.Response) []imaptest.Response {
			if r.Tag() == "*" && (r.Word(2) == "EXPUNGE" || r.Word(1) == "VANISHED") {
				if n++; n%5 == 0 {
					return []imaptest.Response{r, r}
				}
			}
			return []imaptest.Response{r}
		}
	},
	"a stale state applied late": func() func(imaptest.Response) []imaptest.Response {
		var old []imaptest.Response // flags as they were
		return func(r imaptest.Response) []imaptest.Response {
			if r.Tag() != "*" || r.Word(2) != "FETCH" || !strings.Contains(r.Text, "FLAGS (") {
				return []imaptest.Response{r}
			}
			if old = append(old, r); len(old) > 12 {
				late := old[0]
				old = old[1:]
				return []imaptest.Response{r, late}
			}
			return []imaptest.Response{r}
		}
	},
	"EXISTS that shrinks": func() func(imaptest.Response) []imaptest.Response {
		n := 0
		return func(r imaptest.Response) []imaptest.Response {
			if number, err := strconv.Atoi(r.Word(1)); r.Word(2) == "EXISTS" && err == nil && number > 2 {
				if n++; n%6 == 0 {
					late := r
					late.Text = "* " + strconv.Itoa(number-1) + " EXISTS"
					return []imaptest.Response{r, late}
				}
			}
			return []imaptest.Response{r}
		}
	},
}

// TestTheModelFindsFaults is the test of the test.
func TestTheModelFindsFaults(t *testing.T) {
	l := newLab(t, labOptions{start: dovecot("sdbox", ""), watch: "idle"})
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			seed := uint64(time.Now().UnixNano())
			t.Logf("MODEL_SEED=%d", seed)
			user := l.user()
			for i := range uint64(10) {
				inner := fault()
				tr, err := l.run(newScenario(seed+i, false), user, &stats{kinds: map[string]int{}}, func(r imaptest.Response) []imaptest.Response {
					mu.Lock()
					defer mu.Unlock()
					return inner(r)
				})
				if err != nil {
					t.Logf("found in case %d, after %d lines: %v", i+1, strings.Count(tr.String(), "\n"), err)
					return
				}
			}
			t.Error("it wasn't found in 10 cases")
		})
	}
}

// TestTheModelFindsAMissedHint: nobody says that anything has changed, and nobody looks.
func TestTheModelFindsAMissedHint(t *testing.T) {
	for name, o := range map[string]labOptions{
		"all events are lost":       {start: dovecot("sdbox", ""), watch: "push", events: true, lose: 10, sweep: time.Hour},
		"the sweep makes up for it": {start: dovecot("sdbox", ""), watch: "push", events: true, lose: 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, o)
			s := scenario{dialects: []imaptest.ModelDialect{imaptest.ModelPlain}, ops: []op{
				{kind: "idle"}, {kind: "park", a: 1, b: 1}, {kind: "outside", a: 0}, {kind: "settle"},
			}}
			var tr *transcript
			var err error
			for st := (&stats{kinds: map[string]int{}}); st.parked == 0; { // who isn't parked yet is told by the server
				if st.asked == 5 {
					t.Fatalf("it was never parked:\n%s", lastLines(tr.String(), 40))
				}
				tr, err = l.run(s, l.user(), st, nil)
			}
			if wanted := o.sweep != 0; (err != nil) != wanted {
				t.Errorf("%v\n%s", err, lastLines(tr.String(), 40))
			}
		})
	}
}
