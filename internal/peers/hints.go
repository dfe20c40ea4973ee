package peers

import (
	"encoding/json"
	"errors"

	"imapproxy/proxy/park"
)

// Bounds of a batch of hints.
const (
	// MaxHintBytes bounds the body of POST HintsPath, in bytes.
	MaxHintBytes = 256 << 10
	// maxBatch is how many hints a batch has at most, fillBytes how many bytes of names after which no
	// further hint is added: one hint more, with each byte escaped, is still below MaxHintBytes.
	maxBatch  = 500
	fillBytes = 24 << 10
	// maxUserName and maxMailboxName are those of proxy/park/events, in bytes.
	maxUserName    = 512
	maxMailboxName = 1024
)

// HintsPath is where a proxy takes hints from its peers. What comes there isn't sent on.
const HintsPath = "/v1/hints"

// Hints is the body of POST HintsPath.
type Hints struct {
	Hints []Hint `json:"hints"`
}

// Hint says that something may have changed for a user.
type Hint struct {
	User    string `json:"user"`              // canonical
	Mailbox string `json:"mailbox,omitempty"` // canonical; "": all of the user's mailboxes
}

// Check returns what is wrong with hints that came from outside.
func (h Hints) Check() error {
	if len(h.Hints) > maxBatch {
		return errors.New("more hints than a batch may have")
	}
	for _, one := range h.Hints {
		if one.User == "" || len(one.User) > maxUserName || len(one.Mailbox) > maxMailboxName {
			return errors.New("a hint without a user, or with a name that is too long")
		}
	}
	return nil
}

// encode makes the body of a batch.
func encode(batch []park.Hint) []byte {
	all := Hints{Hints: make([]Hint, 0, len(batch))}
	for _, h := range batch {
		all.Hints = append(all.Hints, Hint{User: h.User, Mailbox: h.Mailbox})
	}
	body, err := json.Marshal(all)
	if err != nil {
		panic("peers: strings marshal")
	}
	return body
}
