package agree

import (
	"fmt"
	"testing"
	"time"

	"imapproxy/routing"
)

// A backend comes back, and users who are connected aren't moved (Settle). Those without a connection go there,
// also where others of their bucket are still connected.
func TestUsersWhoRest(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{RebalanceRate: -1}})
	a.fleet(1, routing.Up, routing.Up, routing.Down)
	for i := range 1500 {
		if got := a.m.Claim(fmt.Sprint("user", i), "", a.now); got.Verdict != Go {
			t.Fatalf("%+v", got)
		}
	}
	a.pass(time.Minute)
	a.fleet(2, routing.Up, routing.Up, routing.Up)
	a.take(LetGo)
	for range 5 {
		a.later(time.Second)
	}
	s := a.m.Status(a.now)
	if names := len(a.m.own.Users); names < 100 || names > fullNames*3/4 || s.Stays != s.Resting || !s.MovesEnd.IsZero() {
		t.Fatalf("%d are named; %+v", names, s)
	}

	rests := ""
	for user := range a.m.own.Users {
		if !a.m.own.Buckets["b1"].Has(a.m.bucket(user)) && !a.m.own.Buckets["b2"].Has(a.m.bucket(user)) {
			rests = user
			break
		}
	}
	where := a.m.own.Users[rests]
	other := "" // of the same bucket, without a connection
	for i := 0; other == ""; i++ {
		if user := fmt.Sprint("new", i); a.m.bucket(user) == a.m.bucket(rests) {
			other = user
		}
	}
	if got := a.m.Claim(other, "", a.now); got.Verdict != Go || got.Backend != "b3" {
		t.Errorf("a user without a connection, %s: %+v", other, got)
	}
	if got := a.m.Claim(rests, "", a.now); got.Verdict != Go || got.Backend != where {
		t.Errorf("another connection of a user who is at %s: %+v", where, got)
	}
	a.pass(10 * time.Minute)
	if asked := a.take(LetGo); len(asked) > 0 {
		t.Errorf("%d were asked to leave: %.10s", len(asked), asked)
	}
	a.m.Release(rests, a.now)
	a.m.Release(rests, a.now)
	a.later(2 * time.Second)
	if got := a.m.Claim(rests, "", a.now); got.Verdict != Go || got.Backend != "b3" {
		t.Errorf("once they have no connection: %+v", got)
	}

	for user, at := range a.m.own.Users { // an operator moves one who rests
		if user != rests && at == where {
			rests = user
			break
		}
	}
	if err := a.m.MoveUser(rests, "b3", a.now); err != nil {
		t.Fatal(err)
	}
	a.settle()
	a.pass(5 * time.Second)
	if asked := a.take(LetGo); len(asked) != 1 || asked[0] != rests {
		t.Errorf("%s is to move, and these were asked: %q", rests, asked)
	}
}
