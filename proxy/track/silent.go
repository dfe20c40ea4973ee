package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// SilentStore is a STORE with .SILENT (RFC 9051 §6.4.6). Its client computes the new flags from those that it
// knows. If it were told older flags while the STORE is in progress, it would take them for the result.
type SilentStore struct {
	uid      bool
	set      view.UIDs // of numbers; of UIDs if uid is set
	sign     byte      // '+', '-' or 0
	flags    view.Flags
	notSince uint64 // UNCHANGEDSINCE (RFC 7162 §3.1.3); 0: none
}

// ParseSilentStore parses a command's first line; last is the value of "*". ok is false if the command isn't
// a STORE with .SILENT, or can't be parsed.
func ParseSilentStore(line []byte, last uint32) (st SilentStore, ok bool) {
	h := wire.ParseCommandHead(line)
	if h.Verb != wire.Store && h.Verb != wire.UIDStore || line[len(line)-1] != '\n' {
		return st, false
	}
	st.uid = h.Verb == wire.UIDStore
	set, rest, _ := bytes.Cut(h.Args, []byte(" "))
	if rest, ok = st.modifiers(rest); !ok {
		return st, false
	}
	item, flags, _ := bytes.Cut(rest, []byte(" "))
	if len(item) > 0 && (item[0] == '+' || item[0] == '-') {
		st.sign, item = item[0], item[1:]
	}
	if !wire.Is(item, "FLAGS.SILENT") {
		return st, false
	}
	if bytes.IndexByte(set, '*') >= 0 {
		set = expandSet(set, last)
	}
	var err, ferr error
	st.set, err = view.ParseUIDs(set)
	st.flags, ferr = view.ParseFlags(bytes.TrimRight(flags, " \r\n"))
	return st, err == nil && ferr == nil
}

// modifiers parses the parenthesis that may stand between the set and the flags.
func (st *SilentStore) modifiers(rest []byte) (after []byte, ok bool) {
	if len(rest) == 0 || rest[0] != '(' {
		return rest, true
	}
	inside, after, ok := bytes.Cut(rest[1:], []byte(") "))
	word, number, _ := bytes.Cut(inside, []byte(" "))
	if !wire.Is(word, "UNCHANGEDSINCE") {
		return nil, false
	}
	st.notSince = number64(number)
	return after, ok
}

// names says whether the STORE changes a message with these older flags; then the backend's answer has the
// new flags, if it is asked for them.
func (st *SilentStore) names(c view.FlagChange, uids view.UIDs) bool {
	id := c.UID
	if !st.uid {
		n, ok := uids.Seq(c.UID)
		if !ok {
			return false
		}
		id = n
	}
	if !st.set.Contains(id) || st.notSince != 0 && c.ModSeq > st.notSince {
		return false
	}
	switch st.sign {
	case '+':
		return c.Flags.Lacks(st.flags)
	case '-':
		return c.Flags.Meets(st.flags)
	}
	return !c.Flags.Equal(st.flags)
}

// SpareFlags returns what a client with view v is told of d before its command. If the command is a silent
// STORE, the flags of the messages that it changes are left out, since the client would take them for the
// result. loud says that the backend should answer the STORE with flags, so that the client learns of other
// clients' changes as well. If the STORE fails, the bound hasn't risen, so a later resync finds those flags
// again. If there is no bound (a comparison), or the client uses mod-sequences itself, the flags are told
// before the command, and the new ones after it.
func SpareFlags(d view.Difference, v *view.View, dialect view.Dialect, line []byte) (told view.Difference, loud bool) {
	if v == nil || len(d.Changed) == 0 {
		return d, false
	}
	h := wire.ParseCommandHead(line)
	st, ok := ParseSilentStore(line, StarValue(v.UIDs, h.Verb))
	if !ok {
		return d, false
	}
	named := func(c view.FlagChange) bool { return st.names(c, v.UIDs) }
	told = d.Sparing(named)
	loud = len(told.Changed) < len(d.Changed)
	if dialect != view.Plain || v.Told != nil {
		return d, loud
	}
	return told, loud
}

// StripSilent removes .SILENT from a STORE. Otherwise the older, deferred flags would have to be told after
// the STORE, or the client would never learn what other clients have set.
func StripSilent(cmd []byte) []byte {
	line := wire.FirstLine(cmd)
	if i := bytes.Index(bytes.ToUpper(line), []byte("FLAGS.SILENT ")); i > 0 {
		i += len("FLAGS")
		return slices.Delete(slices.Clone(cmd), i, i+len(".SILENT"))
	}
	return cmd
}
