package auth

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"imapproxy/telemetry"
)

// errAuthAnswer matches answers that aren't of the protocol.
var errAuthAnswer = errors.New("the service's answer isn't one of auth_http")

// maxAuthWait bounds what a service may want a client to wait: for a failure's answer, and for all
// WAITs of a login.
const maxAuthWait = 15 * time.Second

// httpVerdict reads the headers of an answer. The cases of Auth-Status:
//
//	OK                      accepted
//	WAIT                    asked again after Auth-Wait seconds
//	missing, or several     unavailable
//	a text of unknownUser   the next source is asked
//	a text with a word of   locked
//	  lockedWords
//	a text with a word of   unavailable
//	  temporaryWords
//	any other text          a wrong password, or an unknown user
func httpVerdict(header http.Header, names Names) (v Verdict, again time.Duration) {
	all := header.Values("Auth-Status")
	if len(all) != 1 {
		return Unavailable{fmt.Errorf("%w: %d headers Auth-Status", errAuthAnswer, len(all))}, 0
	}
	switch status := strings.TrimSpace(all[0]); status {
	case "OK":
		return acceptedBy(header, names), 0
	case "WAIT":
		if again = authWait(header); again == 0 {
			return Unavailable{fmt.Errorf("%w: Auth-Status: WAIT without Auth-Wait", errAuthAnswer)}, 0
		}
		return Unavailable{}, again
	default:
		return refusedBy(status, authWait(header)), 0
	}
}

// What the texts of Auth-Status in the world say, in lower case. unknownUser are whole texts: "unknown
// user or wrong password" says neither.
var (
	unknownUser    = []string{"unknown user", "user unknown", "no such user", "user not found"}
	lockedWords    = []string{"disabled", "locked", "suspended", "deactivated", "expired"}
	temporaryWords = []string{"temporar", "try again later", "unavailable", "internal error", "server error"}
)

// refusedBy is the verdict of a text that isn't OK.
func refusedBy(status string, wait time.Duration) Verdict {
	text := strings.Trim(strings.ToLower(status), " .!")
	for _, t := range unknownUser {
		if text == t {
			return Unknown{}
		}
	}
	for _, w := range temporaryWords {
		if strings.Contains(text, w) {
			return Unavailable{errors.New("the service can't tell at the moment")}
		}
	}
	for _, w := range lockedWords {
		if strings.Contains(text, w) {
			return Rejected{Reason: ReasonAccountDisabled, Wait: wait}
		}
	}
	return Rejected{Reason: ReasonBadPassword, Wait: wait}
}

// acceptedBy reads the rest of an answer that lets the user in.
func acceptedBy(header http.Header, names Names) Verdict {
	a := Accepted{Password: telemetry.Secret(header.Get("Auth-Pass"))}
	if user := header.Get("Auth-User"); user != "" {
		canonical, err := names.Given(user)
		if err != nil {
			return Unavailable{fmt.Errorf("%w: Auth-User: %w", errAuthAnswer, err)}
		}
		a.User = canonical
	}
	server, port := header.Get("Auth-Server"), header.Get("Auth-Port")
	switch n, err := strconv.Atoi(port); {
	case port == "":
		a.Placement = server
	case server == "" || err != nil || n < 1 || n > 65535:
		return Unavailable{fmt.Errorf("%w: Auth-Server and Auth-Port aren't an address", errAuthAnswer)}
	default:
		a.Placement = net.JoinHostPort(server, port)
	}
	return a
}

// authWait is Auth-Wait, bounded; 0 where it isn't a number of seconds.
func authWait(header http.Header) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(header.Get("Auth-Wait")), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxAuthWait)
}
