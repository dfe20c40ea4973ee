package routing

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/go-memdb"
)

const (
	tableBackends = "backends"
	tablePins     = "pins"
	tableHealth   = "health"

	indexID      = "id" // memdb's name for the primary one
	indexBackend = "backend"
	indexIdle    = "idle"
)

// schema is the whole database.
func schema() *memdb.DBSchema {
	return &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableBackends: backendsSchema(),
		tablePins:     pinsSchema(),
		tableHealth:   healthSchema(),
	}}
}

// backendsSchema is the fleet: who discovery lists, and who it listed until
// lately and still has pins. A row leaves with its last pin (Apply takes it away).
func backendsSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tableBackends, Indexes: map[string]*memdb.IndexSchema{
		indexID: {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*backendRow).ID }}},
	}}
}

// pinsSchema is who is on which backend: each user with a session, or whose
// last one ended less than PinGrace ago. Those without a session are in the
// index idle, oldest first, which is the order they end in.
func pinsSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tablePins, Indexes: map[string]*memdb.IndexSchema{
		indexID:      {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*pinRow).user }}},
		indexBackend: {Name: indexBackend, Indexer: textIndex{func(row any) string { return row.(*pinRow).backend }}},
		indexIdle:    {Name: indexIdle, AllowMissing: true, Indexer: idleIndex{}},
	}}
}

// healthSchema is the backends whose last dial failed; a success takes the row away.
func healthSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tableHealth, Indexes: map[string]*memdb.IndexSchema{
		indexID: {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*healthRow).backend }}},
	}}
}

// textIndex indexes rows by a text of theirs. memdb's own does it by
// reflection, which would be the dearest part of a pick.
type textIndex struct{ of func(row any) string }

// FromObject is part of memdb's SingleIndexer.
func (x textIndex) FromObject(row any) (bool, []byte, error) { return true, textKey(x.of(row)), nil }

// FromArgs is part of memdb's Indexer.
func (x textIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("routing: %d arguments to a text index", len(args))
	}
	s, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("routing: %T given to a text index", args[0])
	}
	return textKey(s), nil
}

// textKey ends in NUL, as memdb wants it, so that no key begins another.
func textKey(s string) []byte {
	key := make([]byte, len(s)+1)
	copy(key, s)
	return key
}

// idleIndex orders the pins without a session by when their last one ended.
type idleIndex struct{}

// FromObject is part of memdb's SingleIndexer.
func (idleIndex) FromObject(row any) (bool, []byte, error) {
	pin := row.(*pinRow)
	if pin.sessions > 0 {
		return false, nil, nil
	}
	return true, timeKey(pin.idleSince), nil
}

// FromArgs is part of memdb's Indexer.
func (idleIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("routing: %d arguments to the idle index", len(args))
	}
	t, ok := args[0].(time.Time)
	if !ok {
		return nil, fmt.Errorf("routing: %T given to the idle index", args[0])
	}
	return timeKey(t), nil
}

// timeKey sorts as the times do, those before 1970 included.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())^(1<<63))
}
