package proxy

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
)

// aloud takes .SILENT out of a STORE. The flags that are owed would else be told after it, as
// they were before it; and left out the client would never hear what others have set.
func aloud(cmd []byte) []byte {
	line := firstLine(cmd)
	if i := bytes.Index(bytes.ToUpper(line), []byte("FLAGS.SILENT ")); i > 0 {
		i += len("FLAGS")
		return slices.Delete(slices.Clone(cmd), i, i+len(".SILENT"))
	}
	return cmd
}

// spare takes out of what is to be told before a command what would be taken for the flags of
// after it (see spare), and returns cmd as it goes to the backend. said is as the client
// said it, its numbers are those of before.
func (o *owing) spare(said, cmd []byte) []byte {
	var loud bool
	line := firstLine(said)
	if u := o.untold; u != nil {
		u.missed, loud = spare(u.missed, u.view, o.s.flight.told.dialect, line)
	} else if len(o.flags) > 0 {
		_, loud = parseSilent(line, 1) // they are told now, and those of after it behind them
	}
	if loud {
		cmd = aloud(cmd)
	}
	return cmd
}

// newer forgets owed flags of the client's message n, for which the backend has just told
// others.
func (o *owing) newer(n uint32) {
	known, _ := o.n.Client()
	if uid, ok := known.At(n); ok {
		o.flags = slices.DeleteFunc(o.flags, func(c view.FlagChange) bool { return c.UID == uid })
	}
}
