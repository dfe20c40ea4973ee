package wire

// Verb is the name of a command, from a closed set; any other name is Other. UID forms are verbs of their
// own. The table rules describes each verb.
type Verb uint8

// The verbs that the proxy distinguishes: those that it treats in a special way, and those that operators
// want to see in a graph.
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

// NumVerbs is the number of verbs; each Verb is less than it.
const NumVerbs = int(numVerbs)
