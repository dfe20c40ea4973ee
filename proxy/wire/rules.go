package wire

// Set says where a command's arguments name messages.
type Set uint8

const (
	// NoSet: the arguments name no messages.
	NoSet Set = iota
	// FirstArgument is a sequence-set or a set of UIDs (RFC 9051 §9), or "$".
	FirstArgument
	// Program: message sets may stand anywhere in a search program (RFC 9051 §6.4.4, RFC 5256).
	Program
)

// Mailboxes says where a command's arguments name mailboxes.
type Mailboxes uint8

const (
	// NoMailbox: the arguments name none.
	NoMailbox Mailboxes = iota
	// AllMailboxes: the answer is about the mailboxes of all namespaces.
	AllMailboxes
	// FirstMailbox: the first argument is a mailbox.
	FirstMailbox
	// SecondMailbox: the one behind a set of messages is.
	SecondMailbox
	// TwoMailboxes: the first two arguments are.
	TwoMailboxes
	// MailboxBehindOptions: the first argument is, or the one behind a list of options.
	MailboxBehindOptions
	// AnyMailboxes: mailboxes, or URLs that name some, may stand anywhere.
	AnyMailboxes
)

// State is the state that a command leaves on its connection, besides the selected mailbox and the extensions
// that ENABLE enables, as far as the command's name tells.
type State uint8

const (
	// NoState: the command leaves no state.
	NoState State = iota
	// NotifyState is the state that NOTIFY sets (RFC 5465).
	NotifyState
	// UnknownState: the command may leave any state.
	UnknownState
)

// Loss says what becomes of a command that was with the backend, unanswered, when the connection was lost.
type Loss uint8

const (
	// LossRefused: the command may have been done, and a second time isn't the same. The proxy answers NO.
	LossRefused Loss = iota
	// LossRepeated: the proxy sends the command again. Responses that come twice are harmless (RFC 9051 §7).
	LossRepeated
	// LossOnce: the proxy sends the command again if no response to it was relayed: clients put two answers together.
	LossOnce
)

// Rule is what the proxy knows of one verb. The zero value of each field is the usual case.
type Rule struct {
	// Name is in upper case; the name of a UID form begins with "UID ".
	Name string

	// Bare: the grammar gives the command no arguments; some servers execute the content of a literal in it
	// as commands.
	Bare bool

	// Literals: an argument may be a string, so every server reads a literal where a string may stand. If
	// Literals is false, some servers answer BAD and execute the literal's content as commands.
	Literals bool

	// Set says where the command names messages. UID: it names them by UID, as its responses do; otherwise by
	// sequence number.
	Set Set
	UID bool

	// Names says where the command names mailboxes.
	Names Mailboxes

	// HoldsExpunge: the server must not send EXPUNGE while the command is in progress (RFC 9051 §7.5.1; RFC
	// 5256 for SORT and THREAD).
	HoldsExpunge bool

	// Marks: the command changes or copies the messages that it names, so "*" must mean the last message that
	// the client knows.
	Marks bool

	// Removes: the command's result is EXPUNGE or VANISHED.
	Removes bool

	// Changes: the command may change a mailbox, even if the answer is NO: a MOVE may fail after it has moved
	// some of its messages.
	Changes bool

	// Sets: the command changes something that isn't in a mailbox: subscriptions, quotas, annotations.
	Sets bool

	// Selects: the command selects the mailbox that is its first argument. Leaves: after its OK, the mailbox
	// that was selected before is no longer selected.
	Selects, Leaves bool

	// OnSelected: the command is about the selected mailbox, and allowed in the selected state only (RFC 9051 §6.4).
	OnSelected bool

	// Renames: the mailbox that is the command's first argument loses its name.
	Renames bool

	// ModSeq: the command's arguments may enable CONDSTORE (RFC 7162 §3.1). Saves: its arguments may ask for
	// a result that outlives the command (RFC 5182, RFC 5267).
	ModSeq, Saves bool

	// State is the state that the command leaves.
	State State

	// Loss is what becomes of the command when the connection is lost.
	Loss Loss

	// Converses: the exchange isn't one command and its tagged response, or the response changes what the
	// relay does. Only the relay can carry such a command.
	Converses bool
}

// Rule returns the row of a verb. The caller must not change it.
func (v Verb) Rule() *Rule { return &rules[v] }

// ByNumber says whether a command of this verb names messages by sequence number.
func (r *Rule) ByNumber() bool { return r.Set != NoSet && !r.UID }

// Alters says whether a command of this verb may change something, in a mailbox or elsewhere.
func (r *Rule) Alters() bool { return r.Changes || r.Sets }

