package imaptest

import (
	"errors"
	"fmt"
	"strings"
)

// ModelLeaving hears what a client is told while its command leaves the selected mailbox, and
// afterwards, while none is selected. Nothing of the mailbox that is left may be told: a
// client that doesn't know [CLOSED] takes all of it for the new mailbox (RFC 9051 §7.1).
type ModelLeaving struct {
	Selects bool // the command is SELECT or EXAMINE
	Again   bool // what SELECT tells may come twice: the proxy said it again after a loss
	Since   bool // it names a mod-sequence (RFC 7162 §3.2.5), and is told what has changed since then

	Closed bool // [CLOSED] was told
	Exists int  // how many messages the new mailbox was said to have

	counted bool
	early   string // what was told of messages before [CLOSED]
}

// Response hears one response. Its error says which rule the server broke.
func (l *ModelLeaving) Response(r Response) error {
	if r.Tag() != "*" {
		return nil
	}
	switch r.Code() {
	case "CLOSED":
		switch {
		case !l.Selects:
			return errors.New("CLOSED while no other mailbox is selected")
		case l.Closed:
			return errors.New("CLOSED twice")
		case l.early != "":
			return fmt.Errorf("told before CLOSED: %s", l.early)
		}
		l.Closed = true
		return nil
	case "":
	default:
		return nil
	}
	switch {
	case r.Word(1) == "FLAGS", r.Word(2) == "EXISTS", r.Word(2) == "RECENT":
		if !l.Selects {
			return errors.New("told of a mailbox while none is selected")
		}
	case r.Word(1) == "VANISHED" && strings.EqualFold(r.Word(2), "(EARLIER)"), r.Word(2) == "FETCH":
		if !l.Since {
			return errors.New("told of the messages of the mailbox that is left")
		}
	case r.Word(1) == "VANISHED", r.Word(2) == "EXPUNGE":
		return errors.New("messages of the mailbox that is left are taken away")
	default:
		return nil
	}
	if !l.Closed && l.early == "" {
		l.early = r.Text
	}
	if r.Word(2) == "EXISTS" {
		if l.counted && !l.Again {
			return errors.New("EXISTS twice")
		}
		l.counted, l.Exists = true, atoi(r.Word(1))
	}
	return nil
}
