package telemetry

// VerbOther is the verb of every command that isn't in Verbs.
const VerbOther = "OTHER"

// Verbs is the closed set of values of a command's verb in metrics and span
// names. The names are upper case; a UID command is one verb with its blank. What
// a client invents is counted as VerbOther, so it can't grow the metrics.
var Verbs = [...]string{
	// RFC 9051 §6.1 to §6.4 and RFC 3501
	"CAPABILITY", "NOOP", "LOGOUT",
	"STARTTLS", "AUTHENTICATE", "LOGIN",
	"ENABLE", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE",
	"LIST", "LSUB", "NAMESPACE", "STATUS", "APPEND", "IDLE",
	"CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY", "MOVE",
	"UID EXPUNGE", "UID SEARCH", "UID FETCH", "UID STORE", "UID COPY", "UID MOVE",
	"ID",                                       // RFC 2971
	"SORT", "THREAD", "UID SORT", "UID THREAD", // RFC 5256
	"ESEARCH",                // RFC 7377
	"REPLACE", "UID REPLACE", // RFC 8508
	"GETQUOTA", "GETQUOTAROOT", "SETQUOTA", // RFC 9208
	"GETACL", "SETACL", "DELETEACL", "LISTRIGHTS", "MYRIGHTS", // RFC 4314
	"GETMETADATA", "SETMETADATA", // RFC 5464
	"GETANNOTATION", "SETANNOTATION", // ANNOTATEMORE, still in use with Cyrus
	"NOTIFY",                             // RFC 5465
	"COMPRESS",                           // RFC 4978
	"CANCELUPDATE",                       // RFC 5267
	"GENURLAUTH", "RESETKEY", "URLFETCH", // RFC 4467
	"LANGUAGE", "COMPARATOR", // RFC 5255
	"CONVERT", "UID CONVERT", // RFC 5259
	"UNAUTHENTICATE", // RFC 8437
	"UIDBATCHES",     // an IETF draft when this was written
	"GETJMAPACCESS",  // RFC 9698
	"RLIST", "RLSUB", // RFC 2193
	"XLIST", "XAPPLEPUSHSERVICE", // vendors' commands that many clients send
	VerbOther,
}

// verbPlaces maps each verb to its place in Verbs.
func verbPlaces() map[string]int {
	places := make(map[string]int, len(Verbs))
	for i, verb := range Verbs {
		places[verb] = i
	}
	return places
}

// verbPlace returns a verb's place in Verbs, that of VerbOther for one that
// isn't there.
func (t *Telemetry) verbPlace(verb string) int {
	if i, ok := t.verbs[verb]; ok {
		return i
	}
	return len(Verbs) - 1
}

// The values of a command's status in metrics, in the order of the counters.
const (
	statusOK = iota
	statusNO
	statusBAD
	statusCut
	statusCount
)

// statusCutLabel is the status of a command that got no tagged answer, because
// the session or the backend ended first.
const statusCutLabel = "cut"

// statusLabels are the label values of the statuses above.
var statusLabels = [statusCount]string{"OK", "NO", "BAD", statusCutLabel}

// statusIndex maps the status of a tagged response to its counter. Anything
// but OK, NO and BAD is a command that was cut off.
func statusIndex(status string) int {
	switch status {
	case "OK":
		return statusOK
	case "NO":
		return statusNO
	case "BAD":
		return statusBAD
	}
	return statusCut
}
