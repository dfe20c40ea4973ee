package shared

import (
	"bytes"
	"errors"

	"imapproxy/proxy/wire"
)

// ErrMore means that a name is a literal whose content isn't there yet.
var ErrMore = errors.New("the rest of the command is needed")

// Name is the name of a mailbox in a command: Value stands at [From, To), as an atom, a quoted string or a
// literal.
type Name struct {
	From, To int
	Value    string
}

// Names returns the mailboxes that a command names, none for verbs that name none. cmd is the command as far as it was
// read, with the contents of literals. The error is ErrMore or wire.ErrSyntax.
func Names(cmd []byte) ([]Name, error) {
	h := wire.ParseCommandHead(cmd)
	end := len(trimEOL(cmd))
	at := end - len(h.Args)
	switch h.Verb.Rule().Names {
	case wire.FirstMailbox:
		return names(cmd, at, 1)
	case wire.TwoMailboxes:
		return names(cmd, at, 2)
	case wire.SecondMailbox:
		i := bytes.IndexByte(cmd[at:end], ' ')
		if i < 0 {
			return nil, wire.ErrSyntax
		}
		return names(cmd, at+i+1, 1)
	case wire.MailboxBehindOptions:
		if at < end && cmd[at] == '(' {
			_, rest, err := wire.ItemValue(cmd[at:end])
			if err != nil || len(rest) == 0 {
				return nil, wire.ErrSyntax
			}
			at = end - len(rest) + 1
		}
		return names(cmd, at, 1)
	}
	return nil, nil
}

// names reads n names, with one space between them.
func names(cmd []byte, at, n int) (all []Name, err error) {
	for range n {
		if len(all) > 0 {
			if at >= len(cmd) || cmd[at] != ' ' {
				return nil, wire.ErrSyntax
			}
			at++
		}
		one, err := nameAt(cmd, at)
		if err != nil {
			return nil, err
		}
		all, at = append(all, one), one.To
	}
	return all, nil
}

// nameAt reads the astring at cmd[at:].
func nameAt(cmd []byte, at int) (Name, error) {
	b := cmd[min(at, len(cmd)):]
	to := 0
	switch {
	case len(b) == 0:
		return Name{}, wire.ErrSyntax
	case b[0] == '"':
		for to = 1; to < len(b) && b[to] != '"'; to++ {
			if b[to] == '\\' {
				to++
			}
		}
		to++
	case b[0] == '{':
		line := wire.FirstLine(b)
		size, _, ok := wire.LiteralSpec(line)
		switch {
		case !ok:
			return Name{}, wire.ErrSyntax
		case size > MaxName:
			return Name{}, wire.ErrLiteralTooLong
		case int64(len(b)-len(line)) < size:
			return Name{}, ErrMore
		}
		to = len(line) + int(size)
	default:
		for to < len(b) && b[to] != ' ' && b[to] != '\r' && b[to] != '\n' {
			to++
		}
	}
	if to > len(b) {
		return Name{}, wire.ErrSyntax
	}
	value, rest, err := wire.AString(b[:to])
	if err != nil || len(rest) > 0 {
		return Name{}, wire.ErrSyntax
	}
	return Name{From: at, To: at + to, Value: value}, nil
}

// Replace returns the command with another name in the place of one. Names behind it are to be replaced before.
func Replace(cmd []byte, at Name, name string) []byte {
	out := append([]byte(nil), cmd[:at.From]...)
	out = AppendName(out, name)
	return append(out, cmd[at.To:]...)
}

// CanSend says whether a name can be written as a quoted string.
func CanSend(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return len(name) <= MaxName
}

// AppendName appends a name, for which CanSend is true, to a command or a response. A name in UTF-8 is known only where the
// client has enabled that.
func AppendName(out []byte, name string) []byte { return wire.AppendQuoted(out, name) }

func trimEOL(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}
