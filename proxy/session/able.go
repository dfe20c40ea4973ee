package session

import (
	"fmt"
	"slices"
	"strings"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// A session may get another connection at a backend that has less than its client was told: the user is at another backend by now, or the backend was
// restarted with other settings. If the session relies on what is missing, it goes to another backend that has it, or ends with
// ReasonCapabilities. Otherwise it goes on, and the client is told what is left.

// lacks is the error for a backend that lacks capabilities that the session relies on.
type lacks struct {
	backend      string
	capabilities wire.Caps
}

func (l *lacks) Error() string {
	return fmt.Sprintf("backend %s lacks what the client was told and relies on: %s", l.backend, l.capabilities)
}

// missing returns the capabilities that the client was told of and the backend doesn't have.
func missing(has, told wire.Caps) wire.Caps {
	var all wire.Caps
	for _, name := range told {
		if !hidden(name) && !has.Has(name) {
			all = append(all, name)
		}
	}
	return all
}

// able returns *lacks if the connection's backend lacks a capability that the session relies on, and records what the backend can do.
func (s *Session) able(c *upstream.Conn) error {
	there, told := s.env.Capabilities.saw(c.Target.ID, c.Caps, s.env.Now()), s.caps.Load()
	if there == told {
		return nil
	}
	if needed := s.needs(missing(there.list, told.list)); len(needed) > 0 {
		return &lacks{backend: s.picked().Backend.Shown(), capabilities: needed}
	}
	return nil
}

// needs returns which of these capabilities the session relies on:
//
//	LITERAL+, LITERAL-, IMAP4rev2     always: the client may send literals without asking, and their bytes would be taken for commands
//	what the client has enabled       ENABLE, CONDSTORE, QRESYNC, UTF8=ACCEPT, UIDONLY …; CONDSTORE also by another command
//	CONDSTORE, QRESYNC, ENABLE        where the proxy finds by them what a parked client missed
//	IDLE                              the client is in IDLE, or may be parked: its IDLE is answered without a backend
//
// The proxy doesn't park clients of NOTIFY. A watch asks, too, whose login the hub makes while the session goes on.
func (s *Session) needs(missing wire.Caps) wire.Caps {
	used, dialect := s.inFlight.Extensions()
	byModSeq := s.set.Park.Hub != nil && resync.Choose(s.caps.Load().list, 0) == resync.Strategy(resync.ByQResync{})
	enabled := func(name string) bool {
		return slices.ContainsFunc(used, func(e string) bool { return strings.EqualFold(e, name) })
	}
	return missing.Without(func(name string) bool {
		switch strings.ToUpper(name) {
		case "LITERAL+", "LITERAL-", "IMAP4REV2":
			return false
		case "ENABLE":
			return len(used) == 0 && !byModSeq
		case "CONDSTORE", "QRESYNC":
			return !enabled(name) && dialect == view.Plain && !byModSeq
		case "UTF8=ONLY":
			return !enabled("UTF8=ACCEPT")
		case "IDLE":
			return s.set.Park.Hub == nil
		}
		return !enabled(name)
	})
}

// unable returns the backends that are known to lack something that the session relies on.
func (s *Session) unable() (ids []string) {
	told := s.caps.Load()
	all, _ := s.settings().Router.Serving()
	for _, b := range all {
		if there := s.env.Capabilities.at(b.ID); there != nil && there != told && len(s.needs(missing(there.list, told.list))) > 0 {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// settlesFor takes the capabilities of the session's new connection for those that the client is told, and returns the line that tells
// it what is left; nil if nothing is missing.
func (s *Session) settlesFor(has wire.Caps) []byte {
	there, told := s.env.Capabilities.of(has), s.caps.Load()
	s.narrows = there != told
	if there == told || len(missing(has, told.list)) == 0 {
		return nil
	}
	left := told.list.Without(func(name string) bool { return !has.Has(name) })
	s.caps.Store(s.env.Capabilities.of(left))
	s.log().Info("the session goes on at a backend with fewer capabilities", "backend", s.picked().Backend.Shown(), "missing", missing(has, told.list).String())
	return append(shown(left, s.offersCompression()).Append([]byte("* CAPABILITY ")), "\r\n"...)
}

// tells returns which of the backend's capabilities the client is told of.
func (s *Session) tells(c wire.Caps) wire.Caps {
	if s.narrows {
		told := s.caps.Load().list
		c = c.Without(func(name string) bool { return !told.Has(name) })
	}
	return shown(c, s.offersCompression())
}
