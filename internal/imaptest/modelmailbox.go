package imaptest

import (
	"slices"
	"strings"
)

// ModelMailbox is a mailbox as simple as can be: what is true, to compare with what a
// client was told. Every change takes the next mod-sequence (RFC 7162).
type ModelMailbox struct {
	UIDValidity, UIDNext uint32
	ModSeq               uint64
	Messages             []ModelMessage // ascending
	Gone                 []ModelMessage // expunged, with the mod-sequence of that, oldest first
}

// ModelMessage is one message. Flags are sorted and immutable.
type ModelMessage struct {
	UID    uint32
	Flags  []string
	ModSeq uint64
}

// NewModelMailbox makes an empty mailbox.
func NewModelMailbox(uidValidity uint32) *ModelMailbox {
	return &ModelMailbox{UIDValidity: uidValidity, UIDNext: 1, ModSeq: 1}
}

// Append adds a message and returns its UID.
func (m *ModelMailbox) Append(flags ...string) uint32 {
	m.ModSeq++
	uid := m.UIDNext
	m.UIDNext++
	m.Messages = append(m.Messages, ModelMessage{UID: uid, Flags: modelFlags(flags), ModSeq: m.ModSeq})
	return uid
}

// Skip leaves UIDs out, as a mailbox does whose messages came and went.
func (m *ModelMailbox) Skip(uids uint32) { m.UIDNext += uids }

// Store gives a message exactly these flags, and says whether that changed any.
func (m *ModelMailbox) Store(uid uint32, flags ...string) bool {
	msg := m.Find(uid)
	now := modelFlags(flags)
	if msg == nil || slices.Equal(msg.Flags, now) {
		return false
	}
	m.ModSeq++
	msg.Flags, msg.ModSeq = now, m.ModSeq
	return true
}

// Expunge removes messages.
func (m *ModelMailbox) Expunge(uids ...uint32) {
	for _, uid := range uids {
		if msg := m.Find(uid); msg != nil {
			m.ModSeq++
			m.Gone = append(m.Gone, ModelMessage{UID: uid, ModSeq: m.ModSeq})
		}
	}
	m.Messages = slices.DeleteFunc(m.Messages, func(msg ModelMessage) bool { return slices.Contains(uids, msg.UID) })
}

// Find returns a message that is there, or nil.
func (m *ModelMailbox) Find(uid uint32) *ModelMessage {
	for i := range m.Messages {
		if m.Messages[i].UID == uid {
			return &m.Messages[i]
		}
	}
	return nil
}

// UIDs lists what is there.
func (m *ModelMailbox) UIDs() []uint32 {
	var uids []uint32
	for _, msg := range m.Messages {
		uids = append(uids, msg.UID)
	}
	return uids
}

// Clone is the mailbox as it is now.
func (m *ModelMailbox) Clone() *ModelMailbox {
	c := *m
	c.Messages, c.Gone = slices.Clone(m.Messages), slices.Clone(m.Gone)
	return &c
}

// modelFlags sorts flags, and leaves \Recent out, which is best effort.
func modelFlags(flags []string) []string {
	var out []string
	for _, f := range flags {
		if f != "" && !strings.EqualFold(f, `\Recent`) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
