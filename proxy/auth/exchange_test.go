package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// converse runs an exchange with the lines of a client and returns it with the
// challenges it sent.
func converse(mechanism, initial string, hasInitial bool, lines ...string) (x *Exchange, challenges []string, done bool, err error) {
	x, err = NewExchange(mechanism, []byte(initial), hasInitial)
	if err != nil {
		return nil, nil, false, err
	}
	challenge, done, err := x.Next(nil)
	for err == nil && !done {
		challenges = append(challenges, string(challenge))
		if len(lines) == 0 {
			return x, challenges, false, nil
		}
		challenge, done, err = x.Next([]byte(lines[0]))
		lines = lines[1:]
	}
	return x, challenges, done, err
}

func TestExchange(t *testing.T) {
	const ask, pass = "VXNlcm5hbWU6", "UGFzc3dvcmQ6"
	const none = "\x01" // no initial response
	for _, c := range []struct {
		name, mechanism, initial string
		lines                    []string
		challenges               []string
		want                     error
		authzid, user, password  string
	}{
		{name: "PLAIN by challenge", mechanism: "PLAIN", initial: none, lines: []string{b64("\x00alice\x00pw")}, challenges: []string{""}, user: "alice", password: "pw"},
		{name: "PLAIN with SASL-IR", mechanism: "plain", initial: b64("\x00alice\x00pw"), user: "alice", password: "pw"},
		{name: "authzid", mechanism: "PLAIN", initial: b64("bob\x00alice\x00pw"), authzid: "bob", user: "alice", password: "pw"},
		{name: "any bytes in a password", mechanism: "PLAIN", initial: b64("\x00alice\x00 \xff\r\n*="), user: "alice", password: " \xff\r\n*="},
		{name: "empty initial response", mechanism: "PLAIN", initial: "=", want: ErrMessage},
		{name: "an initial response that isn't there", mechanism: "PLAIN", initial: "", want: ErrSyntax},
		{name: "no NUL", mechanism: "PLAIN", initial: b64("alice"), want: ErrMessage},
		{name: "one NUL", mechanism: "PLAIN", initial: b64("alice\x00pw"), want: ErrMessage},
		{name: "three NULs", mechanism: "PLAIN", initial: b64("\x00alice\x00pw\x00"), want: ErrMessage},
		{name: "NUL in the password", mechanism: "PLAIN", initial: b64("\x00alice\x00p\x00w"), want: ErrMessage},
		{name: "no user", mechanism: "PLAIN", initial: b64("\x00\x00pw"), want: ErrMessage},
		{name: "no password", mechanism: "PLAIN", initial: b64("\x00alice\x00"), want: ErrMessage},
		{name: "only NULs", mechanism: "PLAIN", initial: b64("\x00\x00"), want: ErrMessage},
		{name: "empty line", mechanism: "PLAIN", initial: none, lines: []string{""}, challenges: []string{""}, want: ErrMessage},
		{name: "cancelled", mechanism: "PLAIN", initial: none, lines: []string{"*"}, challenges: []string{""}, want: ErrCancelled},
		{name: "a star as initial response", mechanism: "PLAIN", initial: "*", want: ErrSyntax},
		{name: "two stars", mechanism: "PLAIN", initial: none, lines: []string{"**"}, challenges: []string{""}, want: ErrSyntax},
		{name: "= as a later response", mechanism: "PLAIN", initial: none, lines: []string{"="}, challenges: []string{""}, want: ErrSyntax},
		{name: "no padding", mechanism: "PLAIN", initial: strings.TrimRight(b64("\x00alice\x00p"), "="), want: ErrSyntax},
		{name: "padding and more", mechanism: "PLAIN", initial: b64("\x00alice\x00p") + "AAAA", want: ErrSyntax},
		{name: "trailing bits", mechanism: "PLAIN", initial: "AGEAYh==", want: ErrSyntax},
		{name: "the same without them", mechanism: "PLAIN", initial: "AGEAYg==", user: "a", password: "b"},
		{name: "URL alphabet", mechanism: "PLAIN", initial: "AGEA_-__", want: ErrSyntax},
		{name: "white space", mechanism: "PLAIN", initial: " " + b64("\x00alice\x00pw"), want: ErrSyntax},
		{name: "a line break inside", mechanism: "PLAIN", initial: none, lines: []string{"AGFs\r\naWNlAHB3"}, challenges: []string{""}, want: ErrSyntax},
		{name: "a bare CR at the end", mechanism: "PLAIN", initial: none, lines: []string{b64("\x00alice\x00pw") + "\r"}, challenges: []string{""}, want: ErrSyntax},
		{name: "NUL in the base64", mechanism: "PLAIN", initial: "AGFs\x00aWNl", want: ErrSyntax},
		{name: "the longest", mechanism: "PLAIN", initial: b64("\x00a\x00" + strings.Repeat("p", MaxResponse-3)), user: "a", password: strings.Repeat("p", MaxResponse-3)},
		{name: "too long at once", mechanism: "PLAIN", initial: b64("\x00a\x00" + strings.Repeat("p", MaxResponse)), want: ErrSyntax},
		{name: "too long later", mechanism: "PLAIN", initial: none, lines: []string{strings.Repeat("A", 1<<20)}, challenges: []string{""}, want: ErrSyntax},

		{name: "LOGIN", mechanism: "LOGIN", initial: none, lines: []string{b64("alice"), b64("pw")}, challenges: []string{ask, pass}, user: "alice", password: "pw"},
		{name: "LOGIN with initial response", mechanism: "Login", initial: b64("alice"), lines: []string{b64("pw")}, challenges: []string{pass}, user: "alice", password: "pw"},
		{name: "LOGIN with an empty one", mechanism: "LOGIN", initial: "=", lines: []string{b64("alice"), b64("pw")}, challenges: []string{ask, pass}, user: "alice", password: "pw"},
		{name: "LOGIN cancelled at once", mechanism: "LOGIN", initial: none, lines: []string{"*"}, challenges: []string{ask}, want: ErrCancelled},
		{name: "LOGIN cancelled later", mechanism: "LOGIN", initial: none, lines: []string{b64("alice"), "*"}, challenges: []string{ask, pass}, want: ErrCancelled, user: "alice"},
		{name: "LOGIN, no user", mechanism: "LOGIN", initial: none, lines: []string{""}, challenges: []string{ask}, want: ErrMessage},
		{name: "LOGIN, no password", mechanism: "LOGIN", initial: none, lines: []string{b64("alice"), ""}, challenges: []string{ask, pass}, want: ErrMessage, user: "alice"},
		{name: "LOGIN, NUL in the user", mechanism: "LOGIN", initial: none, lines: []string{b64("al\x00ice")}, challenges: []string{ask}, want: ErrMessage},
		{name: "LOGIN, NUL in the password", mechanism: "LOGIN", initial: none, lines: []string{b64("alice"), b64("p\x00w")}, challenges: []string{ask, pass}, want: ErrMessage, user: "alice"},

		{name: "another mechanism", mechanism: "CRAM-MD5", initial: none, want: ErrMechanism},
		{name: "no mechanism", mechanism: "", initial: none, want: ErrMechanism},
		{name: "nearly a mechanism", mechanism: "PLAIN ", initial: none, want: ErrMechanism},
	} {
		t.Run(c.name, func(t *testing.T) {
			initial := c.initial
			if initial == none {
				initial = ""
			}
			x, challenges, done, err := converse(c.mechanism, initial, c.initial != none, c.lines...)
			if !errors.Is(err, c.want) || done != (c.want == nil) {
				t.Fatalf("done %v, %v; want %v", done, err, c.want)
			}
			if strings.Join(challenges, ",") != strings.Join(c.challenges, ",") || len(challenges) != len(c.challenges) {
				t.Errorf("challenges %q, want %q", challenges, c.challenges)
			}
			if x == nil {
				return
			}
			authzid, user, password := x.Result()
			if authzid != c.authzid || user != c.user || password.Reveal() != c.password {
				t.Errorf("got %q %q %q", authzid, user, password.Reveal())
			}
			// What is over stays over.
			again, done2, err2 := x.Next([]byte(b64("\x00mallory\x00pw")))
			if again != nil || done2 != done || !errors.Is(err2, c.want) {
				t.Errorf("it went on: %q %v %v", again, done2, err2)
			}
			if _, user2, _ := x.Result(); user2 != user {
				t.Errorf("the user changed to %q", user2)
			}
		})
	}
}

