//go:build parking

package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// op is one operation. What it means depends on what is there when it runs, so that a list
// of them without some is still one.
type op struct {
	kind    string
	client  int
	a, b, c int
}

func (o op) String() string { return fmt.Sprintf("%s(%d,%d,%d,%d)", o.kind, o.client, o.a, o.b, o.c) }

// kinds of operations, and how often they come.
var kinds = []struct {
	name   string
	weight int
}{
	{"append", 10}, {"store", 12}, {"uidstore", 8}, {"delete", 9}, {"expunge", 6}, {"uidexpunge", 4},
	{"copy", 3}, {"move", 4}, {"search", 6}, {"uidsearch", 3}, {"fetch", 9}, {"uidfetch", 7}, {"learn", 5},
	{"idle", 16}, {"done", 3}, {"noop", 8}, {"check", 1}, {"pause", 6}, {"park", 16}, {"outside", 9},
	{"pipeline", 5}, {"both", 5}, {"settle", 2}, {"cut", 1},
}

// scenario is a case: how many clients, what they speak, and what they do.
type scenario struct {
	seed     uint64
	dialects []imaptest.ModelDialect
	ops      []op
}

func newScenario(seed uint64, plain bool) scenario {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := scenario{seed: seed}
	for range 2 + rng.IntN(2) {
		d := imaptest.ModelDialect(rng.IntN(4) % 3) // half of them plain, at the least
		if plain {
			d = imaptest.ModelPlain
		}
		s.dialects = append(s.dialects, d)
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	// Some things come more often in one case than in another.
	for range 60 + rng.IntN(80) {
		n := rng.IntN(total)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				s.ops = append(s.ops, op{kind: k.name, client: rng.IntN(len(s.dialects)), a: rng.IntN(1 << 20), b: rng.IntN(1 << 20), c: rng.IntN(1 << 20)})
				break
			}
		}
	}
	return s
}

// world is what a case runs in.
type world struct {
	l       *lab
	t       *transcript
	user    string
	box     string
	s       scenario
	clients []*client
	w       *witness
	out     *client // another device, which doesn't go by the proxy
	appends int
	stats   *stats
	fault   func(imaptest.Response) []imaptest.Response
	settle  time.Duration // how long convergence may take
}

// stats count what was done, to see that something was.
type stats struct {
	ops, parked, asked, owed, settled, cuts int
	kinds                                   map[string]int
}

var keywords = []string{"kw0", "kw1", "kw2", "kw3", `\Flagged`, `\Seen`, `\Answered`}

func (l *lab) run(s scenario, user string, st *stats, fault func(imaptest.Response) []imaptest.Response) (tr *transcript, err error) {
	w := &world{l: l, t: &transcript{}, user: user, box: l.box(), s: s, stats: st, fault: fault, settle: 6 * time.Second}
	defer w.close()
	modSeqs := slices.ContainsFunc(s.dialects, func(d imaptest.ModelDialect) bool { return d != imaptest.ModelPlain })
	if w.w, err = newWitness(l.server.Addr, user, servers.Password, w.box, modSeqs); err != nil {
		return w.t, err
	}
	if w.out, err = dial(l.server.Addr, user, "out", w.t, nil); err != nil {
		return w.t, err
	}
	if err := w.out.selectBox(w.box, imaptest.ModelPlain); err != nil {
		return w.t, err
	}
	for range 4 {
		if err := w.appendTo(w.out); err != nil {
			return w.t, err
		}
	}
	for i, d := range s.dialects {
		c, err := dial(l.addr, user, fmt.Sprintf("C%d", i+1), w.t, fault)
		if err != nil {
			return w.t, err
		}
		w.clients = append(w.clients, c)
		if err := c.selectBox(w.box, d); err != nil {
			return w.t, err
		}
	}
	if _, err := w.w.look(); err != nil {
		return w.t, err
	}
	for _, o := range s.ops {
		st.ops++
		st.kinds[o.kind]++
		if err := w.do(o); err != nil {
			return w.t, fmt.Errorf("%s: %w", o, err)
		}
		if err := w.look(); err != nil {
			return w.t, fmt.Errorf("after %s: %w", o, err)
		}
	}
	w.t.add("--- the end")
	return w.t, w.converge()
}

func (w *world) close() {
	for _, c := range append(w.clients, w.out) {
		if c != nil {
			c.close()
		}
	}
	if w.w != nil {
		_ = w.w.conn.Close()
	}
}

