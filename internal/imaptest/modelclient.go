package imaptest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ModelDialect is what a ModelClient has enabled.
type ModelDialect uint8

// The dialects (RFC 9051, RFC 7162 §3.1, §3.2).
const (
	ModelPlain ModelDialect = iota
	ModelCondStore
	ModelQResync
)

// ModelClient believes what it is told of its selected mailbox, as a mail program does, and returns an error
// for what a server may not tell it. Begin says which command is in progress, Response hears one response
// after the other, Check and Converged compare with the truth.
type ModelClient struct {
	Dialect ModelDialect
	// UIDOnly says that it has enabled UIDONLY (RFC 9586): it is told by UID alone.
	UIDOnly bool

	// Cached is the HIGHESTMODSEQ that it would resynchronise from if it were cut
	// off now: the highest mod-sequence that it was told.
	Cached uint64

	messages []modelSeen
	keywords []string // of FLAGS; nil: none came yet, nothing is checked
	command  string   // in progress: "FETCH", "UID STORE", "IDLE" …; "" none
}

// modelSeen is what the client knows of one message.
type modelSeen struct {
	uid   uint32 // 0: not told
	flags []string
	told  bool // flags were
}

// NewModelClient makes a client that has selected the mailbox as it is, and fetched the UIDs
// and flags of all messages.
func NewModelClient(dialect ModelDialect, m *ModelMailbox, keywords ...string) *ModelClient {
	c := &ModelClient{Dialect: dialect, Cached: m.ModSeq, keywords: keywords}
	for _, msg := range m.Messages {
		c.messages = append(c.messages, modelSeen{uid: msg.UID, flags: msg.Flags, told: true})
	}
	return c
}

// Begin says that a command is in progress now, by its name: "FETCH", "UID FETCH",
// "IDLE". "" says that the last one was answered.
func (c *ModelClient) Begin(command string) { c.command = strings.ToUpper(command) }

// Count is the number of messages that the client counts.
func (c *ModelClient) Count() int { return len(c.messages) }

// UID is the UID that the client believes message n to have, 0 where it wasn't told.
func (c *ModelClient) UID(n int) uint32 {
	if n < 1 || n > len(c.messages) {
		return 0
	}
	return c.messages[n-1].uid
}

// Learn tells the client the UID of message n, as it would find out by FETCH.
func (c *ModelClient) Learn(n int, uid uint32) error {
	if n < 1 || n > len(c.messages) {
		return fmt.Errorf("message %d of %d", n, len(c.messages))
	}
	seen := &c.messages[n-1]
	if seen.uid != 0 && seen.uid != uid {
		return fmt.Errorf("message %d is UID %d, and now said to be %d", n, seen.uid, uid)
	}
	for i, other := range c.messages {
		if other.uid != 0 && (i < n-1 && other.uid >= uid || i > n-1 && other.uid <= uid) {
			return fmt.Errorf("message %d is said to be UID %d, but %d is UID %d", n, uid, i+1, other.uid)
		}
	}
	seen.uid = uid
	return nil
}

// Belief is what the client believes of its messages. UID is 0 where it wasn't told,
// ModSeq always; Flags are nil where they weren't told.
func (c *ModelClient) Belief() []ModelMessage {
	out := make([]ModelMessage, len(c.messages))
	for i, seen := range c.messages {
		out[i].UID = seen.uid
		if seen.told {
			out[i].Flags = append([]string{}, seen.flags...)
		}
	}
	return out
}

// Forget has the client know nothing of the flags of a message, as after a STORE that
// was to be silent.
func (c *ModelClient) Forget(n int) {
	if n >= 1 && n <= len(c.messages) {
		c.messages[n-1].flags, c.messages[n-1].told = nil, false
	}
}

// Mark has the client work out for itself the flags that a message has behind its own
// STORE .SILENT, where it knows those of before: what it is told afterwards replaces them.
func (c *ModelClient) Mark(uid uint32, flag string, on bool) {
	for i := range c.messages {
		if seen := &c.messages[i]; seen.uid == uid && seen.told {
			without := slices.DeleteFunc(slices.Clone(seen.flags), func(f string) bool { return strings.EqualFold(f, flag) })
			if on {
				without = append(without, flag)
			}
			seen.flags = modelFlags(without)
		}
	}
}

// Names has the client know a keyword that it sets or removes itself. Cyrus 3.10 doesn't always tell
// it FLAGS of those, as behind a STORE .SILENT.
func (c *ModelClient) Names(flag string) {
	if c.keywords != nil && flag != "" && !slices.Contains(c.keywords, flag) {
		c.keywords = append(c.keywords, flag)
	}
}

