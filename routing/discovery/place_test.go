package discovery

import (
	"errors"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
)

// A placement is changed only from what it was taken for, and is made only where it was taken for none.
func TestAPlacementIsChanged(t *testing.T) {
	a := consultest.Start(t)
	c, err := NewConsul(ConsulOptions{Address: a.Address(), Service: "imap", Slack: 2 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.kv.closeIdle()
	if err := c.Place(t.Context(), "ann", "b1", "b2"); !errors.Is(err, ErrNotPlaced) {
		t.Errorf("without a placement: %v", err)
	}
	if _, found, err := c.Placement(t.Context(), "ann"); found || err != nil {
		t.Errorf("one was made: %v", err)
	}
	a.PutKV("imapproxy/placement/ann", "b1\n")
	for _, bad := range []struct{ user, from, to string }{{"ann", "b3", "b2"}, {"ann", "", "b2"}, {"ann", "b1", ""}, {"ann", "b1", "b\n2"}, {"..", "b1", "b2"}} {
		if err := c.Place(t.Context(), bad.user, bad.from, bad.to); err == nil {
			t.Errorf("%+v was done", bad)
		}
	}
	if err := c.Place(t.Context(), "ann", "b1", "b2"); err != nil {
		t.Fatal(err)
	}
	if id, _, err := c.Placement(t.Context(), "ann"); id != "b2" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	if err := c.Place(t.Context(), "bob", "", "b1"); err != nil {
		t.Fatal(err)
	}
	if id, _, err := c.Placement(t.Context(), "bob"); id != "b1" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	if err := c.Place(t.Context(), "bob", "", "b2"); !errors.Is(err, ErrNotPlaced) {
		t.Errorf("there is a placement by now: %v", err)
	}
}