func TestExchangeKeepsItsOwnCopyOfTheInitialResponse(t *testing.T) {
	buffer := []byte(b64("\x00alice\x00pw"))
	x, err := NewExchange("PLAIN", buffer, true)
	if err != nil {
		t.Fatal(err)
	}
	copy(buffer, bytes.Repeat([]byte("A"), len(buffer)))
	if _, done, err := x.Next(nil); !done || err != nil {
		t.Fatal(done, err)
	}
	if _, user, _ := x.Result(); user != "alice" {
		t.Errorf("user %q", user)
	}
}

func FuzzExchange(f *testing.F) {
	f.Add("PLAIN", b64("\x00alice\x00pw"), true, "", "")
	f.Add("PLAIN", "=", true, "*", "*")
	f.Add("LOGIN", "", false, b64("alice"), b64("pw"))
	f.Add("LOGIN", b64("alice"), true, "*", "=")
	f.Add("PLAIN", "", false, strings.Repeat("A", MaxResponseLine+1), "AGEAYh==")
	f.Fuzz(func(t *testing.T, mechanism, initial string, hasInitial bool, first, second string) {
		x, _, done, err := converse(mechanism, initial, hasInitial, first, second)
		if x == nil {
			if !errors.Is(err, ErrMechanism) {
				t.Fatal(err)
			}
			return
		}
		if err != nil && ReasonOf(err) != ReasonMalformed && ReasonOf(err) != ReasonCancelled {
			t.Fatalf("an error of no kind: %v", err)
		}
		authzid, user, password := x.Result()
		if !done {
			if password != "" {
				t.Fatal("a password before the end")
			}
			return
		}
		if user == "" || password == "" || strings.ContainsRune(authzid+user+password.Reveal(), 0) {
			t.Fatalf("accepted %q %q %q", authzid, user, password.Reveal())
		}
		if len(authzid)+len(user)+len(password) > 2*MaxResponse {
			t.Fatal("too much accepted")
		}
		if x.Mechanism() == MechanismPlain {
			// What came out is exactly what went in.
			line := initial
			if !hasInitial {
				line = first
			}
			if line != b64(authzid+"\x00"+user+"\x00"+password.Reveal()) {
				t.Fatalf("%q was read as %q %q %q", line, authzid, user, password.Reveal())
			}
		}
	})
}