// Marked says where the client was told flags of before its own STORE .SILENT behind it: a
// message that it has marked isn't as it has marked it.
func (c *ModelClient) Marked(uid uint32, flag string, on bool) error {
	for i, seen := range c.messages {
		if seen.uid == uid && seen.told && slices.ContainsFunc(seen.flags, func(f string) bool { return strings.EqualFold(f, flag) }) != on {
			return fmt.Errorf("message %d (UID %d) is left with %v behind the client's own STORE .SILENT of %s (%v)", i+1, uid, seen.flags, flag, on)
		}
	}
	return nil
}

var (
	modelQuoted  = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	modelSection = regexp.MustCompile(`\[[^]]*\]`)
	modelUID     = regexp.MustCompile(`(?i)[( ]UID (\d+)`)
	modelFlagsOf = regexp.MustCompile(`(?i)[( ]FLAGS \(([^)]*)\)`)
	modelModSeq  = regexp.MustCompile(`(?i)[( ]MODSEQ \((\d+)\)`)
	modelHighest = regexp.MustCompile(`(?i)^HIGHESTMODSEQ (\d+)$`)
)

// Response hears one response. Its error says which rule the server broke.
func (c *ModelClient) Response(r Response) error {
	if m := modelHighest.FindStringSubmatch(r.Code()); m != nil {
		c.hearModSeq(m[1])
	}
	if r.Tag() != "*" {
		return nil
	}
	number, err := strconv.Atoi(r.Word(1))
	if err != nil {
		switch r.Word(1) {
		case "FLAGS":
			list := modelFlagsOf.FindStringSubmatch(r.Text)
			if list == nil {
				return errors.New("FLAGS without a list")
			}
			c.keywords = strings.Fields(list[1])
		case "VANISHED":
			return c.vanished(r)
		}
		return nil
	}
	switch r.Word(2) {
	case "EXISTS":
		if number < len(c.messages) {
			return fmt.Errorf("EXISTS shrinks from %d to %d", len(c.messages), number)
		}
		for len(c.messages) < number {
			c.messages = append(c.messages, modelSeen{})
		}
	case "EXPUNGE":
		if c.Dialect == ModelQResync || c.UIDOnly {
			return errors.New("EXPUNGE for a client that enabled QRESYNC or UIDONLY")
		}
		if err := c.mayExpunge(); err != nil {
			return err
		}
		if number < 1 || number > len(c.messages) {
			return fmt.Errorf("EXPUNGE of message %d of %d", number, len(c.messages))
		}
		c.messages = slices.Delete(c.messages, number-1, number)
	case "FETCH":
		if c.UIDOnly {
			return errors.New("FETCH for a client that enabled UIDONLY")
		}
		return c.fetch(number, r)
	case "UIDFETCH":
		return c.fetchByUID(number, r)
	}
	return nil
}

// fetchByUID: RFC 9586 §3.3. It may be of a message that was announced, whose UID it tells.
func (c *ModelClient) fetchByUID(uid int, r Response) error {
	if !c.UIDOnly {
		return errors.New("UIDFETCH for a client that didn't enable UIDONLY")
	}
	i := slices.IndexFunc(c.messages, func(s modelSeen) bool { return s.uid == uint32(uid) })
	if i < 0 {
		if i = c.untold(uint32(uid)); i < 0 {
			return fmt.Errorf("UIDFETCH of %d, which isn't there", uid)
		}
		if err := c.Learn(i+1, uint32(uid)); err != nil {
			return err
		}
	}
	return c.fetch(i+1, r)
}

func (c *ModelClient) hearModSeq(number string) {
	if n, err := strconv.ParseUint(number, 10, 64); err == nil {
		c.Cached = max(c.Cached, n)
	}
}

// mayExpunge: RFC 9051 §7.5.1.
func (c *ModelClient) mayExpunge() error {
	switch c.command {
	case "", "FETCH", "STORE", "SEARCH", "SORT", "THREAD":
		return fmt.Errorf("messages taken away while the command in progress is %q", c.command)
	}
	return nil
}

// vanished: RFC 7162 §3.2.10. What the client never counted can't vanish, but for (EARLIER).
func (c *ModelClient) vanished(r Response) error {
	if c.Dialect != ModelQResync && !c.UIDOnly {
		return errors.New("VANISHED for a client that enabled neither QRESYNC nor UIDONLY")
	}
	fields := strings.Fields(r.Text)
	earlier := len(fields) == 4 && strings.EqualFold(fields[2], "(EARLIER)")
	if !earlier {
		if err := c.mayExpunge(); err != nil {
			return err
		}
	}
	uids, err := ModelSet(fields[len(fields)-1])
	if err != nil {
		return err
	}
	for _, uid := range uids {
		i := slices.IndexFunc(c.messages, func(s modelSeen) bool { return s.uid == uid })
		if i < 0 && !earlier {
			if i = c.untold(uid); i < 0 {
				return fmt.Errorf("VANISHED %d, which isn't there", uid)
			}
			for n := i; n < len(c.messages) && c.messages[n].uid == 0; n++ {
				c.Forget(n + 1) // or they might be those of the one that's gone
			}
		}
		if i >= 0 {
			c.messages = slices.Delete(c.messages, i, i+1)
		}
	}
	return nil
}

