package routing

import (
	"context"
	"errors"
	"testing"
)

// decided is an Agreement of a test.
type decided struct {
	at    map[string]string // user → backend; none: the proxies don't agree
	homes []string          // that were asked for
	held  int
}

func (d *decided) Claim(_ context.Context, user, home string) (string, func(), error) {
	d.homes = append(d.homes, home)
	b, ok := d.at[user]
	if !ok {
		return "", nil, errors.New("they wait for each other")
	}
	d.held++
	return b, func() { d.held-- }, nil
}

func agreedRouter(t *testing.T, d *decided, storage Storage) *Router {
	t.Helper()
	r, err := New(Options{Storage: storage, Agreement: d})
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(Snapshot{Source: "test", Backends: []Backend{
		{ID: "uuid1/imap1", Name: "imap1", Service: "imap1", Address: "127.0.0.1:1", Weight: 1},
		{ID: "uuid2/imap2", Name: "imap2", Service: "imap2", Address: "127.0.0.1:2", Weight: 1},
	}})
	return r
}

// The proxies' backend is taken, whatever the router's own rules say, and the claim holds until the login's connection has one.
func TestWhereProxiesAgreeTheirBackendIsTaken(t *testing.T) {
	d := &decided{at: map[string]string{"ann": "uuid2/imap2"}}
	r := agreedRouter(t, d, Shared)
	for range 2 {
		p, err := r.PickWithin(t.Context(), 0, "ann", "imap1")
		if err != nil {
			t.Fatal(err)
		}
		if p.Backend.ID != "uuid2/imap2" || d.homes[len(d.homes)-1] != "uuid1/imap1" || d.held != 1 {
			t.Fatalf("at %s; asked for %q; %d claims", p.Backend.ID, d.homes, d.held)
		}
		if !p.Confirm() || d.held != 0 {
			t.Fatalf("confirmed, %d claims", d.held)
		}
		p.Release()
		if d.held != 0 {
			t.Fatalf("released twice: %d claims", d.held)
		}
	}
	p, err := r.PickUnproved(t.Context(), 0, "ann", "")
	if err != nil || p.Backend.ID != "uuid2/imap2" {
		t.Fatal(p, err)
	}
	if p.Release(); d.held != 0 {
		t.Errorf("%d claims after a login that failed", d.held)
	}
}

// A login that its backend refuses goes nowhere else by the decision of one proxy, and its claim ends.
func TestWhereProxiesAgreeNoProxyGoesElsewhereAlone(t *testing.T) {
	d := &decided{at: map[string]string{"ann": "uuid1/imap1", "bob": "uuid3/gone"}}
	r := agreedRouter(t, d, Shared)
	for user, want := range map[string]error{"ann": ErrBackendDown, "bob": ErrNoBackend, "carl": ErrNotAgreed} {
		if _, err := r.PickWithin(t.Context(), 0, user, "", "uuid1/imap1"); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", user, err, want)
		}
	}
	if d.held != 0 {
		t.Errorf("%d claims are held", d.held)
	}
	d = &decided{at: map[string]string{"ann": "uuid1/imap1"}}
	r = agreedRouter(t, d, Separate)
	for placement, want := range map[string]error{"": ErrNoPlacement, "nowhere": ErrUnknownPlacement} {
		if _, err := r.PickWithin(t.Context(), 0, "ann", placement); !errors.Is(err, want) || len(d.homes) > 0 {
			t.Errorf("placement %q: %v, asked for %q", placement, err, d.homes)
		}
	}
}

// What the proxies' fleet says is taken whole: they have applied the panic threshold.
func TestAnAgreedFleetIsTakenWhole(t *testing.T) {
	r := agreedRouter(t, &decided{}, Shared)
	if !r.Apply(Snapshot{Source: "test", Backends: []Backend{
		{ID: "uuid1/imap1", Name: "imap1", Address: "127.0.0.1:1", Weight: 1, State: Down},
		{ID: "uuid2/imap2", Name: "imap2", Address: "127.0.0.1:2", Weight: 1, State: Down},
	}}) {
		t.Error("a part was kept")
	}
	for _, b := range r.Backends() {
		if b.State != Down {
			t.Errorf("%s is %s", b.ID, b.State)
		}
	}
}

// A backend that the proxies' panic threshold keeps is shown as such, for as long as it is.
func TestWhatAllProxiesKeepIsShown(t *testing.T) {
	r := agreedRouter(t, &decided{}, Shared)
	for _, kept := range []bool{true, false} {
		r.Apply(Snapshot{Source: "test", Backends: []Backend{
			{ID: "uuid1/imap1", Name: "imap1", Service: "imap1", Address: "127.0.0.1:1", Weight: 1, KeptByAll: kept},
			{ID: "uuid2/imap2", Name: "imap2", Service: "imap2", Address: "127.0.0.1:2", Weight: 1},
		}})
		for _, b := range r.Backends() {
			if b.Kept != (kept && b.Name == "imap1") {
				t.Errorf("%s: kept is %v, when imap1 is kept: %v", b.Name, b.Kept, kept)
			}
		}
	}
}
