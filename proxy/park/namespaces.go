package park

import (
	"bytes"
	"slices"
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

const inbox = "INBOX"

// namespaces are a user's namespaces at a backend (RFC 2342): their prefixes in canonical form, and whether each
// is the user's own. A value never changes, and users with equal namespaces share one.
type namespaces struct {
	backend string
	known   bool // false: the backend doesn't tell its namespaces
	list    []namespace
}

type namespace struct {
	prefix   string
	personal bool
}

func (n *namespaces) equal(o *namespaces) bool {
	return n.backend == o.backend && n.known == o.known && slices.Equal(n.list, o.list)
}

// personal says whether a mailbox is in the user's own namespace; the longest prefix that fits decides. Only the
// namespace of INBOX counts as the user's own, since other private namespaces are often virtual.
func (n *namespaces) personal(mailbox string) bool {
	if mailbox == inbox {
		return true
	}
	best := namespace{}
	found := false
	for _, ns := range n.list {
		if hasPrefix(mailbox, ns.prefix) && (!found || len(ns.prefix) > len(best.prefix)) {
			best, found = ns, true
		}
	}
	return n.known && found && best.personal &&
		(best.prefix == "" || len(best.prefix) == len(inbox)+1 && hasPrefix(best.prefix, inbox))
}

// hasPrefix says whether name begins with prefix. INBOX may be in upper or lower case, as it may be in names
// below INBOX.
func hasPrefix(name, prefix string) bool {
	n := len(inbox)
	if len(prefix) >= n && len(name) >= n && strings.EqualFold(prefix[:n], inbox) && strings.EqualFold(name[:n], inbox) {
		return strings.HasPrefix(name[n:], prefix[n:])
	}
	return strings.HasPrefix(name, prefix)
}

// parseNamespaces parses the text after NAMESPACE (RFC 9051 §7.3.5): NIL or a list, for each of the user's own
// namespaces, those of other users, and shared ones. ok is false if it isn't that.
func parseNamespaces(b []byte, utf8Names bool) (list []namespace, ok bool) {
	for class := range 3 {
		b = bytes.TrimLeft(b, " ")
		if len(b) >= 3 && bytes.EqualFold(b[:3], []byte("NIL")) {
			b = b[3:]
			continue
		}
		if len(b) == 0 || b[0] != '(' {
			return nil, false
		}
		b = b[1:]
		for {
			b = bytes.TrimLeft(b, " ")
			if len(b) == 0 {
				return nil, false
			}
			if b[0] == ')' {
				b = b[1:]
				break
			}
			inner, rest, err := group(b)
			if err != nil {
				return nil, false
			}
			name, _, err := wire.AString(inner)
			if err != nil {
				return nil, false
			}
			prefix := name
			if prefix != "" {
				if prefix, err = view.DecodeMailbox(name, utf8Names); err != nil {
					return nil, false
				}
			}
			list = append(list, namespace{prefix: prefix, personal: class == 0})
			if len(list) > 100 {
				return nil, false
			}
			b = rest
		}
	}
	return list, true
}

// group returns the text in the parentheses with which b begins, and the text behind them. The groups of a
// NAMESPACE response follow each other without a space.
func group(b []byte) (inner, rest []byte, err error) {
	if len(b) == 0 || b[0] != '(' {
		return nil, nil, wire.ErrSyntax
	}
	rest = b[1:]
	for len(rest) > 0 {
		switch rest[0] {
		case ')':
			return b[1 : len(b)-len(rest)], rest[1:], nil
		case ' ':
			rest = rest[1:]
		default:
			// A value ends at the first parenthesis that the value hasn't opened.
			_, after, err := wire.ItemValue(rest)
			if err != nil {
				return nil, nil, err
			}
			rest = after
		}
	}
	return nil, nil, wire.ErrSyntax
}
