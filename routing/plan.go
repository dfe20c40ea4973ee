package routing

import (
	"fmt"
	"strconv"
	"time"
)

// plan is the effect of an answer of discovery on the table.
type plan struct {
	put    []*backendRow // new and changed rows
	events []event
	kept   int       // backends that this answer takes away and the panic threshold keeps
	lost   int       // backends that this answer takes away, kept or not
	flaps  []string  // names of backends that have fallen again a short time after the last fall
	settle time.Time // when the first that flaps may get new users; zero: no backend flaps
	lately int       // backends that earlier answers took away within the window
	base   int       // the number of backends before, including lately
}

// event is one line of the log.
type event struct {
	what    string // "backend joined", …
	backend *backendRow
	was     State
}

// planApply compares the table with discovery's present answer. incoming is cleaned and not empty. It has no
// side effects.
//
// The panic threshold: discovery may take away (make Down, or leave out) at most this fraction of the fleet
// within the window. If an answer exceeds it, all backends that it takes away stay as they were, since a
// mistake of the checks or the catalogue is likelier than the end of most of the fleet; a backend that has
// really ended refuses its dials, which the router notices. The rest of the answer is applied. Each answer is
// judged anew, so the threshold stops holding when enough backends return.
func planApply(old []*backendRow, incoming []Backend, o *Options, now time.Time) plan {
	var (
		p     plan
		next  []*backendRow // the rows if the whole answer is applied
		taken []*backendRow // those of next that are taken away
		prev  = make(map[string]*backendRow, len(old))
		said  = make(map[string]Backend, len(incoming))
	)
	for _, row := range old {
		prev[row.ID] = row
	}
	for _, b := range incoming {
		said[b.ID] = b
		next = append(next, asSaid(prev[b.ID], b, o, now))
	}
	release(next, said)
	for _, row := range next {
		row.stand(prev[row.ID], now)
		if was := prev[row.ID]; was != nil && was.usable() && !row.usable() {
			taken = append(taken, row)
		}
		if was := prev[row.ID]; row.usable() || row.Pending || was != nil && (was.usable() || was.lostWithin(o.PanicWindow, now)) {
			p.base++
		}
	}
	for _, was := range old {
		if _, listed := said[was.ID]; listed {
			continue
		}
		row := asGone(was, o, now)
		next = append(next, row)
		if was.usable() {
			taken = append(taken, row)
		}
		if was.usable() || was.lostWithin(o.PanicWindow, now) {
			p.base++
		}
	}

	namedApart(next)
	p.lost = len(taken)
	for _, row := range next {
		if was := prev[row.ID]; was != nil && !row.usable() && was.lostWithin(o.PanicWindow, now) {
			p.lately++
		}
	}
	if p.lost > 0 && beyond(p.lost+p.lately, p.base, o.PanicThreshold) {
		p.kept = p.lost
		for _, row := range taken {
			keep(row, prev[row.ID])
		}
	}
	for _, row := range next {
		p.take(prev[row.ID], row)
		if was := prev[row.ID]; was != nil && row.falls >= flapsFrom && row.falls > was.falls {
			p.flaps = append(p.flaps, row.Name)
		}
		if at := row.well.Add(o.FlapDamp); row.damped && (p.settle.IsZero() || at.Before(p.settle)) {
			p.settle = at
		}
	}
	return p
}

// namedApart makes sure that a backend that isn't listed any more isn't shown under the name of a listed one.
func namedApart(rows []*backendRow) {
	listed := make(map[string]bool, len(rows))
	for _, row := range rows {
		if !row.gone {
			listed[row.Name] = true
		}
	}
	for _, row := range rows {
		if row.gone && listed[row.Name] {
			if row.Name = row.Qualified(); listed[row.Name] {
				row.Name = row.ID
			}
		}
	}
}

// lostWithin: discovery took it away at most a window ago, and it hasn't returned.
func (b *backendRow) lostWithin(window time.Duration, now time.Time) bool {
	return !b.usable() && !b.lostAt.IsZero() && now.Sub(b.lostAt) < window
}

// asSaid returns the row for discovery's data about a backend; was may be nil.
func asSaid(was *backendRow, b Backend, o *Options, now time.Time) *backendRow {
	row := &backendRow{Backend: b, hash: keyHash(b.ID), since: now, kept: b.KeptByAll}
	switch {
	case !b.Pending:
	case was == nil || was.gone || was.Pending:
		row.State, row.Reason = Down, "not known yet whether it is up"
	default: // its state stays until there is an answer
		row.State, row.Reason, row.Pending, row.kept, row.flapping = was.State, was.Reason, false, was.kept, was.flapping
		return row
	}
	if !row.Pending {
		row.damp(was, o, now)
	}
	return row
}

// stand sets since when the row has its state.
func (row *backendRow) stand(was *backendRow, now time.Time) {
	if was == nil {
		return
	}
	row.down = was.down
	if was.State == row.State {
		row.since, row.lostAt = was.since, was.lostAt
	}
	if was.usable() && !row.usable() {
		row.lostAt, row.down = now, now
	}
}

// asGone returns the row of a backend that isn't listed any more: it remains while users are pinned to it.
func asGone(was *backendRow, o *Options, now time.Time) *backendRow {
	row := *was
	row.State, row.gone, row.kept = Down, true, false
	if !was.gone {
		row.Reason = "not listed any more"
	}
	if was.usable() {
		row.since, row.lostAt, row.down = now, now, now
	}
	row.damp(was, o, now)
	return &row
}

// keep undoes the loss in a row that isn't stored yet.
func keep(row, was *backendRow) {
	row.State, row.since, row.lostAt, row.down, row.gone, row.kept = was.State, was.since, was.lostAt, was.down, false, true
	row.Reason = "kept by the panic threshold; discovery says: " + row.Reason
}

// take adds a row that differs from the stored one, and the event for the log.
func (p *plan) take(was, row *backendRow) {
	if was == nil || was.Pending && !row.Pending {
		p.put = append(p.put, row)
		if !row.Pending {
			p.events = append(p.events, event{"backend joined", row, row.State})
		}
		return
	}
	if was.equal(&row.Backend) && was.gone == row.gone && was.kept == row.kept && was.same(row.flapping) {
		return
	}
	p.put = append(p.put, row)
	what := "backend changed"
	switch {
	case row.gone && !was.gone:
		what = "backend left"
	case was.gone && !row.gone:
		what = "backend came back"
	case row.kept && !was.kept:
		what = "backend kept"
	case row.damped && !was.damped:
		what = "backend flaps, and gets no new users"
	case was.State != row.State:
		what = map[State]string{Up: "backend is up", Draining: "backend is draining", Down: "backend is down"}[row.State]
	}
	p.events = append(p.events, event{what, row, was.State})
}

// beyond says whether lost is more than threshold's share of base. The product of a share and a count isn't
// exact (0.58 × 50 is a little less than 29), so there is a tolerance, far below one backend.
func beyond(lost, base int, threshold float64) bool {
	return float64(lost) > threshold*float64(base)+1e-6
}

// summary describes why the panic threshold holds, with its figures.
func (p *plan) summary(o *Options) string {
	earlier := ""
	if p.lately > 0 {
		earlier = fmt.Sprintf(" (%d in this answer, %d in the last %v)", p.lost, p.lately, o.PanicWindow)
	}
	return fmt.Sprintf("took away %d of %d backends%s, more than panic_threshold (%s%%)",
		p.lost+p.lately, p.base, earlier, strconv.FormatFloat(o.PanicThreshold*100, 'g', 6, 64))
}
