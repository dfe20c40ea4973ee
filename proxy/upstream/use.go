package upstream

// Use is the purpose of a connection for its whole life: a connection that a session has used never serves a
// watch or a resync, whose ENABLE would change what the session is told, and vice versa.
type Use uint8

// The uses of a connection.
const (
	UseSession Use = iota // for a client, in the client's dialect
	UseWatch              // for watches and resyncs
)
