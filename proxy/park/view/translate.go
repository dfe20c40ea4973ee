package view

import (
	"bytes"
	"errors"
	"fmt"
)

// SequenceMap translates message numbers between a client and a backend that count differently, because
// EXPUNGEs to the client are deferred: after a resume, until RFC 9051 §7.5.1 allows them. The client was told
// of new messages at once, so it counts all messages that the backend has, and also the removed ones.
//
// It is a value: code that needs an earlier numbering keeps a copy. EXPUNGE may be told before the answer to
// COPY or a UID command, so the arguments of those are translated first, with the numbering of the time when
// the client sent them. While Deferred isn't empty, only one command may be in progress at the backend: "*
// SEARCH 3" doesn't tell to which command it belongs.
type SequenceMap struct {
	client, backend UIDs

	// tail counts messages that are known only from EXISTS, so their UIDs aren't known. They follow the
	// others on both sides.
	tail uint32

	// held: EXPUNGEs from the backend are deferred as well; see Hold.
	held bool
}

// Response returns these errors. The numbering is lost, and the session has to end.
var (
	ErrNumbers        = errors.New("the backend named a message that it doesn't have")
	ErrUntranslatable = errors.New("the backend's answer has message numbers in a form that isn't known")
)

// NewSequenceMap returns the translation between the messages that the client counts and those on the session
// connection.
func NewSequenceMap(client, backend UIDs) (SequenceMap, error) {
	if new := backend.Without(client); !new.Empty() {
		return SequenceMap{}, fmt.Errorf("%d messages have not been told yet", new.Count())
	}
	return SequenceMap{client: client, backend: backend}, nil
}

// Deferred returns the messages that the client counts and the backend doesn't have. While it is empty,
// nothing has to be translated.
func (n SequenceMap) Deferred() UIDs { return n.client.Without(n.backend) }

// Client returns the messages that the client counts whose UIDs are known, and the number of all messages
// that it counts.
func (n SequenceMap) Client() (known UIDs, count uint32) { return n.client, n.client.Count() + n.tail }

// Hold sets whether EXPUNGE and VANISHED from the backend are deferred instead of told: the proxy holds them
// while it has read commands that the client sent before it could see them.
func (n *SequenceMap) Hold(held bool) { n.held = held }

// Told treats the deferred EXPUNGEs as told, and returns their messages. The caller has checked that RFC 9051
// §7.5.1 allows them now.
func (n *SequenceMap) Told() (gone UIDs) {
	gone = n.Deferred()
	n.client = n.backend
	return gone
}

// toBackend translates a set of the client's numbers. gone: it names messages that the backend no longer has.
// Numbers beyond the client's last message stay as far beyond the backend's last, so that the backend can
// reject them.
func (n SequenceMap) toBackend(numbers UIDs) (out UIDs, gone bool) {
	count := n.client.Count()
	named := n.client.pick(numbers)
	there := named.Intersect(n.backend)
	out = n.backend.numbers(there)
	if numbers.Last() > count {
		var b uidBuilder
		for first, last := range numbers.From(count + 1).Ranges() {
			b.add(first-count+n.backend.Count(), last-count+n.backend.Count())
		}
		out = out.Union(b.set())
	}
	return out, there.Count() < named.Count()
}

// toClient translates one number of the backend.
func (n SequenceMap) toClient(number uint32) (uint32, bool) {
	if number > n.backend.Count() {
		number -= n.backend.Count()
		return n.client.Count() + number, number <= n.tail
	}
	uid, ok := n.backend.At(number)
	if !ok {
		return 0, false
	}
	return n.client.Seq(uid)
}

// rangeToClient translates first:last of the backend's numbers; first <= last.
func (n SequenceMap) rangeToClient(first, last uint32) (UIDs, bool) {
	count := n.backend.Count()
	if first == 0 || last > count+n.tail {
		return UIDs{}, false
	}
	var b uidBuilder
	for i := n.backend.findNumber(first); i < n.backend.spans() && n.backend.before(i) < last; i++ {
		uid, end := n.backend.span(i)
		before := n.backend.before(i)
		if first > before+1 {
			uid += first - before - 1
		}
		if high := before + n.backend.length(i); high > last {
			end -= high - last
		}
		// Consecutive UIDs here are consecutive messages at the client, too: there is no UID between them
		// that the client could count.
		low, _ := n.client.Seq(uid)
		b.add(low, low+(end-uid))
	}
	if last > count {
		shift := n.client.Count() - count
		b.add(max(first, count+1)+shift, last+shift)
	}
	return b.set(), true
}

// parseNumbers parses a sequence-set of the client's numbers (RFC 9051 §9).
func (n SequenceMap) parseNumbers(set []byte) (UIDs, bool) {
	_, last := n.Client()
	return parseSet(set, last)
}

// parseSet is ParseUIDs with last for "*".
func parseSet(set []byte, last uint32) (UIDs, bool) {
	if bytes.IndexByte(set, '*') < 0 {
		s, err := ParseUIDs(set)
		return s, err == nil
	}
	plain, ok := appendStarless(nil, set, last)
	if !ok {
		return UIDs{}, false
	}
	s, err := ParseUIDs(plain)
	return s, err == nil
}

// appendUIDSet appends a set of UIDs in which "*" is replaced by the client's last message. If the backend's
// last message is the same, or its UID isn't known, the set isn't changed.
func (n SequenceMap) appendUIDSet(dst, set []byte) ([]byte, bool) {
	last := n.client.Last()
	if _, ok := parseSet(set, last); !ok {
		return dst, false
	}
	if n.tail > 0 || last == n.backend.Last() {
		return append(dst, set...), true
	}
	return appendStarless(dst, set, last)
}

// appendStarless appends a sequence-set in which "*" is replaced by last.
func appendStarless(dst, set []byte, last uint32) ([]byte, bool) {
	for i, c := range set {
		if c != '*' {
			dst = append(dst, c)
			continue
		}
		if i > 0 && set[i-1] != ':' && set[i-1] != ',' || i+1 < len(set) && set[i+1] != ':' && set[i+1] != ',' {
			return dst, false
		}
		dst = appendRange(dst, last, last)
	}
	return dst, true
}