// untold finds a message that was announced, whose UID wasn't told, and which may have this UID by its
// position; -1: there is none. Of several consecutive ones it returns the first, since the client can't tell
// them apart.
func (c *ModelClient) untold(uid uint32) int {
	found := -1
	for i, s := range c.messages {
		switch {
		case s.uid == 0:
			if found < 0 {
				found = i
			}
		case s.uid < uid:
			found = -1
		default:
			return found
		}
	}
	return found
}

func (c *ModelClient) fetch(number int, r Response) error {
	if number < 1 || number > len(c.messages) {
		return fmt.Errorf("FETCH of message %d of %d", number, len(c.messages))
	}
	text := modelSection.ReplaceAllString(modelQuoted.ReplaceAllString(r.Text, `""`), "[]")
	if m := modelUID.FindStringSubmatch(text); m != nil {
		uid, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			return err
		}
		if err := c.Learn(number, uint32(uid)); err != nil {
			return err
		}
	}
	modSeq := modelModSeq.FindStringSubmatch(text)
	if modSeq != nil {
		if c.Dialect == ModelPlain && !strings.HasSuffix(c.command, "FETCH") {
			return errors.New("MODSEQ for a client that didn't ask for it")
		}
		c.hearModSeq(modSeq[1])
	}
	m := modelFlagsOf.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	if modSeq == nil && c.Dialect != ModelPlain && c.command == "IDLE" {
		return errors.New("flags without MODSEQ for a client that enabled it")
	}
	flags := modelFlags(strings.Fields(m[1]))
	for _, f := range flags {
		if c.keywords != nil && !slices.ContainsFunc(c.keywords, func(k string) bool { return strings.EqualFold(k, f) }) {
			return fmt.Errorf("the flag %s isn't in FLAGS", f)
		}
	}
	seen := &c.messages[number-1]
	seen.flags, seen.told = flags, true
	return nil
}

// Check says what the client would never learn if it were cut off now and
// resynchronised from Cached: whatever happened up to there it takes for known. Of clients
// that don't keep mod-sequences it says nothing.
func (c *ModelClient) Check(m *ModelMailbox) error {
	if c.Dialect == ModelPlain {
		return nil
	}
	for _, gone := range m.Gone {
		if gone.ModSeq <= c.Cached && c.counts(gone.UID) {
			return fmt.Errorf("UID %d vanished at %d, the client wasn't told, and would ask from %d on", gone.UID, gone.ModSeq, c.Cached)
		}
	}
	for _, msg := range m.Messages {
		i := slices.IndexFunc(c.messages, func(s modelSeen) bool { return s.uid == msg.UID })
		if i < 0 || msg.ModSeq > c.Cached || !c.messages[i].told {
			continue
		}
		if !slices.Equal(c.messages[i].flags, msg.Flags) {
			return fmt.Errorf("UID %d has %v since %d, the client knows %v, and would ask from %d on",
				msg.UID, msg.Flags, msg.ModSeq, c.messages[i].flags, c.Cached)
		}
	}
	return nil
}

func (c *ModelClient) counts(uid uint32) bool {
	return slices.ContainsFunc(c.messages, func(s modelSeen) bool { return s.uid == uid })
}

// Converged says where the client's belief isn't the truth, once all has been told.
func (c *ModelClient) Converged(m *ModelMailbox) error {
	if len(c.messages) != len(m.Messages) {
		return fmt.Errorf("the client counts %d messages, there are %d", len(c.messages), len(m.Messages))
	}
	for i, seen := range c.messages {
		msg := m.Messages[i]
		if seen.uid != 0 && seen.uid != msg.UID {
			return fmt.Errorf("message %d is UID %d, the client takes it for %d", i+1, msg.UID, seen.uid)
		}
		if seen.told && !slices.Equal(seen.flags, msg.Flags) {
			return fmt.Errorf("UID %d has %v, the client knows %v", msg.UID, msg.Flags, seen.flags)
		}
	}
	return nil
}

// ModelSet lists the numbers of a sequence-set without "*".
func ModelSet(set string) ([]uint32, error) {
	var out []uint32
	for element := range strings.SplitSeq(set, ",") {
		low, high, found := strings.Cut(element, ":")
		if !found {
			high = low
		}
		first, err := strconv.ParseUint(low, 10, 32)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(high, 10, 32)
		if err != nil {
			return nil, err
		}
		if first > last {
			first, last = last, first
		}
		if last-first > 1<<20 {
			return nil, fmt.Errorf("%s is too much for a model", element)
		}
		for n := first; n <= last; n++ {
			out = append(out, uint32(n))
		}
	}
	return out, nil
}
