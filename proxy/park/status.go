package park

import (
	"bytes"
	"strconv"
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// mailboxStatus is what STATUS has said of a mailbox.
type mailboxStatus struct {
	messages, unseen, next, validity, modSeq uint64
	has                                      uint8 // a bit for each that was said
}

// update takes over what n says, and says whether any of it differs from what was
// known.
func (s *mailboxStatus) update(n mailboxStatus) (changed bool) {
	now := []*uint64{&s.messages, &s.unseen, &s.next, &s.validity, &s.modSeq}
	for i, v := range []uint64{n.messages, n.unseen, n.next, n.validity, n.modSeq} {
		if bit := uint8(1) << i; n.has&bit != 0 {
			changed = changed || s.has&bit != 0 && *now[i] != v
			*now[i] = v
			s.has |= bit
		}
	}
	return changed
}

// parseStatus reads what follows STATUS. RFC 9051 §7.3.4.
func parseStatus(b []byte, utf8Names bool) (name string, s mailboxStatus, ok bool) {
	raw, rest, err := wire.AString(b)
	if err != nil {
		return "", s, false
	}
	if name, err = view.DecodeMailbox(raw, utf8Names); err != nil {
		return "", s, false
	}
	rest = bytes.TrimSpace(rest)
	if len(rest) < 2 || rest[0] != '(' || rest[len(rest)-1] != ')' {
		return "", s, false
	}
	items := bytes.Fields(rest[1 : len(rest)-1])
	for i := 0; i+1 < len(items); i += 2 {
		n, err := strconv.ParseUint(string(items[i+1]), 10, 64)
		if err != nil {
			continue // MAILBOXID and the like
		}
		switch strings.ToUpper(string(items[i])) {
		case "MESSAGES":
			s.messages, s.has = n, s.has|1
		case "UNSEEN":
			s.unseen, s.has = n, s.has|2
		case "UIDNEXT":
			s.next, s.has = n, s.has|4
		case "UIDVALIDITY":
			s.validity, s.has = n, s.has|8
		case "HIGHESTMODSEQ":
			s.modSeq, s.has = n, s.has|16
		}
	}
	return name, s, true
}
