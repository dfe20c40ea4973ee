package shared

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// Response returns a response of an owner's backend for the client, with the names of mailboxes as the client
// knows them. b is whole, with its literals and its line end. It returns nil for a response that the client
// isn't told: one with a name that can't be replaced.
func (n Space) Response(b []byte, owner string) []byte {
	h := wire.ParseResponseHead(b)
	if h.Kind != wire.Untagged || h.Status != wire.NoStatus {
		return b
	}
	end := len(trimEOL(b))
	at := end - len(h.Rest)
	switch {
	case wire.Is(h.Name, "LIST"), wire.Is(h.Name, "LSUB"):
		entry, name, err := listEntry(b[at:end])
		if err != nil || !CanSend(entry.Name) {
			return nil
		}
		out := append([]byte(nil), b[:at+name.From]...)
		out = AppendName(out, n.Join(owner, name.Value))
		if more := b[at+name.To : end]; !bytes.Contains(bytes.ToUpper(more), []byte("OLDNAME")) {
			out = append(out, more...)
		}
		return append(out, "\r\n"...)
	case wire.Is(h.Name, "STATUS"), wire.Is(h.Name, "ACL"), wire.Is(h.Name, "MYRIGHTS"), wire.Is(h.Name, "LISTRIGHTS"):
		name, err := nameAtLenient(b, at)
		if err != nil || !CanSend(name.Value) {
			return nil
		}
		return Replace(b, name, n.Join(owner, name.Value))
	case wire.Is(h.Name, "METADATA"), wire.Is(h.Name, "QUOTA"), wire.Is(h.Name, "QUOTAROOT"), wire.Is(h.Name, "NAMESPACE"), wire.Is(h.Name, "CAPABILITY"):
		return nil // none of the client's commands asks an owner's backend for it
	}
	return b
}

// Hides says whether a response of the user's own backend lists a mailbox whose name is in the namespace: there can be none, since what is sent about it goes to an owner's
// backend. b is whole, with its line end.
func (n Space) Hides(b []byte) bool {
	h := wire.ParseResponseHead(b)
	end := len(trimEOL(b))
	var name Name
	var err error
	switch {
	case wire.Is(h.Name, "LIST"), wire.Is(h.Name, "LSUB"), wire.Is(h.Name, "XLIST"):
		_, name, err = listEntry(b[end-len(h.Rest) : end])
	case wire.Is(h.Name, "STATUS"):
		name, err = nameAtLenient(b, end-len(h.Rest))
	default:
		return false
	}
	_, _, in := n.Split(name.Value)
	return err == nil && in
}

// Entry is a mailbox in a response to LIST.
type Entry struct {
	Name       string
	Attributes []string // with their backslashes
	Separator  byte     // 0: NIL
}

// ListEntry parses the text of a response LIST, behind the word.
func ListEntry(rest []byte) (Entry, error) {
	e, _, err := listEntry(rest)
	if err != nil {
		return Entry{}, err
	}
	return *e, nil
}

// listEntry also returns where the name stands.
func listEntry(b []byte) (*Entry, Name, error) {
	if len(b) == 0 || b[0] != '(' {
		return nil, Name{}, wire.ErrSyntax
	}
	end := bytes.IndexByte(b, ')')
	if end < 0 || end+2 >= len(b) || b[end+1] != ' ' {
		return nil, Name{}, wire.ErrSyntax
	}
	e := &Entry{}
	for _, a := range bytes.Fields(b[1:end]) {
		e.Attributes = append(e.Attributes, string(a))
	}
	at := end + 2
	switch {
	case b[at] == '"' && at+2 < len(b) && b[at+1] == '\\':
		e.Separator = b[at+2]
		at += 4
	case b[at] == '"' && at+1 < len(b):
		e.Separator = b[at+1]
		at += 3
	default: // NIL
		at += 3
	}
	if at >= len(b) || b[at] != ' ' {
		return nil, Name{}, wire.ErrSyntax
	}
	name, err := nameAtLenient(b, at+1)
	if err != nil {
		return nil, Name{}, err
	}
	e.Name = name.Value
	return e, name, nil
}

// nameAtLenient is nameAt for a response, where servers send atoms that aren't: [Gmail].
func nameAtLenient(b []byte, at int) (Name, error) {
	if at < len(b) && b[at] != '"' && b[at] != '{' {
		to := at
		for to < len(b) && b[to] != ' ' && b[to] != '\r' && b[to] != '\n' {
			to++
		}
		if to == at {
			return Name{}, wire.ErrSyntax
		}
		return Name{From: at, To: to, Value: string(b[at:to])}, nil
	}
	return nameAt(b, at)
}

// Namespaces adds the namespace to those of other users in a response NAMESPACE (RFC 2342 §5). b is the
// response's text behind the word.
func (n Space) Namespaces(rest []byte) ([]byte, error) {
	rest = append(bytes.Clone(bytes.TrimSpace(trimEOL(rest))), ' ') // ItemValue wants an end
	var lists [3][]byte
	more := rest
	for i := range lists {
		value, behind, err := wire.ItemValue(more)
		if err != nil {
			return nil, err
		}
		lists[i] = value
		more = bytes.TrimLeft(behind, " ")
	}
	own := wire.AppendQuoted([]byte("("), n.Prefix)
	if bytes.Contains(rest, append(bytes.Clone(own), ' ')) { // the backend has one of this name itself, whose place this one takes
		return append(append([]byte("* NAMESPACE "), bytes.TrimSpace(rest)...), "\r\n"...), nil
	}
	own = wire.AppendQuoted(append(own, ' '), string(n.Separator()))
	own = append(own, ')')
	out := append([]byte("* NAMESPACE "), lists[0]...)
	out = append(out, " ("...)
	if len(lists[1]) > 2 && lists[1][0] == '(' {
		out = append(out, lists[1][1:len(lists[1])-1]...)
	}
	out = append(append(out, own...), ") "...)
	out = append(out, lists[2]...)
	return append(out, "\r\n"...), nil
}
