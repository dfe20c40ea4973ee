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
