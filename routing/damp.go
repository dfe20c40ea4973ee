package routing

import (
	"fmt"
	"time"
)

// A backend flaps when discovery takes it away for at least the second time, and the time before was at most
// flapWindow × FlapDamp ago.
const (
	flapsFrom  = 2
	flapWindow = 5
)

// damp adds the history of the backend to row, which has discovery's data, and makes one that flaps drain.
// was is the stored row; nil: the backend is new. The cases:
//
//	discovery takes it away                     it is, at once; that counts as a fall
//	it is usable again, the first time          it is, at once
//	again, after flapsFrom falls in a short     it drains until discovery has called it usable
//	time (each within flapWindow × FlapDamp     for FlapDamp without a break: its users stay,
//	of the one before)                          no new ones come
//	it is used now, as the panic threshold      it stays so
//	kept it
//	the user's only backend (Separate)          it never drains for that: there is no other
func (row *backendRow) damp(was *backendRow, o *Options, now time.Time) {
	var f flapping
	if was != nil {
		f = was.flapping
	}
	f.damped = false
	switch {
	case !row.usable() && !f.well.IsZero():
		if f.falls++; now.Sub(f.fell) > flapWindow*o.FlapDamp {
			f.falls = 1
		}
		f.fell, f.well = now, time.Time{}
	case row.usable() && f.well.IsZero():
		f.well = now
	}
	if row.usable() && was != nil && (!was.usable() || was.damped) && o.Storage == Shared && f.falls >= flapsFrom && now.Sub(f.well) < o.FlapDamp {
		f.damped = true
		row.State = Draining
		row.Reason = fmt.Sprintf("it has come and gone %d times lately; it gets new users when it has been up for %v without a break", f.falls, o.FlapDamp)
	}
	row.flapping = f
}

// release undoes damp if no other backend takes users: a backend that flaps is better than none.
func release(rows []*backendRow, said map[string]Backend) {
	for _, row := range rows {
		if row.takesNew() {
			return
		}
	}
	for _, row := range rows {
		if row.damped {
			row.State, row.Reason, row.damped = said[row.ID].State, said[row.ID].Reason, false
		}
	}
}
