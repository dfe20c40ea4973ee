package agree

import "imapproxy/routing"

// place is a Member's number for a backend; 0: no backend. A number is never given to another backend.
type place uint16

// places numbers backends.
type places struct {
	ids     []string // ids[0] is "": no backend
	numbers map[string]place
}

func newPlaces() places { return places{ids: []string{""}, numbers: map[string]place{"": 0}} }

// of returns the backend's number. A process numbers 65,535 backends at most; any further backend is 0.
func (p *places) of(id string) place {
	if n, ok := p.numbers[id]; ok {
		return n
	}
	n := len(p.ids)
	if n > 65535 {
		return 0
	}
	p.ids = append(p.ids, id)
	p.numbers[id] = place(n)
	return place(n)
}

// table is choice for the buckets in one fleet.
type table struct {
	*Kept
	choice []place
}

// tablesOf returns the tables of the fleets that f keeps. It doesn't compute a table again that old has, or
// that is the same as the table before it.
func tablesOf(f *Fleet, old []table, p *places) []table {
	tables := make([]table, 0, len(f.Kept))
	for i := range f.Kept {
		k := &f.Kept[i]
		t := table{Kept: k}
		for _, o := range old {
			if o.Epoch == k.Epoch && o.Made == k.Made {
				t.choice = o.choice
			}
		}
		if t.choice == nil && i > 0 && k.sameChoice(&f.Kept[i-1]) {
			t.choice = tables[i-1].choice
		}
		if t.choice == nil {
			t.choice = choices(k.Up, f.Buckets, p)
		}
		tables = append(tables, t)
	}
	return tables
}

func choices(up []Share, buckets int, p *places) []place {
	targets, numbers := make([]routing.Target, len(up)), make([]place, len(up))
	for i, s := range up {
		targets[i], numbers[i] = routing.NewTarget(s.ID, s.Weight), p.of(s.ID)
	}
	choice := make([]place, buckets)
	for b := range choice {
		if i := routing.Rendezvous(b, targets); i >= 0 {
			choice[b] = numbers[i]
		}
	}
	return choice
}

// overrideIn returns the user's override in the fleet tables[i]: newest, which is that in the newest fleet,
// with the later changes undone.
func overrideIn(tables []table, i int, user, newest string) string {
	over := newest
	for k := len(tables) - 1; k > i; k-- {
		for _, c := range tables[k].Changes {
			if c.User == user {
				over = c.From
			}
		}
	}
	return over
}
