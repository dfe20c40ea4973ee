package auth

import "testing"

// What a database has stored is compared as in a passwd-file; what can't be read locks no user out.
func TestStoredPasswords(t *testing.T) {
	s := NewStored(nil)
	c := Credentials{User: "alice", Password: password}
	if _, err := s.Idle(t.Context(), c); err != nil {
		t.Error(err)
	}
	for stored, expected := range map[string]Verdict{
		"{BLF-CRYPT}" + fast: Accepted{}, fast: Accepted{}, "{PLAIN}" + password: Accepted{}, "{PLAIN}x": Rejected{Reason: ReasonBadPassword},
		"": Rejected{Reason: ReasonAccountDisabled}, "!" + fast: Rejected{Reason: ReasonAccountDisabled},
	} {
		want(t, s.Verdict(t.Context(), stored, c), expected)
	}
	if v, ok := s.Verdict(t.Context(), "correct horse", c).(Unavailable); !ok {
		t.Errorf("a password without a scheme: %#v", v)
	}
	if s.last.Load() == nil {
		t.Error("an unknown user costs nothing")
	}
}
