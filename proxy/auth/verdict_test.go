package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/telemetry"
)

// scripted is a source with one answer, that counts.
type scripted struct {
	name   string
	answer Verdict
	asked  int
	idled  int
	err    error
	empty  bool // it has no password to compare with
}

func (s *scripted) Name() string                                      { return s.name }
func (s *scripted) Authenticate(context.Context, Credentials) Verdict { s.asked++; return s.answer }
func (s *scripted) Close() error                                      { return nil }
func (s *scripted) Idle(context.Context, Credentials) (bool, error) {
	if s.empty {
		return false, nil
	}
	s.idled++
	return true, s.err
}

func TestFirst(t *testing.T) {
	broken := Unavailable{errors.New("broken")}
	for _, c := range []struct {
		name    string
		answers []Verdict
		want    Verdict
		source  string
		asked   int
		idled   int
	}{
		{"the first that knows accepts", []Verdict{Unknown{}, Accepted{Placement: "b1"}, Rejected{Reason: ReasonBadPassword}}, Accepted{Placement: "b1"}, "b", 2, 0},
		{"a wrong password isn't tried on the next", []Verdict{Rejected{Reason: ReasonBadPassword}, Accepted{}}, Rejected{Reason: ReasonBadPassword}, "a", 1, 0},
		{"a locked user isn't either", []Verdict{Rejected{Reason: ReasonAccountDisabled}, AskBackend{}}, Rejected{Reason: ReasonAccountDisabled}, "a", 1, 0},
		{"a source that can't tell ends it", []Verdict{broken, Accepted{}}, broken, "a", 1, 0},
		{"the backend knows everybody", []Verdict{Unknown{}, AskBackend{}, Accepted{}}, AskBackend{}, "b", 2, 0},
		{"nobody knows", []Verdict{Unknown{}, Unknown{}}, Rejected{Reason: ReasonUnknownUser}, "b", 2, 1},
		{"no sources", nil, Unavailable{errNoSource}, "none", 0, 0},
		{"no verdict", []Verdict{nil, Accepted{}}, Unavailable{errNoVerdict}, "a", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sources []Source
			var all []*scripted
			for i, answer := range c.answers {
				s := &scripted{name: string(rune('a' + i)), answer: answer}
				all, sources = append(all, s), append(sources, s)
			}
			got, source := First(context.Background(), sources, Credentials{User: "u"})
			want(t, got, c.want)
			asked, idled := 0, 0
			for _, s := range all {
				asked, idled = asked+s.asked, idled+s.idled
			}
			if source != c.source || asked != c.asked || idled != c.idled {
				t.Errorf("by %s, %d asked, %d idled", source, asked, idled)
			}
		})
	}
	gone := errors.New("gone")
	got, _ := First(context.Background(), []Source{&scripted{name: "a", answer: Unknown{}, err: gone}}, Credentials{})
	want(t, got, Unavailable{gone})
	got, source := First(context.Background(), []Source{NewBackend()}, Credentials{})
	want(t, got, AskBackend{})
	if source != "backend" {
		t.Error(source)
	}
}

// What an unknown user costs can't be seen in a Verdict; it is seen in the
// number of hashes.
func TestUnknownUserCostsOneHash(t *testing.T) {
	f := newTestFile(t, "alice:"+fast+"\n")
	// A source that has to hash can't once the context has ended; one that needn't isn't stopped by
	// that. So both of these hash.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, user := range []string{"alice", "mallory"} {
		c, _ := NewCredentials(lower, MechanismPlain, "", user, "wrong")
		got, _ := First(ctx, []Source{f.p}, c)
		if _, ok := got.(Unavailable); !ok {
			t.Errorf("%s: %#v without a hash", user, got)
		}
	}
	c, _ := NewCredentials(lower, MechanismPlain, "", "mallory", password)
	got, source := First(context.Background(), []Source{f.p}, c)
	want(t, got, Rejected{Reason: ReasonUnknownUser})
	if source != "passwd_file" {
		t.Error(source)
	}
}

// The time for an unknown user is spent by the first source that has passwords, so that an empty one before it doesn't
// show which users the others know.
func TestAnUnknownUserCostsAHashAfterAnEmptySource(t *testing.T) {
	empty, full, third := &scripted{answer: Unknown{}, empty: true}, &scripted{answer: Unknown{}}, &scripted{answer: Unknown{}}
	v, _ := First(context.Background(), []Source{empty, full, third}, Credentials{User: "u"})
	want(t, v, Rejected{Reason: ReasonUnknownUser})
	if full.idled != 1 || third.idled != 0 {
		t.Errorf("%d and %d hashes", full.idled, third.idled)
	}
}

// Two files are two sources: the stamp of a user of the second holds until the first knows the user too.
func TestASessionOfTheSecondFileIsHeldByIt(t *testing.T) {
	open := func(name, text string) *PasswdFile {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openPasswdFile(path, PasswdFileOptions{Name: "passwd_file." + name})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open("first", "alice:{PLAIN}a1\n"), open("second", "alice:{PLAIN}a2\nbob:{PLAIN}b\n")
	sources := []Source{first, second}
	login := func(user, password string) (Verdict, string) {
		c, err := NewCredentials(Names{}, MechanismPlain, "", user, telemetry.Secret(password))
		if err != nil {
			t.Fatal(err)
		}
		return First(context.Background(), sources, c)
	}
	if v, by := login("alice", "a2"); by != "passwd_file.first" || v != (Verdict(Rejected{Reason: ReasonBadPassword})) {
		t.Errorf("the password that a later file has: %v by %s", v, by)
	}
	v, by := login("bob", "b")
	accepted, ok := v.(Accepted)
	if !ok || by != "passwd_file.second" || !Holds(sources, "bob", accepted.Stamp) {
		t.Fatalf("%v by %s", v, by)
	}
	if err := os.WriteFile(first.path, []byte("alice:{PLAIN}a1\nbob:{PLAIN}other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := Version(sources)
	first.look()
	first.look()
	if Version(sources) == before || Holds(sources, "bob", accepted.Stamp) {
		t.Error("the first file knows the user now, and the second still decides")
	}
}
