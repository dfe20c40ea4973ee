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

	indexID      = "id" // memdb's name for the primary index
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

// backendsSchema is the fleet: the backends that discovery lists, and those that it listed until lately and
// that still have pins. A row is removed with its last pin (by Apply).
func backendsSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tableBackends, Indexes: map[string]*memdb.IndexSchema{
		indexID: {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*backendRow).ID }}},
	}}
}

// pinsSchema has the users who are pinned to a backend: users with a session, or whose last one ended less
// than PinGrace ago. Those without a session are in the index idle, oldest first, which is the order in which
// they end.
func pinsSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tablePins, Indexes: map[string]*memdb.IndexSchema{
		indexID:      {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*pinRow).user }}},
		indexBackend: {Name: indexBackend, Indexer: textIndex{func(row any) string { return row.(*pinRow).backend }}},
		indexIdle:    {Name: indexIdle, AllowMissing: true, Indexer: idleIndex{}},
	}}
}

// healthSchema has the backends whose last dial failed; a success removes the row.
func healthSchema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: tableHealth, Indexes: map[string]*memdb.IndexSchema{
		indexID: {Name: indexID, Unique: true, Indexer: textIndex{func(row any) string { return row.(*healthRow).backend }}},
	}}
}

// textIndex indexes rows by a text. memdb's own index uses reflection, which would be the most expensive part
// of a pick.
type textIndex struct{ of func(row any) string }

// FromObject implements memdb.SingleIndexer.
func (x textIndex) FromObject(row any) (bool, []byte, error) { return true, textKey(x.of(row)), nil }

// FromArgs implements memdb.Indexer.
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

// textKey ends with NUL, as memdb requires, so that no key is a prefix of another.
func textKey(s string) []byte {
	key := make([]byte, len(s)+1)
	copy(key, s)
	return key
}

// idleIndex orders the pins without a session by the end of their last one.
type idleIndex struct{}

// FromObject implements memdb.SingleIndexer.
func (idleIndex) FromObject(row any) (bool, []byte, error) {
	pin := row.(*pinRow)
	if pin.sessions > 0 {
		return false, nil, nil
	}
	return true, timeKey(pin.idleSince), nil
}

// FromArgs implements memdb.Indexer.
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

// timeKey sorts like the times, also before 1970.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())^(1<<63))
}
