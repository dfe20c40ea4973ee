package session

// Attachment says whether a session has a backend connection, or is about to get or lose one.
type Attachment uint32

// The attachment is None before login, then Attached. An idle session goes through Parking to Parked and comes
// back through Resuming, sometimes through CatchingUp (docs/parking.md).
const (
	None Attachment = iota
	Attached
	Parking
	Parked
	Resuming
	CatchingUp // attached, but the client isn't told yet of expunged messages
	Ended
)

var attachmentNames = [...]string{"none", "attached", "parking", "parked", "resuming", "catching_up", "ended"}

func (a Attachment) String() string { return attachmentNames[a] }
