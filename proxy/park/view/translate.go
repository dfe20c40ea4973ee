package view

import (
	"bytes"
	"errors"
	"fmt"
)

// SequenceMap translates message numbers between a client and a backend that count
// differently, because EXPUNGEs to the client are deferred: after a resume, until RFC 9051
// §7.5.1 allows to tell them. New messages were told at once, so the client counts
// all messages that the backend does, and those that are gone besides.
//
// It is a value: code that needs the numbers as they were keeps a copy. So COPY and the UID
// commands, before whose answers EXPUNGE may be told, have their arguments translated first,
// by the numbers as they were when the client wrote them. While Deferred isn't
// empty, one command at a time may be with the backend: "* SEARCH 3" doesn't say
// whose answer it is.
type SequenceMap struct {
	client, backend UIDs

	// tail counts messages that came after both, by EXISTS alone: their UIDs aren't
	// known. They follow the others on both sides.
	tail uint32

	// held: EXPUNGEs of the backend's are deferred as well, see Hold.
	held bool
}

// What Response fails with: the session can't be kept in step and has to end.
var (
	ErrNumbers        = errors.New("the backend named a message that it doesn't have")
	ErrUntranslatable = errors.New("the backend's answer has message numbers in a form that isn't known")
)

// NewSequenceMap makes a translation between the messages that the client counts and those that the
// session connection has.
func NewSequenceMap(client, backend UIDs) (SequenceMap, error) {
	if new := backend.Without(client); !new.Empty() {
		return SequenceMap{}, fmt.Errorf("%d messages have not been told yet", new.Count())
	}
	return SequenceMap{client: client, backend: backend}, nil
}

// Owed returns the messages that the client counts and the backend doesn't. While there
// are none, nothing needs translating.
func (n SequenceMap) Deferred() UIDs { return n.client.Without(n.backend) }

// Client returns the messages that the client counts, as far as UIDs are known, and how many
// it counts in all.
func (n SequenceMap) Client() (known UIDs, count uint32) { return n.client, n.client.Count() + n.tail }

// Hold sets whether EXPUNGE and VANISHED that come from the backend are deferred, instead of being
// told: while commands have been read that the client wrote before it could read them.
func (n *SequenceMap) Hold(held bool) { n.held = held }

// Told counts the deferred EXPUNGEs as told, and returns their messages. The
// caller has seen that RFC 9051 §7.5.1 allows them now.
func (n *SequenceMap) Told() (gone UIDs) {
	gone = n.Deferred()
	n.client = n.backend
	return gone
}

// toBackend translates a set of the client's numbers. gone says that it names messages
// that the backend doesn't have any more. Numbers beyond what the client counts stay as much
// beyond what the backend does: to object to them is its business.
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

// toClient translates one of the backend's numbers.
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

// rangeToClient translates first:last of the backend's numbers, first <= last.
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
		// Messages whose UIDs follow each other here do so at the client, too: there
		// is no UID between them that it could count.
		low, _ := n.client.Seq(uid)
		b.add(low, low+(end-uid))
	}
	if last > count {
		shift := n.client.Count() - count
		b.add(max(first, count+1)+shift, last+shift)
	}
	return b.set(), true
}

// parseNumbers reads a sequence-set of the client's numbers (RFC 9051 §9).
func (n SequenceMap) parseNumbers(set []byte) (UIDs, bool) {
	_, last := n.Client()
	return parseSet(set, last)
}

// parseSet is ParseUIDs where "*" means last.
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

// appendUIDSet adds a set of UIDs in which "*" is the client's last message. Where the backend's
// last one is the same, or its UID isn't known, the set stays as it is.
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

// appendStarless adds a sequence-set in which the number last stands for "*".
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
