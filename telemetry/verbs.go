package telemetry

import (
	"slices"
	"strings"

	"imapproxy/proxy/wire"
)

// A command's verb in metrics and span names is its name in wire's table of verbs. The table is closed: a
// command that isn't in it counts as wire.Other, so that clients can't add series.

// knownVerb keeps the label wake a closed set: it returns the name of a verb, and wire.Other's name for
// anything else.
func knownVerb(name string) string {
	for v := range wire.NumVerbs {
		if wire.Verb(v).String() == name {
			return name
		}
	}
	return wire.Other.String()
}

// verbList returns the names of all verbs for the documentation, in alphabetical order.
func verbList() string {
	names := slices.Sorted(slices.Values(wire.Verbs()))
	return "`" + strings.Join(names, "`, `") + "`"
}

// The values of a command's status in metrics, in the order of the counters.
const (
	statusOK = iota
	statusNO
	statusBAD
	statusCut
	statusClosed
	statusCount
)

// statusCutLabel is the status of a command without tagged answer, because the session or the backend ended
// first.
const statusCutLabel = "cut"

// StatusClosed is the status of an IDLE that the client ended by closing its connection, as phones do.
const StatusClosed = "closed"

// statusLabels are the label values of the statuses above.
var statusLabels = [statusCount]string{"OK", "NO", "BAD", statusCutLabel, StatusClosed}

// statusIndex maps the status of a tagged response to its counter. Any status but OK, NO, BAD and StatusClosed
// means that the command was cut off.
func statusIndex(status string) int {
	switch status {
	case "OK":
		return statusOK
	case "NO":
		return statusNO
	case "BAD":
		return statusBAD
	case StatusClosed:
		return statusClosed
	}
	return statusCut
}

// class is a class of verbs: metrics that have a backend distinguish these and not verbs, so that there are few series.
type class int

const (
	classFetch class = iota
	classSearch
	classSelect
	classList
	classAppend
	classChange
	classOther
	classCount
)

// classLabels are the label values of the classes above.
var classLabels = [classCount]string{"fetch", "search", "select", "list", "append", "change", "other"}

// classOf returns a verb's class.
func classOf(v wire.Verb) class {
	switch v {
	case wire.Fetch, wire.UIDFetch:
		return classFetch
	case wire.Search, wire.Sort, wire.Thread, wire.UIDSearch, wire.UIDSort, wire.UIDThread, wire.ESearch:
		return classSearch
	case wire.Select, wire.Examine:
		return classSelect
	case wire.List, wire.Lsub, wire.XList, wire.RList, wire.RLsub, wire.StatusVerb:
		return classList
	case wire.Append:
		return classAppend
	case wire.Other:
		return classOther
	}
	if v.Rule().Changes {
		return classChange
	}
	return classOther
}
