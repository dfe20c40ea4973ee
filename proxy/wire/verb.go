package wire

// Verb is a command's name, from a closed set: anything else is Other. The UID
// forms are verbs of their own.
type Verb uint8

// The verbs that are told apart, by what the proxy does with them or because
// somebody will want to see them in a graph.
const (
	Other Verb = iota
	Append
	Authenticate
	Capability
	Check
	Close
	Compress
	Copy
	Create
	Delete
	DeleteACL
	Enable
	Examine
	Expunge
	Fetch
	GetACL
	GetMetadata
	GetQuota
	GetQuotaRoot
	ID
	Idle
	List
	ListRights
	Login
	Logout
	Lsub
	Move
	MyRights
	Namespace
	Noop
	Notify
	Rename
	Replace
	Search
	Select
	SetACL
	SetMetadata
	SetQuota
	Sort
	StartTLS
	StatusVerb
	Store
	Subscribe
	Thread
	Unauthenticate
	Unselect
	Unsubscribe
	UIDCopy
	UIDExpunge
	UIDFetch
	UIDMove
	UIDReplace
	UIDSearch
	UIDSort
	UIDStore
	UIDThread
	numVerbs
)

var verbNames = [numVerbs]string{
	"OTHER", "APPEND", "AUTHENTICATE", "CAPABILITY", "CHECK", "CLOSE", "COMPRESS", "COPY", "CREATE", "DELETE", "DELETEACL",
	"ENABLE", "EXAMINE", "EXPUNGE", "FETCH", "GETACL", "GETMETADATA", "GETQUOTA", "GETQUOTAROOT", "ID", "IDLE", "LIST",
	"LISTRIGHTS", "LOGIN", "LOGOUT", "LSUB", "MOVE", "MYRIGHTS", "NAMESPACE", "NOOP", "NOTIFY", "RENAME", "REPLACE",
	"SEARCH", "SELECT", "SETACL", "SETMETADATA", "SETQUOTA", "SORT", "STARTTLS", "STATUS", "STORE", "SUBSCRIBE", "THREAD",
	"UNAUTHENTICATE", "UNSELECT", "UNSUBSCRIBE",
	"UID COPY", "UID EXPUNGE", "UID FETCH", "UID MOVE", "UID REPLACE", "UID SEARCH", "UID SORT", "UID STORE", "UID THREAD",
}

func (v Verb) String() string { return verbNames[v] }

// Verbs lists the names of all verbs, Other's first.
func Verbs() []string { return append([]string(nil), verbNames[:]...) }

// lookup finds the verb of a command's name.
func lookup(name []byte) Verb {
	if len(name) == 0 {
		return Other
	}
	for v := Append; v < UIDCopy; v++ {
		if foldEq(name, verbNames[v]) {
			return v
		}
	}
	return Other
}

// lookupUID finds the verb of what follows "UID ".
func lookupUID(name []byte) Verb {
	for v := UIDCopy; v < numVerbs; v++ {
		if foldEq(name, verbNames[v][len("UID "):]) {
			return v
		}
	}
	return Other
}
