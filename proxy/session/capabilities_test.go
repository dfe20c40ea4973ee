package session

import (
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

// knownFleet is a fleet whose capabilities are learnt as the test says.
type knownFleet struct {
	t      *testing.T
	router *routing.Router
	known  Capabilities
	now    time.Time
	states map[string]routing.State
}

func newKnownFleet(t *testing.T, ids ...string) *knownFleet {
	f := &knownFleet{t: t, now: time.Unix(1e9, 0), states: map[string]routing.State{}}
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: telemetry.Discard(), Now: func() time.Time { return f.now }, PanicThreshold: 1})
	must(t, err)
	f.router = router
	for _, id := range ids {
		f.states[id] = routing.Up
	}
	f.apply()
	return f
}

func (f *knownFleet) apply() {
	var all []routing.Backend
	for id, state := range f.states {
		all = append(all, routing.Backend{ID: id, Address: "127.0.0.1:1", Weight: 1, State: state})
	}
	f.router.Apply(routing.Snapshot{Source: "test", Backends: all})
}

// is has the backend's state change; "" takes it off the list.
func (f *knownFleet) is(id, state string) {
	f.now = f.now.Add(time.Second)
	switch state {
	case "up":
		f.states[id] = routing.Up
	case "draining":
		f.states[id] = routing.Draining
	case "down":
		f.states[id] = routing.Down
	default:
		delete(f.states, id)
	}
	f.apply()
}

func (f *knownFleet) greets(id, caps string) {
	f.now = f.now.Add(time.Second)
	f.known.Listed(id, strings.Fields(caps), f.now)
}

func (f *knownFleet) loginAt(id, caps string) {
	f.now = f.now.Add(time.Second)
	f.known.saw(id, strings.Fields(caps), f.now)
}

func (f *knownFleet) promises(want string) {
	f.t.Helper()
	for range 2 { // found, and remembered
		if got := f.known.common(f.router).String(); got != want {
			f.t.Errorf("before login: %q, want %q", got, want)
		}
	}
}

// What clients are told before login is what all backends have to which a login may go.
func TestWhatIsPromisedBeforeLogin(t *testing.T) {
	t.Run("nothing of a backend that isn't known", func(t *testing.T) {
		f := newKnownFleet(t, "b1", "b2")
		f.promises("")
		f.loginAt("b1", "IMAP4rev1 LITERAL+ IDLE MOVE")
		f.promises("")
		f.loginAt("b2", "IMAP4rev1 LITERAL+ idle")
		f.promises("LITERAL+ IDLE")
	})
	t.Run("what the health check has read counts until a login", func(t *testing.T) {
		f := newKnownFleet(t, "b1", "b2")
		f.greets("b1", "IMAP4rev1 ID ENABLE IDLE AUTH=PLAIN STARTTLS")
		f.promises("")
		f.greets("b2", "IMAP4rev1 ID ENABLE MOVE")
		f.promises("ENABLE")
		f.loginAt("b1", "IMAP4rev1 ENABLE IDLE MOVE")
		f.promises("ENABLE MOVE")
	})
	t.Run("of literals the lesser", func(t *testing.T) {
		f := newKnownFleet(t, "b1", "b2", "b3")
		f.loginAt("b1", "IMAP4rev1 LITERAL+")
		f.loginAt("b2", "IMAP4rev2")
		f.loginAt("b3", "IMAP4rev1")
		f.promises("")
		f.loginAt("b3", "IMAP4rev1 LITERAL-")
		f.promises("") // some users may have what b3 showed before
		f.now = f.now.Add(2 * listsFor)
		f.loginAt("b3", "IMAP4rev1 LITERAL- X")
		f.promises("LITERAL-")
	})
	t.Run("not what the proxy takes over or says itself", func(t *testing.T) {
		f := newKnownFleet(t, "b1")
		f.loginAt("b1", "IMAP4rev1 SASL-IR ID STARTTLS LOGINDISABLED AUTH=PLAIN COMPRESS=DEFLATE UNAUTHENTICATE LOGIN-REFERRALS NAMESPACE")
		f.promises("NAMESPACE")
	})
	t.Run("one that is down doesn't count, one that drains does", func(t *testing.T) {
		f := newKnownFleet(t, "b1", "b2")
		f.loginAt("b1", "IMAP4rev1 IDLE MOVE")
		f.loginAt("b2", "IMAP4rev1 IDLE")
		f.promises("IDLE")
		f.is("b2", "draining")
		f.promises("IDLE")
		f.is("b2", "down")
		f.promises("IDLE MOVE")
		f.is("b2", "")
		f.promises("IDLE MOVE")
	})
	t.Run("one that was down has to be seen again", func(t *testing.T) {
		f := newKnownFleet(t, "b1")
		f.greets("b1", "IMAP4rev1 IDLE")
		f.loginAt("b1", "IMAP4rev1 IDLE MOVE")
		f.promises("IDLE MOVE")
		f.is("b1", "down")
		f.is("b1", "up")
		f.promises("")
		f.greets("b1", "IMAP4rev1 IDLE")
		f.promises("IDLE")
		f.loginAt("b1", "IMAP4rev1 IDLE MOVE")
		f.promises("IDLE MOVE")
	})
	t.Run("one that greets otherwise is another program", func(t *testing.T) {
		f := newKnownFleet(t, "b1")
		f.greets("b1", "IMAP4rev1 IDLE ENABLE")
		f.loginAt("b1", "IMAP4rev1 IDLE MOVE ENABLE")
		f.promises("IDLE MOVE ENABLE")
		f.greets("b1", "IMAP4rev1 ENABLE")
		f.promises("ENABLE")
		if at := f.known.at("b1"); at != nil {
			t.Errorf("it is taken for one that has %v", at.list)
		}
	})
	t.Run("a backend that joins", func(t *testing.T) {
		f := newKnownFleet(t, "b1")
		f.loginAt("b1", "IMAP4rev1 IDLE")
		f.promises("IDLE")
		f.is("b2", "up")
		f.promises("")
	})
	t.Run("what one of its users doesn't have", func(t *testing.T) {
		f := newKnownFleet(t, "b1")
		f.loginAt("b1", "IMAP4rev1 IDLE ACL")
		f.loginAt("b1", "IMAP4rev1 IDLE")
		f.loginAt("b1", "IMAP4rev1 IDLE ACL")
		f.promises("IDLE")
	})
}

// Neither a client nor a backend can make what is known grow without a bound.
func TestWhatIsKnownOfBackendsIsBounded(t *testing.T) {
	f := newKnownFleet(t, "b1")
	for i := range 3 * maxLists {
		f.loginAt("b1", "IMAP4rev1 X"+strings.Repeat("x", i))
	}
	if n := len(f.known.backends["b1"].after); n > maxLists {
		t.Errorf("%d lists of one backend", n)
	}
}
