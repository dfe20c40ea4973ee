package routing

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-memdb"
)

// readTxn is a consistent view of the tables. It never blocks and blocks no other transaction. The errors
// that memdb can return are mistakes of this package (a table's name, an argument's type), so they panic.
type readTxn struct{ txn *memdb.Txn }

// writeTxn is a readTxn that sees its own changes and publishes them at commit. There is one at a time, so
// the data that it reads doesn't change.
type writeTxn struct{ readTxn }

func newReadTxn(db *memdb.MemDB) readTxn   { return readTxn{db.Txn(false)} }
func newWriteTxn(db *memdb.MemDB) writeTxn { return writeTxn{readTxn{db.Txn(true)}} }

func first[Row any](t readTxn, table, id string) *Row {
	row, err := t.txn.First(table, indexID, id)
	mustBeOurs(err)
	if row == nil {
		return nil
	}
	return row.(*Row)
}

func each[Row any](t readTxn, table, index string, args []any, f func(*Row) bool) {
	it, err := t.txn.Get(table, index, args...)
	mustBeOurs(err)
	for row := it.Next(); row != nil; row = it.Next() {
		if !f(row.(*Row)) {
			return
		}
	}
}

// backend returns the row, or nil.
func (t readTxn) backend(id string) *backendRow { return first[backendRow](t, tableBackends, id) }

// shown returns the backend's name for logs and pages.
func (t readTxn) shown(id string) string {
	if b := t.backend(id); b != nil {
		return b.Name
	}
	return id
}

// pin returns the row, or nil; it may have ended.
func (t readTxn) pin(user string) *pinRow { return first[pinRow](t, tablePins, user) }

// health returns the row, or nil if the last dial succeeded.
func (t readTxn) health(id string) *healthRow { return first[healthRow](t, tableHealth, id) }

// backends calls f for each, by id, until it returns false.
func (t readTxn) backends(f func(*backendRow) bool) {
	each(t, tableBackends, indexID, nil, f)
}

// allHealth returns the backends that are refusing; usually none.
func (t readTxn) allHealth() map[string]*healthRow {
	var all map[string]*healthRow
	each(t, tableHealth, indexID, nil, func(h *healthRow) bool {
		if all == nil {
			all = make(map[string]*healthRow)
		}
		all[h.backend] = h
		return true
	})
	return all
}

// pins calls f for each, by user, until it returns false.
func (t readTxn) pins(f func(*pinRow) bool) { each(t, tablePins, indexID, nil, f) }

// pinnedTo says whether a pin is on the backend, including ended ones.
func (t readTxn) pinnedTo(id string) bool {
	row, err := t.txn.First(tablePins, indexBackend, id)
	mustBeOurs(err)
	return row != nil
}

// endedPins returns up to limit pins that have ended.
func (t readTxn) endedPins(now time.Time, grace time.Duration, limit int) []*pinRow {
	it, err := t.txn.LowerBound(tablePins, indexIdle, time.Unix(0, -1<<63))
	mustBeOurs(err)
	var ended []*pinRow
	for row := it.Next(); row != nil && len(ended) < limit; row = it.Next() {
		pin := row.(*pinRow)
		if !pin.ended(now, grace) {
			break // the others ended their sessions later
		}
		ended = append(ended, pin)
	}
	return ended
}

// watchBackend returns a channel that closes when the row is replaced or removed, or, if there is none, when
// one may have been added.
func (t readTxn) watchBackend(id string) <-chan struct{} {
	changed, _, err := t.txn.FirstWatch(tableBackends, indexID, id)
	mustBeOurs(err)
	return changed
}

func (t writeTxn) putBackend(b *backendRow)    { mustBeOurs(t.txn.Insert(tableBackends, b)) }
func (t writeTxn) deleteBackend(b *backendRow) { mustBeOurs(t.txn.Delete(tableBackends, b)) }
func (t writeTxn) putPin(p *pinRow)            { mustBeOurs(t.txn.Insert(tablePins, p)) }
func (t writeTxn) deletePin(p *pinRow)         { mustBeOurs(t.txn.Delete(tablePins, p)) }
func (t writeTxn) putHealth(h *healthRow)      { mustBeOurs(t.txn.Insert(tableHealth, h)) }
func (t writeTxn) deleteHealth(h *healthRow)   { mustBeOurs(t.txn.Delete(tableHealth, h)) }

// commit publishes the changes and wakes the watchers of the rows.
func (t writeTxn) commit() { t.txn.Commit() }

// abort drops the changes; after commit it does nothing.
func (t writeTxn) abort() { t.txn.Abort() }

func mustBeOurs(err error) {
	if err != nil {
		panic(fmt.Sprintf("routing: the tables don't fit their schema: %v", err))
	}
}
