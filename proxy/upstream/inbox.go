package upstream

import (
	"bytes"
	"context"
	"fmt"
)

// maxCompare bounds the repetitions of a comparison while mail arrives in the master's INBOX.
const maxCompare = 3

// inbox is the STATUS of a connection's INBOX. Two that are equal, read while neither changes, count as one
// mailbox.
type inbox struct {
	exists                   bool
	validity, next, messages string
}

// sameID compares the values that don't change during a mailbox's life.
func (in inbox) sameID(other inbox) bool {
	return in.exists == other.exists && in.validity == other.validity
}

// likeness is the result of comparing two INBOXes.
type likeness uint8

const (
	different  likeness = iota
	theSame             // equal in everything while nothing changed
	indistinct          // can't be distinguished, however often they are compared
	bothMissing
)

// sameInbox compares the INBOXes of two connections; it reads the master's before and after the other's:
//
//   - the master's has changed its identity: indistinct. Courier makes up a new UIDVALIDITY at each STATUS
//     of an INBOX that was never selected, like the master's; two readings of one mailbox differ then.
//   - the other's is another mailbox: different.
//   - UIDNEXT or MESSAGES changed meanwhile: compare again, and at last indistinct.
func sameInbox(ctx context.Context, master, other *Conn) (likeness, error) {
	for range maxCompare {
		before, err := master.inbox(ctx)
		if err != nil {
			return different, err
		}
		theirs, err := other.inbox(ctx)
		if err != nil {
			return different, err
		}
		after, err := master.inbox(ctx)
		switch {
		case err != nil:
			return different, err
		case !before.sameID(after):
			return indistinct, nil
		case !theirs.sameID(after):
			return different, nil
		case before != after:
			continue
		case theirs != after:
			return different, nil
		case !theirs.exists:
			return bothMissing, nil
		}
		return theSame, nil
	}
	return indistinct, nil
}

// inbox requests the STATUS of the connection's INBOX. It selects no mailbox, and keeps other untagged
// responses for the client.
func (c *Conn) inbox(ctx context.Context) (in inbox, err error) {
	stop := c.Until(ctx)
	defer func() {
		if stop() && err == nil {
			err = context.Cause(ctx)
		}
	}()
	l := newLoginClient(c.Conn, loginOptions{})
	l.keep, l.want = true, "STATUS"
	// Not MAILBOXID (RFC 8474): Cyrus 3.6 answers with bytes of freed memory, which may contain line ends.
	resp, err := l.command("STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)\r\n")
	if err != nil {
		return in, err
	}
	c.Untagged = append(c.Untagged, l.untagged...)
	_ = l.Release() // its errors belong to other steps
	switch {
	case resp.Status == "OK" && l.got != nil:
		in = parseInbox(l.got)
		if in.validity == "" {
			return in, fmt.Errorf("%w: STATUS without UIDVALIDITY", ErrUnverified)
		}
		return in, nil
	case resp.Status == "NO" && (resp.Code == "" || resp.Code == "NONEXISTENT" || resp.Code == "TRYCREATE" || resp.Code == "NOPERM"):
		return in, nil
	}
	return in, &answerError{answer: l.plain(resp), err: fmt.Errorf("%w: STATUS INBOX fails", ErrUnverified)}
}

// parseInbox parses `* STATUS INBOX (UIDVALIDITY 1 UIDNEXT 2 …)`. RFC 9051 §7.3.4. The name is INBOX, however
// it is quoted, so the first parenthesis begins the list.
func parseInbox(line []byte) inbox {
	in := inbox{exists: true}
	_, list, _ := bytes.Cut(line, []byte("("))
	words := bytes.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == '(' || r == ')' })
	for ; len(words) >= 2; words = words[2:] {
		value := string(words[1])
		switch string(bytes.ToUpper(words[0])) {
		case "UIDVALIDITY":
			in.validity = value
		case "UIDNEXT":
			in.next = value
		case "MESSAGES":
			in.messages = value
		}
	}
	return in
}

// leave logs out of a connection without a session, and closes it. It doesn't wait for the answer.
func (c *Conn) leave(ctx context.Context) {
	stop := c.Until(ctx)
	newLoginClient(c.Conn, loginOptions{}).logout()
	stop()
	_ = c.Close()
}