// rules is the table of verbs: the only place that describes IMAP's commands.
var rules = [numVerbs]Rule{
	Other: {Name: "OTHER", State: UnknownState, Changes: true, Converses: true},

	// RFC 9051 §6.1, any state.
	Capability: {Name: "CAPABILITY", Bare: true, Loss: LossRepeated},
	Noop:       {Name: "NOOP", Bare: true, Loss: LossRepeated},
	Logout:     {Name: "LOGOUT", Bare: true, Converses: true},
	ID:         {Name: "ID", Loss: LossRepeated}, // RFC 2971; Cyrus reads no literal here

	// RFC 9051 §6.2, before login.
	Authenticate: {Name: "AUTHENTICATE", State: UnknownState, Converses: true},
	Login:        {Name: "LOGIN", Literals: true, State: UnknownState, Converses: true},
	StartTLS:     {Name: "STARTTLS", Bare: true, State: UnknownState, Converses: true},

	// RFC 9051 §6.3, authenticated.
	Enable:      {Name: "ENABLE", Converses: true, Loss: LossRepeated},
	Select:      {Name: "SELECT", Names: FirstMailbox, Literals: true, Selects: true, Leaves: true, Converses: true, Loss: LossRepeated},
	Examine:     {Name: "EXAMINE", Names: FirstMailbox, Literals: true, Selects: true, Leaves: true, Converses: true, Loss: LossRepeated},
	Create:      {Name: "CREATE", Names: FirstMailbox, Literals: true, Changes: true},
	Delete:      {Name: "DELETE", Names: FirstMailbox, Literals: true, Changes: true, Renames: true},
	Rename:      {Name: "RENAME", Names: TwoMailboxes, Literals: true, Changes: true, Renames: true},
	Subscribe:   {Name: "SUBSCRIBE", Names: FirstMailbox, Literals: true, Sets: true, Loss: LossRepeated},
	Unsubscribe: {Name: "UNSUBSCRIBE", Names: FirstMailbox, Literals: true, Sets: true, Loss: LossRepeated},
	List:        {Name: "LIST", Names: AllMailboxes, Literals: true, ModSeq: true, Loss: LossOnce}, // RETURN (STATUS (HIGHESTMODSEQ)), RFC 5819
	Lsub:        {Name: "LSUB", Names: AllMailboxes, Literals: true, Loss: LossOnce},
	XList:       {Name: "XLIST", Names: AllMailboxes, Literals: true, Loss: LossOnce},
	RList:       {Name: "RLIST", Names: AllMailboxes, Literals: true, Loss: LossOnce}, // RFC 2193
	RLsub:       {Name: "RLSUB", Names: AllMailboxes, Literals: true, Loss: LossOnce},
	Namespace:   {Name: "NAMESPACE", Names: AllMailboxes, Bare: true, Loss: LossRepeated},
	StatusVerb:  {Name: "STATUS", Names: FirstMailbox, Literals: true, ModSeq: true, Loss: LossOnce},
	Append:      {Name: "APPEND", Names: FirstMailbox, Literals: true, Changes: true},
	Idle:        {Name: "IDLE", Bare: true, Converses: true, Loss: LossRepeated},

	// RFC 9051 §6.4, selected.
	Check:      {Name: "CHECK", OnSelected: true, Bare: true, Loss: LossRepeated},
	Close:      {Name: "CLOSE", OnSelected: true, Bare: true, Leaves: true, Changes: true, Converses: true, Loss: LossRepeated},
	Unselect:   {Name: "UNSELECT", OnSelected: true, Bare: true, Leaves: true, Converses: true, Loss: LossRepeated},
	Expunge:    {Name: "EXPUNGE", OnSelected: true, Bare: true, Removes: true, Changes: true, Loss: LossRepeated},
	Search:     {Name: "SEARCH", OnSelected: true, Literals: true, Set: Program, HoldsExpunge: true, ModSeq: true, Saves: true, Loss: LossOnce},
	Fetch:      {Name: "FETCH", OnSelected: true, Set: FirstArgument, HoldsExpunge: true, ModSeq: true, Loss: LossRepeated}, // Cyrus reads no literal here
	Store:      {Name: "STORE", OnSelected: true, Set: FirstArgument, HoldsExpunge: true, Marks: true, Changes: true, ModSeq: true, Loss: LossRepeated},
	Copy:       {Name: "COPY", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, Marks: true, Changes: true},
	Move:       {Name: "MOVE", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, Marks: true, Removes: true, Changes: true},
	Replace:    {Name: "REPLACE", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, Marks: true, Removes: true, Changes: true}, // RFC 8508
	Sort:       {Name: "SORT", OnSelected: true, Literals: true, Set: Program, HoldsExpunge: true, ModSeq: true, Saves: true, Loss: LossOnce},            // RFC 5256
	Thread:     {Name: "THREAD", OnSelected: true, Literals: true, Set: Program, HoldsExpunge: true, ModSeq: true, Loss: LossOnce},
	UIDCopy:    {Name: "UID COPY", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, UID: true, Marks: true, Changes: true},
	UIDExpunge: {Name: "UID EXPUNGE", OnSelected: true, Set: FirstArgument, UID: true, Marks: true, Removes: true, Changes: true, Loss: LossRepeated},
	UIDFetch:   {Name: "UID FETCH", OnSelected: true, Set: FirstArgument, UID: true, ModSeq: true, Loss: LossRepeated},
	UIDMove:    {Name: "UID MOVE", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, UID: true, Marks: true, Removes: true, Changes: true},
	UIDReplace: {Name: "UID REPLACE", Names: SecondMailbox, OnSelected: true, Literals: true, Set: FirstArgument, UID: true, Marks: true, Removes: true, Changes: true},
	UIDSearch:  {Name: "UID SEARCH", OnSelected: true, Literals: true, Set: Program, UID: true, ModSeq: true, Saves: true, Loss: LossOnce},
	UIDSort:    {Name: "UID SORT", OnSelected: true, Literals: true, Set: Program, UID: true, ModSeq: true, Saves: true, Loss: LossOnce},
	UIDStore:   {Name: "UID STORE", OnSelected: true, Set: FirstArgument, UID: true, Marks: true, Changes: true, ModSeq: true, Loss: LossRepeated},
	UIDThread:  {Name: "UID THREAD", OnSelected: true, Literals: true, Set: Program, UID: true, ModSeq: true, Loss: LossOnce},

	// Search beyond the selected mailbox, and commands about the results of searches.
	ESearch:       {Name: "ESEARCH", Names: AnyMailboxes, OnSelected: true, Literals: true, UID: true, ModSeq: true, Saves: true, Converses: true, Loss: LossOnce}, // RFC 7377; its answer is about many mailboxes
	CancelUpdate:  {Name: "CANCELUPDATE", OnSelected: true, Literals: true, Loss: LossRepeated},                                                                    // RFC 5267
	BatchesOfUIDs: {Name: "UIDBATCHES", OnSelected: true},

	// Rights, quotas, annotations, URLs.
	GetACL:        {Name: "GETACL", Names: FirstMailbox, Literals: true, Loss: LossRepeated}, // RFC 4314
	SetACL:        {Name: "SETACL", Names: FirstMailbox, Literals: true, Changes: true, Loss: LossRepeated},
	DeleteACL:     {Name: "DELETEACL", Names: FirstMailbox, Literals: true, Changes: true, Loss: LossRepeated},
	ListRights:    {Name: "LISTRIGHTS", Names: FirstMailbox, Literals: true, Loss: LossRepeated},
	MyRights:      {Name: "MYRIGHTS", Names: FirstMailbox, Literals: true, Loss: LossRepeated},
	GetQuota:      {Name: "GETQUOTA", Literals: true, Loss: LossRepeated}, // RFC 9208
	GetQuotaRoot:  {Name: "GETQUOTAROOT", Names: FirstMailbox, Literals: true, Loss: LossRepeated},
	SetQuota:      {Name: "SETQUOTA", Literals: true, Sets: true, Loss: LossRepeated},
	GetMetadata:   {Name: "GETMETADATA", Names: MailboxBehindOptions, Literals: true, Loss: LossRepeated}, // RFC 5464
	SetMetadata:   {Name: "SETMETADATA", Names: FirstMailbox, Literals: true, Sets: true, Loss: LossRepeated},
	GetAnnotation: {Name: "GETANNOTATION", Names: FirstMailbox, Literals: true, Loss: LossRepeated},
	SetAnnotation: {Name: "SETANNOTATION", Names: FirstMailbox, Literals: true, Sets: true, Loss: LossRepeated},
	GenURLAuth:    {Name: "GENURLAUTH", Names: AnyMailboxes, Literals: true}, // RFC 4467
	ResetKey:      {Name: "RESETKEY", Names: AnyMailboxes, Literals: true},
	URLFetch:      {Name: "URLFETCH", Literals: true},

	// About the session and the account.
	Notify:            {Name: "NOTIFY", Names: AnyMailboxes, Literals: true, State: NotifyState}, // RFC 5465
	Compress:          {Name: "COMPRESS", State: UnknownState, Converses: true},
	Unauthenticate:    {Name: "UNAUTHENTICATE", Bare: true, State: UnknownState, Converses: true},
	GetJMAPAccess:     {Name: "GETJMAPACCESS", Bare: true, Loss: LossRepeated}, // RFC 9698
	XApplePushService: {Name: "XAPPLEPUSHSERVICE", Literals: true},
}

func (v Verb) String() string { return rules[v].Name }

// Verbs lists the names of all verbs, Other's first.
func Verbs() []string {
	names := make([]string, 0, numVerbs)
	for _, r := range rules {
		names = append(names, r.Name)
	}
	return names
}

// lookup returns the verb with this name, UID forms excepted.
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

// lookupUID returns the verb of the UID form with this name after "UID ".
func lookupUID(name []byte) Verb {
	for v := UIDCopy; v < numVerbs; v++ {
		if foldEq(name, rules[v].Name[len("UID "):]) {
			return v
		}
	}
	return Other
}
