package routing

import (
	"fmt"
	"slices"
	"strings"
)

// named returns the listed backends that a placement names: the one with that ID or Name; otherwise the one
// with that Service@Node; otherwise all with that Service, of which there may be several; otherwise all with
// that Address.
func (t readTxn) named(placement string) []*backendRow {
	if b := t.backend(placement); b != nil && !b.gone {
		return []*backendRow{b}
	}
	var name, qualified *backendRow
	var service, address []*backendRow
	t.backends(func(b *backendRow) bool {
		switch {
		case b.gone:
		case b.Name == placement:
			name = b
		case b.Qualified() == placement:
			qualified = b
		case b.Service == placement:
			service = append(service, b)
		case b.Address == placement:
			address = append(address, b)
		}
		return name == nil
	})
	switch {
	case name != nil:
		return []*backendRow{name}
	case qualified != nil:
		return []*backendRow{qualified}
	case len(service) > 0:
		return service
	}
	return address
}

// place returns the backend that the placement names. If it names several, the user stays at the one to which
// they are pinned.
func (c *choice) place() (*backendRow, error) {
	rows := c.tables.named(c.placement)
	switch len(rows) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrUnknownPlacement, c.placement)
	case 1:
		return rows[0], nil
	}
	var names []string
	for _, b := range rows {
		if c.pin != nil && c.pin.backend == b.ID {
			return b, nil
		}
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: %q names several: write one of %s", ErrUnknownPlacement, c.placement, strings.Join(names, ", "))
}

// Means says whether a name in a placement or a request may mean the backend: its ID, its Name, Service@Node,
// its Service or its Address.
func (b *Backend) Means(name string) bool {
	return name == b.ID || name == b.Name || name == b.Qualified() || name == b.Service || name == b.Address
}

// Named returns the ids of the backends that a name may mean (Backend.Means), including those that aren't
// listed any more.
func (r *Router) Named(name string) []string {
	var ids []string
	newReadTxn(r.db).backends(func(b *backendRow) bool {
		if name != "" && b.Means(name) {
			ids = append(ids, b.ID)
		}
		return true
	})
	return ids
}
