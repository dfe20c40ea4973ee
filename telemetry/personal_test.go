package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"go.opentelemetry.io/otel/trace"
	"imapproxy/proxy/wire"
)

// discreetly starts a Telemetry that writes names as mode says, with a key for the hashes.
func discreetly(t *testing.T, out *bytes.Buffer, mode string) (*Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	o := Options{LogWriter: out, SpanExporter: spans, SampleRatio: 1, Personal: mode, LogLevel: slog.LevelDebug}
	if mode == PersonalHashed {
		o.PersonalKey = "a key"
	}
	tel, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) })
	return tel, spans
}

// refused is what a backend says of a mailbox that the line or span needn't know.
type refused struct{}

func (refused) Error() string {
	return `SELECT: NO [NONEXISTENT] "Mailbox doesn't exist: Family/Alice"`
}
func (refused) Discreet() string { return "SELECT: NO [NONEXISTENT]" }

// everyPlace writes lines and spans with a name, an address and a mailbox in each place where there can be one.
func everyPlace(tel *Telemetry) {
	client := netip.MustParseAddrPort("192.0.2.7:4711")
	broken := errors.New("read tcp 10.0.0.1:993->192.0.2.7:4711: connection reset by peer")
	about := fmt.Errorf("backend refused alice@example.org from 192.0.2.7: %w", broken)
	opened := fmt.Errorf("opening Family/Alice of alice@example.org: %w", broken)
	log := tel.SessionLogger("s1", trace.SpanContext{})
	log.With("client", client.String()).Warn("login failed", "user", "alice@example.org", "error", about)
	log.With("user", "alice@example.org", "backend", "b1").Info("session ended", "client", client, "mailbox", "Family/Alice", "error", opened)
	log.WithGroup("g").Info("in a group", slog.Group("h", "user", "alice@example.org", "client", client.Addr()), "login", "alice@example.org")
	log.Debug("without attributes", "error", broken)
	log.Warn("the backend refuses", "error", refused{})
	log.With("error", fmt.Errorf("at the second attempt: %w", errors.Join(broken, refused{}))).Warn("the backend refuses")
	log.Info("the backend connection is lost", "bye", Said("* BYE Goodbye, Family/Alice"))
	log.Warn("a shared mailbox can't be reached", "owner", "alice@example.org")
	tel.Log.Warn("http: TLS handshake error from 192.0.2.7:4711: EOF")
	tel.Log.Warn("the user's own attribute comes last", "error", opened, "user", "alice@example.org", "mailbox", "Family/Alice")

	now := time.Now()
	l := tel.BeginLogin("s1", client, now)
	l.Phase(PhaseDial)(about)
	sc := l.End("alice@example.org", "b1", "failed", about)
	tel.Command(Command{Session: "s1", Login: sc, User: "alice@example.org", Client: client, Backend: "b1", Verb: wire.Noop, Status: "NO", Start: now, End: now})
	tel.Recovery(Recovery{Session: "s1", User: "alice@example.org", Backend: "b1", Outcome: "failed", Err: about, Start: now, End: now})
	steps := tel.Steps(now)
	steps.Done(StepSnapshot, now, fmt.Errorf("once more: %w", refused{}))
	tel.Recovery(Recovery{Session: "s1", User: "alice@example.org", Backend: "b1", Outcome: "failed", Err: refused{}, Start: now, End: now, Steps: steps})
	tel.Watched(Watch{User: "alice@example.org", Backend: "b1", Watch: "notify", Err: errors.Join(broken, refused{}), Start: now, End: now})
	tel.Resync(Resync{User: "alice@example.org", Backend: "b1", Mailbox: "Family/Alice", Strategy: "qresync", Err: opened, Start: now, End: now})
}

// spansText returns all text of spans.
func spansText(spans *tracetest.InMemoryExporter) string {
	var b strings.Builder
	for _, s := range spans.GetSpans() {
		fmt.Fprintln(&b, s.Name, s.Status.Description)
		for _, kv := range s.Attributes {
			fmt.Fprintln(&b, kv.Key, kv.Value.String())
		}
		for _, e := range s.Events {
			fmt.Fprintln(&b, e.Name, e.Attributes)
		}
	}
	return b.String()
}

func TestNamesAndAddressesAreWrittenAsTheOperatorWants(t *testing.T) {
	for _, mode := range []string{PersonalFull, PersonalHashed, PersonalNone} {
		t.Run(mode, func(t *testing.T) {
			var out bytes.Buffer
			tel, spans := discreetly(t, &out, mode)
			everyPlace(tel)
			for where, text := range map[string]string{"log": out.String(), "spans": spansText(spans)} {
				for _, name := range []string{"alice@example.org", "192.0.2.7", "4711", "Family/Alice"} {
					if strings.Contains(text, name) != (mode == PersonalFull) {
						t.Errorf("%s: %s, contained: %v\n%s", where, name, strings.Contains(text, name), text)
					}
				}
				hash := (&personal{key: []byte("a key"), mode: PersonalHashed}).shown("alice@example.org")
				if strings.Contains(text, hash) != (mode == PersonalHashed) {
					t.Errorf("%s: the user's hash %s, contained: %v\n%s", where, hash, strings.Contains(text, hash), text)
				}
				if !strings.Contains(text, "b1") || !strings.Contains(text, "connection reset by peer") || !strings.Contains(text, "SELECT: NO [NONEXISTENT]") {
					t.Errorf("%s: too much was removed\n%s", where, text)
				}
			}
			// What only operators see is complete.
			if f := tel.FailedLogins(); len(f) != 1 || f[0].User != "alice@example.org" {
				t.Errorf("failed logins on the page: %v", f)
			}
		})
	}
}

// The command of docs/security.md makes this hash.
func TestAHashNeedsTheKeyAndHidesThePort(t *testing.T) {
	p := personal{key: []byte("a key"), mode: PersonalHashed}
	if got := p.shown("alice@example.org"); got != "h-b50ec3ca003b0b41" {
		t.Errorf("the hash is %s", got)
	}
	one := p.shown("192.0.2.7:1")
	for _, same := range []string{"192.0.2.7:2", "192.0.2.7", "::ffff:192.0.2.7", "[::ffff:192.0.2.7]:3"} {
		if p.shown(same) != one {
			t.Errorf("%s has another hash than the same address", same)
		}
	}
	other := personal{key: []byte("another key"), mode: PersonalHashed}
	if other.shown("192.0.2.7") == one {
		t.Error("the hash doesn't depend on the key")
	}
	if _, err := Start(t.Context(), Options{Personal: PersonalHashed}); err == nil {
		t.Error("hashes without a key are accepted")
	}
	if _, err := Start(t.Context(), Options{Personal: "some"}); err == nil {
		t.Error("an unknown value is accepted")
	}
}

func TestAWordIsReplacedNotAPartOfOne(t *testing.T) {
	for _, c := range [][4]string{
		{"no mail for al, also not", "al", "X", "no mail for X, also not"},
		{"alal al", "al", "X", "alal X"},
		{"al", "al", "X", "X"},
		{"<al@b> al@b.c", "al@b", "X", "<X> X.c"},
		{"10.0.0.1 and 10.0.0.11", "10.0.0.1", "X", "X and 10.0.0.11"},
		{"nothing", "", "X", "nothing"},
	} {
		if got := replaceWord(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%q: %q", c[0], got)
		}
	}
}
