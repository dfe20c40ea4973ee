package view

// Dialect is the form in which a client is told of changes. It depends on what the client has enabled.
type Dialect uint8

// The dialects. A client uses CondStore once it has used a parameter of RFC 7162 §3.1, and QResync only after
// ENABLE QRESYNC (§3.2.3).
const (
	Plain     Dialect = iota // EXPUNGE and FETCH by number, no mod-sequences
	CondStore                // EXPUNGE by number, FETCH with UID and MODSEQ
	QResync                  // VANISHED, FETCH with UID and MODSEQ
)

var dialectNames = [...]string{"plain", "condstore", "qresync"}

func (d Dialect) String() string { return dialectNames[d] }
