package park

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// patience bounds every conversation, on a busy machine.
const patience = 60 * time.Second

// A lab is one real server.
type lab struct {
	*servers.Server
	// modern: it speaks ESEARCH, UNSELECT and QRESYNC. Courier doesn't.
	modern bool
	users  int
}

// courierStalls says that two connections may not hammer one mailbox at the same
// time: with two clients and nothing of ours in between, Courier left the one's
// NOOP unanswered for 20 s while the other's NOOP and SEARCH went on 140,000 times.
func (l *lab) courierStalls() bool { return !l.modern }

// onRealServers runs f on each of them.
func onRealServers(t *testing.T, f func(t *testing.T, l *lab)) {
	servers.Real(t)
	for name, start := range map[string]func(testing.TB) *servers.Server{
		"dovecot-sdbox": func(t testing.TB) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) },
		"dovecot-maildir": func(t testing.TB) *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
		},
		"cyrus":   servers.StartCyrus,
		"courier": servers.StartCourier,
	} {
		t.Run(name, func(t *testing.T) { f(t, &lab{Server: start(t), modern: name != "courier"}) })
	}
}

// user is one that no test has used yet.
func (l *lab) user() string {
	l.users++
	return servers.User(l.users)
}

func (l *lab) target() upstream.Target { return upstream.Target{ID: "b1", Address: l.Addr} }

