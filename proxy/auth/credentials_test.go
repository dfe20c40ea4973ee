package auth

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"imapproxy/telemetry"
)

func TestNewCredentials(t *testing.T) {
	names := Names{Lowercase: true, DefaultDomain: "example.org"}
	for _, c := range []struct {
		authzid, user, password string
		want                    error
	}{
		{"", "Alice", "pw", nil},
		{"alice@example.org", "Alice", "pw", nil},
		{"ALICE", "alice@example.org", "pw", nil},
		{"bob", "Alice", "pw", ErrAuthzid},
		{"alice@other.net", "alice", "pw", ErrAuthzid},
		{"alice\x00", "alice", "pw", ErrAuthzid},
		{" ", "alice", "pw", ErrAuthzid},
		{"alice", "alice*proxy", "pw", ErrAuthzid},
		{"", "", "pw", ErrName},
		{"", "al ice", "pw", ErrName},
		{"", "alice", "", ErrPassword},
		{"", "alice", "p\x00w", ErrPassword},
		{"", "alice", "\x00", ErrPassword},
		{"", "alice", "p\xe4ss", nil}, // Latin-1: the password is not ours to judge
		{"", "alice", " pw ", nil},
	} {
		got, err := NewCredentials(names, MechanismPlain, c.authzid, c.user, telemetry.Secret(c.password))
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%q %q: %v, want %v", c.authzid, c.user, err, c.want)
			continue
		}
		if err != nil {
			if got != (Credentials{}) {
				t.Errorf("%q: credentials beside an error", c.user)
			}
			continue
		}
		if got.User != "alice@example.org" || got.Password.Reveal() != c.password || got.Mechanism != MechanismPlain {
			t.Errorf("%q: %q", c.user, got.User)
		}
		if got.Authzid != "" && got.Authzid != got.User {
			t.Errorf("authzid %q of user %q", got.Authzid, got.User)
		}
		if text := fmt.Sprintf("%v %+v %#v %q", got, got, got, got.Password); strings.Contains(text, c.password) && len(c.password) > 2 {
			t.Errorf("the password is printed: %s", text)
		}
	}
}

func TestReasonOf(t *testing.T) {
	for err, want := range map[error]Reason{
		ErrName: ReasonBadName, ErrAuthzid: ReasonBadAuthzid, ErrPassword: ReasonBadCredentials,
		ErrCancelled: ReasonCancelled, ErrMechanism: ReasonBadMechanism, ErrSyntax: ReasonMalformed,
		ErrMessage: ReasonMalformed, errors.New("disk on fire"): ReasonUnavailable,
	} {
		if got := ReasonOf(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Reasons() {
		counted := "no"
		if r.Guess() {
			counted = "yes"
		}
		if row := fmt.Sprintf("| `%s` | %s |", r, counted); !strings.Contains(string(doc), row) {
			t.Errorf("docs/authentication.md has no row %s", row)
		}
		if !r.known() || strings.Trim(string(r), "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("reason %q", r)
		}
	}
}

// A client can't log in as another user through a backend's master user.
func TestNamesWithASeparatorAreRefused(t *testing.T) {
	names := Names{Lowercase: true, RefuseSeparators: "*"}
	for _, c := range []struct{ authzid, user string }{{"", "alice*admin"}, {"", "*admin"}, {"alice*admin", "alice"}} {
		if _, err := NewCredentials(names, MechanismPlain, c.authzid, c.user, "x"); !errors.Is(err, ErrName) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// What becomes one by normal form C, or by the case's folding, is one.
	names.RefuseSeparators, names.DefaultDomain = ";`k-", "my-mail.test"
	for _, c := range []struct{ authzid, user string }{{"", "alice\u037eadmin"}, {"", "alice\u1fefadmin"}, {"", "alice\u212aadmin"}, {"alice\u037eadmin", "alice"}} {
		if got, err := NewCredentials(names, MechanismPlain, c.authzid, c.user, "x"); !errors.Is(err, ErrName) {
			t.Errorf("%+v: %q %v", c, got.User, err)
		}
	}
	if c, err := NewCredentials(names, MechanismPlain, "", "alice", "x"); err != nil || c.User != "alice@my-mail.test" {
		t.Error(c.User, err)
	}
	names.RefuseSeparators, names.DefaultDomain = "", ""
	if c, err := NewCredentials(names, MechanismPlain, "", "alice*admin", "x"); err != nil || c.User != "alice*admin" {
		t.Error(c.User, err)
	}
}
