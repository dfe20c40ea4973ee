package wire

// Verb is a command's name, from a closed set: anything else is Other. The UID
// forms are verbs of their own. What is known of each stands in one table, rules.
type Verb uint8

// The verbs that are told apart, by what the proxy does with them or because an
// operator will want to see them in a graph.
const (
	Other Verb = iota
	Append
	Authenticate
	BatchesOfUIDs
	CancelUpdate
	Capability
	Check
	Close
	Compress
	Copy
	Create
	Delete
	DeleteACL
	Enable
	ESearch
	Examine
	Expunge
	Fetch
	GenURLAuth
	GetACL
	GetAnnotation
	GetJMAPAccess
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
	ResetKey
	RList
	RLsub
	Search
	Select
	SetACL
	SetAnnotation
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
	URLFetch
	XApplePushService
	XList
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

// NumVerbs is the number of verbs: each Verb is less than it.
const NumVerbs = int(numVerbs)

func (v Verb) String() string { return rules[v].Name }

// Verbs lists the names of all verbs, Other's first.
func Verbs() []string {
	names := make([]string, 0, numVerbs)
	for _, r := range rules {
		names = append(names, r.Name)
	}
	return names
}

// lookup finds the verb of a command's name.
func lookup(name []byte) Verb {
	if len(name) == 0 {
		return Other
	}
	for v := Other + 1; v < UIDCopy; v++ {
		if foldEq(name, rules[v].Name) {
			return v
		}
	}
	return Other
}

// lookupUID finds the verb of what follows "UID ".
func lookupUID(name []byte) Verb {
	for v := UIDCopy; v < numVerbs; v++ {
		if foldEq(name, rules[v].Name[len("UID "):]) {
			return v
		}
	}
	return Other
}
