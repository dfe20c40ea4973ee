package wiring

import (
	"context"
	"errors"
	"testing"

	"imapproxy/internal/config"
	"imapproxy/routing/discovery"
)

// placedSource is a discovery with placements.
type placedSource struct {
	discovery.Source
	of  map[string]string
	err error
}

func (s *placedSource) Placement(_ context.Context, user string) (string, bool, error) {
	backend, ok := s.of[user]
	return backend, ok, s.err
}

func (s *placedSource) Place(_ context.Context, user, from, to string) error {
	if s.of[user] != from {
		return discovery.ErrNotPlaced
	}
	s.of[user] = to
	return nil
}

func TestTheDomainPlacesUsersForWhomNothingElseDoes(t *testing.T) {
	domains := []config.Domain{{Name: "example.org", Placement: "b1"}, {Name: "example.com", Placement: "b2"}}
	source := &placedSource{of: map[string]string{"ann@example.org": "b3", "bob@example.net": "b3"}}
	for _, c := range []struct{ storage, user, want string }{
		{"separate", "ann@example.org", "b3"}, {"separate", "zoe@example.org", "b1"}, {"separate", "Zoe@Example.ORG", "b1"},
		{"separate", "zoe@x@example.com", "b2"}, {"separate", "zoe@mail.example.org", ""}, {"separate", "example.org", ""},
		{"separate", "bob@example.net", "b3"}, {"separate", "zoe@example.net", ""},
		{"shared", "ann@example.org", "b1"}, {"shared", "bob@example.net", ""},
	} {
		read, _ := Placements(&config.Config{Domains: domains, Routing: config.Routing{Storage: c.storage}}, source)
		backend, ok, err := read(t.Context(), c.user)
		if backend != c.want || ok != (c.want != "") || err != nil {
			t.Errorf("%s storage, %s: %q, %v, %v, want %q", c.storage, c.user, backend, ok, err, c.want)
		}
	}
	// Consul may have a placement of the user's own, so without its answer there is none.
	source.err = errors.New("gone")
	separate := &config.Config{Domains: domains, Routing: config.Routing{Storage: "separate"}}
	read, _ := Placements(separate, source)
	if backend, ok, err := read(t.Context(), "zoe@example.org"); backend != "" || ok || err == nil {
		t.Errorf("without Consul: %q, %v, %v", backend, ok, err)
	}
}

func TestAUserLeavesTheBackendOfTheirDomain(t *testing.T) {
	domains := []config.Domain{{Name: "example.org", Placement: "b1"}}
	source := &placedSource{of: map[string]string{"ann@example.org": "b3"}}
	_, change := Placements(&config.Config{Domains: domains, Routing: config.Routing{Storage: "separate"}}, source)
	for _, c := range []struct {
		user, from, to string
		done           bool
	}{
		{"ann@example.org", "b3", "b4", true},
		{"ann@example.org", "b1", "b5", false}, // has a placement of their own
		{"zoe@example.org", "b1", "b2", true},
		{"bob@example.org", "b2", "b3", false},
		{"bob@example.net", "b1", "b2", false},
	} {
		before := source.of[c.user]
		err := change(t.Context(), c.user, c.from, c.to)
		if c.done && (err != nil || source.of[c.user] != c.to) || !c.done && (!errors.Is(err, discovery.ErrNotPlaced) || source.of[c.user] != before) {
			t.Errorf("%+v: %v, %q", c, err, source.of[c.user])
		}
	}
	if _, change := Placements(&config.Config{Domains: domains, Routing: config.Routing{Storage: "shared"}}, source); change != nil {
		t.Error("with shared storage there is no placement in Consul to change")
	}
	if read, change := Placements(&config.Config{Routing: config.Routing{Storage: "shared"}}, source); read != nil || change != nil {
		t.Error("logins would wait for placements that there aren't")
	}
}
