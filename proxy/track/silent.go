package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// SilentStore is a STORE with .SILENT (RFC 9051 §6.4.6): its client works out for itself what
// the flags are afterwards, from those that it knows. Flags of before it that are told
// while it is in progress would be taken for those of after it.
type SilentStore struct {
	uid      bool
	set      view.UIDs // of numbers, or of UIDs with uid
	sign     byte      // '+', '-' or 0
	flags    view.Flags
	notSince uint64 // UNCHANGEDSINCE (RFC 7162 §3.1.3); 0: none
}

// ParseSilentStore reads a command's first line, in which "*" is last. ok is false where it is no
// STORE with .SILENT, or can't be read.
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

// modifiers reads the parenthesis that may stand between the set and the flags.
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

// names says whether it changes a message that has these flags, which are of before it: the
// backend tells those of after it, if it is asked to.
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

// SpareFlags is what a client with view v is told of d before its command, which may be a silent
// STORE: not the flags of messages that it changes, which the client would take for those of
// after it. loud says that the backend is to answer it with flags, so that the client hears of
// what others have set as well. Should the STORE fail, the bound hasn't risen, so that a
// later resync finds them again; where there is none (a comparison), or the client counts
// mod-sequences by itself, they are told before, and those of after it behind them.
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

// StripSilent takes .SILENT out of a STORE. The flags that are owed would else be told after it, as
// they were before it; and left out the client would never hear what others have set.
func StripSilent(cmd []byte) []byte {
	line := wire.FirstLine(cmd)
	if i := bytes.Index(bytes.ToUpper(line), []byte("FLAGS.SILENT ")); i > 0 {
		i += len("FLAGS")
		return slices.Delete(slices.Clone(cmd), i, i+len(".SILENT"))
	}
	return cmd
}
