package shared

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// Concerns says whether a command may be about the namespace. line is the command's first line, or as much of
// it as has come; it is true where that doesn't tell. It allocates nothing.
func (n Space) Concerns(line []byte) bool {
	if !n.On() {
		return false
	}
	h := wire.ParseCommandHead(line)
	args := h.Args
	at := h.Verb.Rule().Names
	switch at {
	case wire.NoMailbox:
		return false
	case wire.AllMailboxes:
		return true
	case wire.AnyMailboxes:
		return bytes.Contains(args, []byte(n.Root()))
	case wire.MailboxBehindOptions:
		return n.begins(args) || len(args) > 0 && args[0] == '('
	}
	if at == wire.FirstMailbox {
		return n.begins(args)
	}
	if at == wire.TwoMailboxes && n.begins(args) {
		return true
	}
	rest := afterArgument(args)
	if len(rest) == 0 {
		return !bytes.HasSuffix(line, []byte("\n")) // otherwise the argument is missing
	}
	return n.begins(rest)
}

// afterArgument returns what stands behind the argument that b begins with and a space.
func afterArgument(b []byte) []byte {
	if len(b) > 0 && b[0] == '"' {
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return bytes.TrimPrefix(b[i+1:], []byte(" "))
			}
		}
		return nil
	}
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[i+1:]
	}
	return nil
}
