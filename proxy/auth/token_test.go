package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"imapproxy/telemetry"
)

func TestMessagesWithATokenAreReadStrictly(t *testing.T) {
	const bearerT = "auth=Bearer tok-1.x_~+/=="
	long := strings.Repeat("a", maxToken)
	for _, c := range []struct {
		mechanism, message string
		user, token        string // "": refused
	}{
		{"OAUTHBEARER", "n,a=alice,\x01host=h\x01port=143\x01" + bearerT + "\x01\x01", "alice", "tok-1.x_~+/=="},
		{"OAUTHBEARER", "y,a=al=2Cice=3D,\x01auth=bearer  tok\x01\x01", "al,ice=", "tok"},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer " + long + "\x01\x01", "alice", long},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer a" + long + "\x01\x01", "", ""},
		{"OAUTHBEARER", "p=tls-exporter,a=alice,\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,,\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=,\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=a=2cb,\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=a,b,\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01" + bearerT + "\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01" + bearerT, "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01" + bearerT + "\x01\x01more", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01" + bearerT + "\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01host=h\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Basic abc\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer \x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer ==\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer a b\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer a\x00b\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01auth=Bearer gr\xfcn\x01\x01", "", ""},
		{"OAUTHBEARER", "n,a=alice,\x01x\x01" + bearerT + "\x01\x01", "", ""},
		{"OAUTHBEARER", "\x01", "", ""},
		{"OAUTHBEARER", "", "", ""},
		{"XOAUTH2", "user=alice=2C\x01" + bearerT + "\x01\x01", "alice=2C", "tok-1.x_~+/=="},
		{"XOAUTH2", bearerT + "\x01user=alice\x01\x01", "alice", "tok-1.x_~+/=="},
		{"XOAUTH2", "user=\x01" + bearerT + "\x01\x01", "", ""},
		{"XOAUTH2", bearerT + "\x01\x01", "", ""},
		{"XOAUTH2", "user=alice\x01user=bob\x01" + bearerT + "\x01\x01", "", ""},
		{"XOAUTH2", "user=alice\x01\x01", "", ""},
		{"XOAUTH2", "n,a=alice,\x01" + bearerT + "\x01\x01", "", ""},
	} {
		for _, initial := range []bool{true, false} {
			x, err := NewExchange(strings.ToLower(c.mechanism), []byte(b64(c.message)), initial && c.message != "")
			if err != nil {
				t.Fatal(err)
			}
			challenge, done, err := x.Next(nil)
			if err == nil && !done {
				if len(challenge) > 0 {
					t.Errorf("%s begins with %q", c.mechanism, challenge)
				}
				_, done, err = x.Next([]byte(b64(c.message)))
			}
			_, user, token := x.Result()
			switch ok := c.token != ""; {
			case ok && (err != nil || !done || user != c.user || token.Reveal() != c.token):
				t.Errorf("%s %.60q: %v, %q", c.mechanism, c.message, err, user)
			case !ok && (done || !errors.Is(err, ErrMessage) || token != ""):
				t.Errorf("%s %.60q: %v, done %v", c.mechanism, c.message, err, done)
			}
		}
	}
	if x, err := NewExchange("XOAUTH2", make([]byte, MaxTokenLine+1), true); err != nil {
		t.Error(err)
	} else if _, _, err = x.Next(nil); !errors.Is(err, ErrSyntax) {
		t.Error(err)
	}
}

func FuzzTokenMessage(f *testing.F) {
	f.Add([]byte("n,a=alice,\x01host=h\x01auth=Bearer tok\x01\x01"))
	f.Add([]byte("user=alice\x01auth=Bearer tok\x01\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, read := range []func([]byte) (string, telemetry.Secret, error){readOAuthBearer, readXOAuth2} {
			user, token, err := read(message)
			if err == nil && (user == "" || token == "" || len(token) > maxToken || strings.ContainsAny(token.Reveal(), "\x00\x01 ")) {
				t.Errorf("%q, %q", user, token.Reveal())
			}
		}
	})
}

// spoken is a source that takes tokens, and says so of all that it is asked.
type spoken struct{ verdict Verdict }

func (spoken) Name() string                                        { return "spoken" }
func (spoken) Mechanisms() []string                                { return []string{MechanismXOAuth2} }
func (s spoken) Authenticate(context.Context, Credentials) Verdict { return s.verdict }
func (spoken) Close() error                                        { return nil }
func (spoken) Wants() (openIDConfiguration, scope string)          { return "https://id.example/c", "mail" }

// refuses is a source of passwords that mustn't be asked.
type refuses struct{ t *testing.T }

func (refuses) Name() string { return "refuses" }
func (r refuses) Authenticate(_ context.Context, c Credentials) Verdict {
	r.t.Errorf("a source of passwords is asked about a token by %s", c.Mechanism)
	return Accepted{}
}
func (r refuses) Idle(context.Context, Credentials) error {
	r.t.Error("a token is hashed")
	return nil
}
func (refuses) Close() error { return nil }

func TestNoSourceOfPasswordsIsAskedAboutAToken(t *testing.T) {
	c, err := NewCredentials(Names{}, MechanismXOAuth2, "", "alice", "tok")
	if err != nil {
		t.Fatal(err)
	}
	for _, c2 := range []struct {
		sources []Source
		want    Verdict
	}{
		{[]Source{refuses{t}, spoken{Accepted{}}}, Accepted{}},
		{[]Source{refuses{t}, spoken{Unknown{}}}, Rejected{Reason: ReasonBadToken}},
		{[]Source{refuses{t}, spoken{Unknown{}}, spoken{Accepted{}}}, Accepted{}},
		{[]Source{refuses{t}, spoken{Rejected{Reason: ReasonBadToken}}, spoken{Accepted{}}}, Rejected{Reason: ReasonBadToken}},
		{[]Source{refuses{t}, NewBackend()}, Unavailable{errNoSource}},
	} {
		if v, _ := First(t.Context(), c2.sources, c); !reflect.DeepEqual(v, c2.want) {
			t.Errorf("%v, want %v", v, c2.want)
		}
		want := c2.want
		if _, ok := want.(Unavailable); ok { // what isn't there any more lets no one stay
			want = Rejected{Reason: ReasonBadToken}
		}
		if v := Recheck(t.Context(), c2.sources, c, nil); !reflect.DeepEqual(v, want) {
			t.Errorf("recheck: %v, want %v", v, want)
		}
	}
	if o := Offered([]Source{spoken{}}); len(o) != 1 || o[0] != MechanismXOAuth2 {
		t.Error(o)
	}
	if o := Offered([]Source{refuses{t}}); len(o) != 2 || o[0] != MechanismPlain {
		t.Error(o)
	}
	for mechanism, want := range map[string]string{
		MechanismXOAuth2:     `{"status":"401","schemes":"bearer","scope":"mail","openid-configuration":"https://id.example/c"}`,
		MechanismOAuthBearer: `{"status":"invalid_token"}`,
	} {
		if got, err := base64.StdEncoding.DecodeString(string(TokenChallenge([]Source{spoken{}}, mechanism))); err != nil || string(got) != want {
			t.Errorf("%s: %s", mechanism, got)
		}
	}
}