// look takes into account what all clients have heard, and what they'd never learn.
func (w *world) look() error {
	for _, c := range append(w.clients[:len(w.clients):len(w.clients)], w.out) {
		if err := c.drain(); err != nil {
			return err
		}
		if err := c.model.Check(w.w.truth); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// after checks that an operation has done what it may do.
func (w *world) after(a allow) error {
	before, err := w.w.look()
	if err != nil {
		return err
	}
	err = a.check(before, w.w.truth)
	if err != nil && w.l.calm {
		time.Sleep(20 * time.Millisecond)
		if _, err := w.w.look(); err != nil {
			return err
		}
		return a.check(before, w.w.truth)
	}
	return err
}

func (w *world) appendTo(c *client) error {
	w.appends++
	body := fmt.Sprintf("From: a@b\r\nSubject: n%d\r\n\r\nbody\r\n", w.appends)
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	if err := c.drain(); err != nil {
		return err
	}
	c.model.Begin("APPEND")
	c.t.add("%s> %s APPEND", c.name, tag)
	if err := c.conn.SendRaw(fmt.Sprintf("%s APPEND %s {%d+}\r\n%s\r\n", tag, w.box, len(body), body)); err != nil {
		return c.gone()
	}
	_, r, err := c.finish(tag)
	if err == nil && r.Status() != "OK" {
		err = errors.New(r.String())
	}
	return err
}

// numbers are some of the client's message numbers as a set, and their UIDs as it
// knows them.
func (c *client) numbers(o op) (set string, uids []uint32, known bool) {
	n := c.model.Count()
	if n == 0 {
		return "", nil, false
	}
	first := 1 + o.a%n
	last := first
	switch o.b % 4 {
	case 0:
		last = min(n, first+o.c%4)
	case 1:
		last = n
	}
	set = strconv.Itoa(first)
	if last > first {
		set += ":" + strconv.Itoa(last)
	}
	if o.b%4 == 1 {
		set = fmt.Sprintf("%d:*", first)
		if o.c%3 == 0 {
			set, first = "*", n
		}
	}
	known = true
	for i := first; i <= last; i++ {
		uid := c.model.UID(i)
		known = known && uid != 0
		uids = append(uids, uid)
	}
	return set, uids, known
}

// uids are some of the client's messages by UID.
func (c *client) uids(o op) (set string, uids []uint32) {
	var all []uint32
	for _, m := range c.model.Belief() {
		if m.UID != 0 {
			all = append(all, m.UID)
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	for i := range 1 + o.b%3 {
		uids = append(uids, all[(o.a+i*o.c)%len(all)])
	}
	var b []string
	for _, uid := range uids {
		b = append(b, strconv.Itoa(int(uid)))
	}
	return strings.Join(b, ","), uids
}

func (w *world) do(o op) error {
	if o.client >= len(w.clients) {
		o.client = 0
	}
	c := w.clients[o.client]
	switch o.kind {
	case "pause":
		time.Sleep(time.Duration(o.a%15) * time.Millisecond)
		return nil
	case "park":
		return w.park(c, o)
	case "outside":
		return w.outside(o)
	case "settle":
		return w.converge()
	case "idle":
		if c.idleTag != "" {
			return nil
		}
		return c.idle()
	case "cut":
		if c.idleTag != "" && o.a%2 == 0 {
			if err := c.done(); err != nil {
				return err
			}
		}
		w.stats.cuts++
		n, err := c.resync(w.l.addr, w.user, w.box)
		if n != nil {
			w.clients[o.client] = n
		}
		if err != nil {
			return err
		}
		return n.model.Converged(w.w.truth)
	case "both":
		return w.both(o)
	case "pipeline":
		return w.pipeline(c, o)
	}
	if err := c.done(); err != nil {
		return err
	}
	return w.command(c, o)
}

// command is one command of a client's that isn't in IDLE.
func (w *world) command(c *client, o op) error {
	send, a := w.build(c, o)
	if send == nil {
		return nil
	}
	knew := c.model.Belief()
	untagged, r, err := send()
	if err != nil {
		return err
	}
	if r.Status() != "OK" {
		a.all = false
	}
	if err := w.after(a); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return w.searched(c, o, knew, untagged)
}

type sender func() ([]imaptest.Response, imaptest.Response, error)

// build makes a command, and says what it may do to the mailbox.
func (w *world) build(c *client, o op) (sender, allow) {
	cmd := func(verb, format string, args ...any) sender {
		return func() ([]imaptest.Response, imaptest.Response, error) { return c.do(verb, format, args...) }
	}
	kw := keywords[o.c%len(keywords)]
	sign, on := "+", o.c%3 != 0
	if !on {
		sign = "-"
	}
	set, named, known := c.numbers(o)
	uidSet, uids := c.uids(o)
	deleted := func(m imaptest.ModelMessage) bool { return slices.Contains(m.Flags, `\Deleted`) }
	switch o.kind {
	case "append":
		return func() ([]imaptest.Response, imaptest.Response, error) {
			err := w.appendTo(c)
			return nil, imaptest.Response{Text: "t OK"}, err
		}, allow{appended: 1}
	case "noop":
		return cmd("NOOP", "NOOP"), allow{}
	case "check":
		return cmd("CHECK", "CHECK"), allow{}
	case "done":
		return nil, allow{}
	case "expunge":
		return cmd("EXPUNGE", "EXPUNGE"), allow{expunged: deleted}
	case "uidsearch":
		return cmd("UID SEARCH", "UID SEARCH %s", searchKey(o)), allow{}
	}
	if c.model.Count() == 0 {
		return nil, allow{}
	}
	switch o.kind {
	case "store", "delete", "copy", "move":
		if !known {
			return cmd("FETCH", "FETCH %s (UID FLAGS)", set), allow{}
		}
	case "uidstore", "uidexpunge", "uidfetch":
		if uidSet == "" {
			return nil, allow{}
		}
	}
	switch o.kind {
	case "store", "delete", "uidstore":
		if o.kind == "delete" {
			kw, sign, on = `\Deleted`, "+", true
		}
		verb, silent := "STORE", ""
		if o.kind == "uidstore" {
			verb, set, named = "UID STORE", uidSet, uids
		}
		if o.c%5 == 0 {
			silent = ".SILENT"
		}
		send := cmd(verb, "%s %s %sFLAGS%s (%s)", verb, set, sign, silent, kw)
		if silent != "" {
			inner := send
			send = func() ([]imaptest.Response, imaptest.Response, error) {
				untagged, r, err := inner()
				for i := 1; i <= c.model.Count(); i++ { // what it was told meanwhile may be of before, too
					if uid := c.model.UID(i); slices.Contains(named, uid) || strings.Contains(set, "*") && uid > slices.Max(named) || uid == 0 {
						c.model.Forget(i)
					}
				}
				return untagged, r, err
			}
		}
		return send, allow{stored: named, flag: kw, on: on, all: set != "*", star: strings.Contains(set, "*")}
	case "uidexpunge":
		return cmd("UID EXPUNGE", "UID EXPUNGE %s", uidSet), allow{expunged: func(m imaptest.ModelMessage) bool {
			return deleted(m) && slices.Contains(uids, m.UID)
		}}
	case "copy":
		if o.a%2 == 0 {
			return cmd("COPY", "COPY %s %s", set, w.box), allow{maybe: len(w.w.truth.Messages)}
		}
		return w.transfer(c, "COPY", set, named), allow{}
	case "move":
		send, verb, which := sender(nil), "MOVE", named
		if o.a%3 == 0 && uidSet != "" {
			verb, set, which = "UID MOVE", uidSet, uids
		}
		send = w.transfer(c, verb, set, which)
		return send, allow{expunged: func(m imaptest.ModelMessage) bool {
			return slices.Contains(which, m.UID) || strings.Contains(set, "*") && m.UID > slices.Max(which)
		}}
	case "search":
		if o.b%3 == 0 {
			return cmd("SEARCH", "SEARCH RETURN (ALL COUNT MIN MAX) %s", searchKey(o)), allow{}
		}
		if o.b%3 == 1 {
			return cmd("SEARCH", "SEARCH %s", set), allow{}
		}
		return cmd("SEARCH", "SEARCH %s", searchKey(o)), allow{}
	case "fetch":
		if o.c%4 == 0 {
			return cmd("FETCH", "FETCH %s (FLAGS)", set), allow{}
		}
		return cmd("FETCH", "FETCH %s (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])", set), allow{}
	case "uidfetch":
		return cmd("UID FETCH", "UID FETCH %s (FLAGS)", uidSet), allow{}
	case "learn":
		return cmd("UID FETCH", "UID FETCH 1:* (UID FLAGS)"), allow{}
	}
	panic("no such operation: " + o.kind)
}

func searchKey(o op) string {
	switch o.a % 4 {
	case 0:
		return "DELETED"
	case 1:
		return "KEYWORD " + keywords[o.c%4]
	}
	return "ALL"
}

// transfer is COPY or MOVE to another mailbox. COPYUID says which messages it was.
func (w *world) transfer(c *client, verb, set string, named []uint32) sender {
	return func() ([]imaptest.Response, imaptest.Response, error) {
		untagged, r, err := c.do(verb, "%s %s %s-other", verb, set, w.box)
		if err != nil {
			return untagged, r, err
		}
		for _, u := range append(untagged, r) {
			f := strings.Fields(u.Code())
			if len(f) != 4 || f[0] != "COPYUID" {
				continue
			}
			from, err := imaptest.ModelSet(f[2])
			if err != nil {
				return untagged, r, err
			}
			for _, uid := range from {
				if !slices.Contains(named, uid) && !(strings.Contains(set, "*") && uid > slices.Max(named)) {
					return untagged, r, fmt.Errorf("%s %s of UIDs %v took %d", verb, set, named, uid)
				}
			}
		}
		return untagged, r, err
	}
}

// searched checks the answer of a search: number → UID right. A server may answer by flags as
// the client knew them.
func (w *world) searched(c *client, o op, belief []imaptest.ModelMessage, untagged []imaptest.Response) error {
	byUID := o.kind == "uidsearch"
	if o.kind != "search" && !byUID {
		return nil
	}
	keyword := ""
	if o.a%4 == 1 && (byUID || o.b%3 != 1) {
		keyword = keywords[o.c%4]
	}
	for _, r := range untagged {
		if r.Word(1) != "SEARCH" && r.Word(1) != "ESEARCH" {
			continue
		}
		var found []uint32
		f := strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(r.Text))
		if r.Word(1) == "SEARCH" {
			for _, n := range f[2:] {
				if n == "MODSEQ" {
					break
				}
				v, err := strconv.ParseUint(n, 10, 32)
				if err != nil {
					return err
				}
				found = append(found, uint32(v))
			}
		} else if i := slices.Index(f, "ALL"); i > 0 {
			var err error
			if found, err = imaptest.ModelSet(f[i+1]); err != nil {
				return err
			}
		}
		for _, n := range found {
			uid := n
			if !byUID {
				if n < 1 || int(n) > c.model.Count() {
					return fmt.Errorf("%s: %s: message %d of %d", c.name, r, n, c.model.Count())
				}
				uid = c.model.UID(int(n))
			}
			i := slices.IndexFunc(belief, func(m imaptest.ModelMessage) bool { return m.UID == uid })
			there := w.w.truth.Find(uid)
			if keyword == "" || uid == 0 || there == nil || i < 0 || belief[i].Flags == nil {
				continue
			}
			if !slices.Contains(there.Flags, keyword) && !slices.Contains(belief[i].Flags, keyword) {
				return fmt.Errorf("%s: %s: UID %d hasn't %s", c.name, r, uid, keyword)
			}
		}
	}
	return nil
}

// outside changes the mailbox from a device that doesn't go by the proxy.
func (w *world) outside(o op) error {
	kind := []string{"append", "uidstore", "delete", "uidexpunge", "expunge", "move", "append"}[o.a%7]
	o.a /= 7
	if _, _, err := w.out.do("UID FETCH", "NOOP"); err != nil {
		return err
	}
	if err := w.out.learn(); err != nil {
		return err
	}
	o.kind = kind
	return w.command(w.out, o)
}

// pipeline sends several commands at once: none whose numbers could be meant otherwise
// when it is written than when it is read.
func (w *world) pipeline(c *client, o op) error {
	uidSet, _ := c.uids(o)
	if uidSet == "" {
		return nil
	}
	if err := c.drain(); err != nil {
		return err
	}
	var b strings.Builder
	var tags []string
	if c.idleTag != "" {
		tags = append(tags, c.idleTag)
		b.WriteString("DONE\r\n")
		c.idleTag = ""
	}
	list := []string{"NOOP", "UID FETCH " + uidSet + " (FLAGS)", "UID SEARCH ALL", "NOOP", "UID FETCH 1:* (UID FLAGS)"}
	verb := "UID FETCH"
	if len(tags) == 0 && o.c%2 == 0 && c.model.Count() > 0 {
		list, verb = []string{"FETCH 1:* (UID FLAGS)", "SEARCH ALL", fmt.Sprintf("FETCH %d (UID)", 1+o.a%c.model.Count())}, "FETCH"
	}
	for i := range 1 + o.a%3 {
		c.tags++
		tag := fmt.Sprintf("t%d", c.tags)
		tags = append(tags, tag)
		fmt.Fprintf(&b, "%s %s\r\n", tag, list[(o.b+i)%len(list)])
	}
	c.model.Begin(verb)
	c.t.add("%s> %q", c.name, b.String())
	if err := c.conn.SendRaw(b.String()); err != nil {
		return c.gone()
	}
	for left := slices.Clone(tags); len(left) > 0; {
		r, err := c.next(patience)
		if err != nil {
			return err
		}
		if i := slices.Index(left, r.Tag()); i >= 0 {
			left = slices.Delete(left, i, i+1)
			if r.Status() == "BAD" {
				return errors.New(r.String())
			}
		}
	}
	c.model.Begin("")
	return nil
}

// both has two clients say something at the same time.
func (w *world) both(o op) error {
	a, b := w.clients[o.client], w.clients[(o.client+1)%len(w.clients)]
	if a == b || w.l.calm {
		return nil
	}
	for _, c := range []*client{a, b} {
		if err := c.done(); err != nil {
			return err
		}
	}
	commands := func(c *client, n int) (verb, line string) {
		set, _, known := c.numbers(o)
		uidSet, _ := c.uids(o)
		if set == "" || uidSet == "" {
			return "NOOP", "NOOP"
		}
		if !known {
			return "FETCH", "FETCH " + set + " (UID FLAGS)"
		}
		kw := keywords[o.a%len(keywords)]
		switch n % 6 {
		case 0:
			return "EXPUNGE", "EXPUNGE"
		case 1:
			return "STORE", fmt.Sprintf(`STORE %s +FLAGS (%s)`, set, kw)
		case 2:
			return "FETCH", "FETCH " + set + " (UID FLAGS)"
		case 3:
			return "UID STORE", fmt.Sprintf(`UID STORE %s -FLAGS (%s)`, uidSet, kw)
		case 4:
			return "SEARCH", "SEARCH ALL"
		}
		return "UID FETCH", "UID FETCH 1:* (UID FLAGS)"
	}
	verbA, lineA := commands(a, o.b)
	verbB, lineB := commands(b, o.c)
	tagA, err := a.begin(verbA, "%s", lineA)
	if err != nil {
		return err
	}
	tagB, err := b.begin(verbB, "%s", lineB)
	if err != nil {
		return err
	}
	if _, _, err := a.finish(tagA); err != nil {
		return err
	}
	if _, _, err := b.finish(tagB); err != nil {
		return err
	}
	_, err = w.w.look()
	return err
}

// park has the proxy park whoever is idle, and mostly waits for it.
func (w *world) park(c *client, o op) error {
	if w.l.proxy == nil {
		return nil
	}
	if c.idleTag == "" && o.a%4 != 0 {
		if err := c.idle(); err != nil {
			return err
		}
	}
	w.stats.asked++
	for try := range 60 {
		time.Sleep(time.Millisecond)
		w.l.proxy.Sweep()
		s := w.l.attachments(w.user)[c.addr]
		if s.Attachment == "parked" {
			w.stats.parked++
			w.t.add("    %s is parked", c.name)
			return nil
		}
		if o.b%3 == 0 && try >= o.c%8 || s.NotParked != "" && try > 10 {
			w.t.add("    %s is %s %s", c.name, s.Attachment, s.NotParked)
			return nil
		}
	}
	return nil
}

// converge waits until each client knows all there is: those in IDLE by being told,
// the others by NOOP.
func (w *world) converge() error {
	if _, err := w.w.look(); err != nil {
		return err
	}
	w.stats.settled++
	deadline := time.Now().Add(w.settle)
	for _, c := range w.clients {
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			if err := c.drain(); err != nil {
				return err
			}
			wrong := c.model.Converged(w.w.truth)
			if wrong == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s (in IDLE: %v, %s) in %v: %w", c.name, c.idleTag != "", w.l.attachments(w.user)[c.addr].Attachment, w.settle, wrong)
			}
			if c.idleTag != "" {
				if _, err := c.next(100 * time.Millisecond); err != nil && !errors.Is(err, errQuiet) {
					return err
				}
				continue
			}
			if _, _, err := c.do("NOOP", "NOOP"); err != nil {
				return err
			}
			if c.model.Converged(w.w.truth) != nil {
				time.Sleep(pause)
			}
		}
	}
	return nil
}
