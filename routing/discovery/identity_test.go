package discovery

import (
	"slices"
	"testing"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
)

// UUIDs of nodes.
const (
	node1 = "00000000-0000-4000-8000-000000000001"
	node2 = "00000000-0000-4000-8000-000000000002"
)

// named is a condition for wait: the backend of this name, and what else is wanted of it.
func named(name string, wanted func(routing.Backend) bool) func(routing.Snapshot) bool {
	return func(s routing.Snapshot) bool {
		for _, b := range s.Backends {
			if b.Name == name {
				return wanted(b)
			}
		}
		return false
	}
}

// loggedIn is a session of a user at the backend of a name.
func loggedIn(t *testing.T, r *routing.Router, user, at string) *routing.Pick {
	t.Helper()
	p, err := r.Pick(user, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	if !p.Confirm() || p.Backend.Name != at {
		t.Fatalf("%s is at %+v, not at %s", user, p.Backend, at)
	}
	return p
}

// stays checks that a session's backend is the same one, and that new sessions join it.
func stays(t *testing.T, r *routing.Router, user string, p *routing.Pick) {
	t.Helper()
	select {
	case <-p.Void():
		t.Errorf("%s is moved away from %s", user, p.Backend.ID)
	default:
	}
	next, err := r.Pick(user, "")
	if err != nil {
		t.Fatal(err)
	}
	defer next.Release()
	if next.Backend.ID != p.Backend.ID {
		t.Errorf("%s's next session goes to %s, the first is at %s", user, next.Backend.ID, p.Backend.ID)
	}
}

// Users were cut off when their machine got another name: those of instances without an id
// of their own, and of ids that several machines have.
func TestARenamedNodeKeepsItsUsers(t *testing.T) {
	for what, id := range map[string]string{"without an id of its own": "imap", "with a doubled id": "mail"} {
		t.Run(what, func(t *testing.T) {
			a := consultest.Start(t)
			s := instance(id)
			a.Catalog(consultest.Node{ID: node1, Name: "n1", Address: "192.0.2.1"}, s)
			a.Catalog(consultest.Node{ID: node2, Name: "n2", Address: "192.0.2.2"}, s)
			router, r, _ := routed(t, a, nil)
			before, after := "n1 n2", "renamed n2"
			if id == "mail" {
				before, after = "mail@n1 mail@n2", "mail@renamed mail@n2"
			}
			name := r.waitFleet(t, before).Backends[0].Name
			ann := loggedIn(t, router, "ann", name)

			a.Catalog(consultest.Node{ID: node1, Name: "renamed", Address: "192.0.2.1"}, s)
			r.wait(t, "the new name", func(s routing.Snapshot) bool {
				return slices.ContainsFunc(s.Backends, func(b routing.Backend) bool { return b.Node == "renamed" })
			})
			stays(t, router, "ann", ann)
			if got := fleetOf(router); got != after {
				t.Errorf("they are %q", got)
			}
			if b := ann.Current(); b.Node != "renamed" || len(router.Backends()) != 2 {
				t.Errorf("it is %+v now, among %d", b, len(router.Backends()))
			}
		})
	}
}

// Two machines whose instances have the same id are two backends. They are told apart where there
// are two, and no user moves as the second one comes or goes.
func TestAnIdOnTwoNodes(t *testing.T) {
	a := consultest.Start(t)
	a.Catalog(consultest.Node{ID: node1, Name: "n1", Address: "192.0.2.1"}, instance("mail"))
	router, r, _ := routed(t, a, nil)
	r.waitFleet(t, "mail")
	ann := loggedIn(t, router, "ann", "mail")

	a.Catalog(consultest.Node{ID: node2, Name: "n2", Address: "192.0.2.2"}, instance("mail"))
	r.waitFleet(t, "mail@n1 mail@n2")
	stays(t, router, "ann", ann)
	loggedIn(t, router, "bob", "mail@n2")
	if ids := router.Named("mail"); len(ids) != 2 {
		t.Errorf("the id means %q", ids)
	}

	a.Uncatalog("n2", "mail")
	r.waitFleet(t, "mail")
	stays(t, router, "ann", ann)
	if b := ann.Current(); b.Name != "mail" || b.State != routing.Up {
		t.Errorf("it is %+v", b)
	}
	for _, b := range router.Backends() { // bob's, which isn't listed any more
		if b.Gone && b.Name != "mail@n2" {
			t.Errorf("the one that is gone is shown as %q", b.Name)
		}
	}
}

func TestAnotherAddressOrPortIsTheSameBackend(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	a.Register(instance("b2"))
	router, r, log := routed(t, a, nil)
	r.waitFleet(t, "b1 b2")
	ann := loggedIn(t, router, "ann", "b1")
	for registered, want := range map[string]string{"192.0.2.1": "192.0.2.1:1143", "[2001:db8::1]": "[2001:db8::1]:1143", "2001:db8::2": "[2001:db8::2]:1143", "imap1.example.org": "imap1.example.org:1143"} {
		s := instance("b1")
		s.Address, s.Port = registered, 1143
		a.Register(s)
		r.wait(t, want, named("b1", func(b routing.Backend) bool { return b.Address == want && b.State == routing.Up }))
		stays(t, router, "ann", ann)
		if b := ann.Current(); b.Address != want {
			t.Errorf("registered at %q, ann's next connection goes to %s", registered, b.Address)
		}
	}
	log.wait(t, "backend changed")
}

// A node that was registered from outside may have no UUID.
func TestANodeWithoutAUUIDIsKnownByItsName(t *testing.T) {
	a := consultest.Start(t)
	a.Catalog(consultest.Node{Name: "appliance", Address: "192.0.2.1"}, instance("mail"))
	r, _ := watching(t, a, nil)
	if b := r.waitFleet(t, "mail").Backends[0]; b.ID != "mail@appliance" {
		t.Errorf("its id is %q", b.ID)
	}
}