func auth(user string) upstream.Auth {
	return upstream.Auth{User: user, Password: servers.Password}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// login is a connection as the proxy makes it.
func (l *lab) login(t *testing.T, user string) *upstream.Conn {
	t.Helper()
	d, err := upstream.New(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Login(within(t), l.target(), auth(user), upstream.Client{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dial is a client that talks to the server directly, logged in.
func (l *lab) dial(t *testing.T, user string) *imaptest.Client {
	t.Helper()
	c := imaptest.Dial(t, l.Addr)
	c.Login(user, servers.Password)
	return c
}

// A writer changes a mailbox at random. It knows what is in it.
type writer struct {
	*imaptest.Client
	rng     *rand.Rand
	mailbox string
	seed    uint64
}

func (l *lab) writer(t *testing.T, user, mailbox string) *writer {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PARK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PARK_SEED=%d", seed)
	w := &writer{Client: l.dial(t, user), rng: rand.New(rand.NewPCG(seed, 1)), mailbox: mailbox}
	w.MustOK("SELECT %s", mailbox)
	return w
}

func (w *writer) append(n int) {
	for range n {
		w.seed++
		if a := w.Literal("APPEND "+w.mailbox+" ", imaptest.GeneratedMessage(200, w.seed), ""); !a.OK() {
			panic(fmt.Sprintf("APPEND: %s", a)) // recovered by the test's goroutine as a failure
		}
	}
}

// change does one thing or another. Keywords grow: some are new each time.
func (w *writer) change() {
	rows := w.rows()
	pick := func() uint32 { return rows[w.rng.IntN(len(rows))].uid }
	switch n := w.rng.IntN(10); {
	case n < 3 || len(rows) < 3:
		w.append(1 + w.rng.IntN(3))
	case n < 6:
		for range 1 + w.rng.IntN(3) {
			w.MustOK(`UID STORE %d +FLAGS.SILENT (\Deleted)`, pick())
		}
		w.MustOK("EXPUNGE")
	case n < 7:
		// set and taken back
		uid := pick()
		w.MustOK(`UID STORE %d +FLAGS.SILENT (\Flagged)`, uid)
		w.MustOK(`UID STORE %d -FLAGS.SILENT (\Flagged)`, uid)
	case n < 8:
		w.MustOK(`UID STORE %d +FLAGS.SILENT (kw%d)`, pick(), w.rng.IntN(12))
	default:
		w.MustOK(`UID STORE %d FLAGS.SILENT (\Seen \Answered)`, pick())
	}
}

// row is a message as the server has it.
type row struct {
	uid   uint32
	flags view.Flags
}

var fetchUID, fetchFlags = regexp.MustCompile(`\bUID (\d+)`), regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)

// rows are the messages there are, in order.
func (w *writer) rows() []row {
	w.MustOK("NOOP")
	var out []row
	for _, r := range w.MustOK("UID SEARCH ALL").Untagged {
		if r.Word(1) != "SEARCH" {
			continue
		}
		for _, f := range strings.Fields(r.Text)[2:] {
			n, _ := strconv.ParseUint(f, 10, 32)
			out = append(out, row{uid: uint32(n)})
		}
	}
	if len(out) == 0 {
		return nil
	}
	flags := map[uint32]view.Flags{}
	for _, r := range w.MustOK("UID FETCH 1:* (FLAGS)").Untagged {
		uid, fl := fetchUID.FindStringSubmatch(r.Text), fetchFlags.FindStringSubmatch(r.Text)
		if uid == nil || fl == nil {
			continue
		}
		n, _ := strconv.ParseUint(uid[1], 10, 32)
		f, err := view.ParseFlags([]byte(fl[1]))
		if err != nil {
			panic(err)
		}
		flags[uint32(n)] = f
	}
	for i := range out {
		out[i].flags = flags[out[i].uid]
	}
	return out
}

func uidsOf(rows []row) view.UIDs {
	var uids []uint32
	for _, r := range rows {
		uids = append(uids, r.uid)
	}
	return view.UIDsOf(uids...)
}

// A client is what stands at the other end of a session connection: it counts
// messages from what is passed to it, and nothing else.
type client struct {
	t        *testing.T
	uids     []uint32 // by number; 0: not known
	expunges int
}

func newClient(t *testing.T, uids view.UIDs) *client {
	c := &client{t: t}
	for uid := range uids.All() {
		c.uids = append(c.uids, uid)
	}
	return c
}

// pass is resync.Options's Forward.
func (c *client) pass(line []byte) {
	h := wire.ParseResponseHead(line)
	n := int(h.Number)
	switch strings.ToUpper(string(h.Name)) {
	case "EXISTS":
		if n < len(c.uids) {
			c.t.Errorf("EXISTS %d, after %d", n, len(c.uids))
			return
		}
		c.uids = append(c.uids, make([]uint32, n-len(c.uids))...)
	case "EXPUNGE":
		if n < 1 || n > len(c.uids) {
			c.t.Errorf("EXPUNGE %d of %d", n, len(c.uids))
			return
		}
		c.expunges++
		c.uids = append(c.uids[:n-1], c.uids[n:]...)
	}
}

// fits says whether a snapshot is what this client counts.
func (c *client) fits(uids view.UIDs) error {
	if int(uids.Count()) != len(c.uids) {
		return fmt.Errorf("the snapshot has %d messages, the client counts %d", uids.Count(), len(c.uids))
	}
	for i, known := range c.uids {
		if uid, _ := uids.At(uint32(i + 1)); known != 0 && known != uid {
			return fmt.Errorf("message %d is UID %d to the client, %d in the snapshot", i+1, known, uid)
		}
	}
	return nil
}

// idle begins IDLE as the client does, and waits for the "+".
func idle(t *testing.T, c *upstream.Conn, tag string) {
	t.Helper()
	if _, err := c.Write([]byte(tag + " IDLE\r\n")); err != nil {
		t.Fatal(err)
	}
	r := wire.NewReader(c, 1<<16, 1<<16)
	for {
		resp, err := r.ReadResponse()
		if err != nil {
			t.Fatal(err)
		}
		if resp.Tag == "+" {
			break
		}
		t.Fatalf("IDLE: %s", resp.Line)
	}
	c.Unread(r.Buffered())
}

// waitNextSecond waits until the clock shows another second.
func waitNextSecond(t *testing.T) {
	t.Helper()
	now := time.Now()
	select {
	case <-time.After(time.Until(now.Truncate(time.Second).Add(time.Second + 50*time.Millisecond))):
	case <-t.Context().Done():
	}
}
