package auth

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

// hashes are by other people's tools: doveadm pw, openssl passwd, perl's crypt.
var hashes = []struct{ password, field, class string }{
	{"correct horse", "{BLF-CRYPT}$2y$05$okerIty62hxt8ti/o3cai.D7srtdpQlD/JVZLATbBAOzX6DiDiKmO", "bcrypt/05"},
	{"pässword", "{blf-crypt}$2y$05$R1SPfrspRlyuljF54e2sd.8dxgnNvlLsYk6wjGY.gjq0SytxQlGg6", "bcrypt/05"},
	{"correct horse", "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", "bcrypt/04"},
	{"correct horse", "{CRYPT}$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", "bcrypt/04"},
	{"correct horse", "{SHA512-CRYPT}$6$rounds=1000$dwwzBdS7LF9nUBCz$Hx7fbe88VLBR1C/YhrxzI3oZlvbr8mbjune791nvTVpLSgUJSvNU1r3RnGHDUfEsqtm.aWZjivk2U3K6bOPHM0", "sha6/1000"},
	{"pässword", "{SHA512-CRYPT}$6$rounds=1000$48eRyzbqnGgdw67Z$Ycgg8EXTPlu5MntA9Wd6GFtGdA4epuVxbUSPG/wXnGytKiR1z691B3BR2SLmJkITfDyTsIzBKq.8iDb86yvqO/", "sha6/1000"},
	{"correct horse", "{CRYPT}$6$ab$taQi2R/p.00nDn/0OiJ.5VXxxXle4RnNFdp1MRTAv1YDfnWjTzvJxb43j8XusV1GVxGhgSwzDrEJhwBIxUw.Q/", "sha6/5000"},
	{strings.Repeat("y", 200), "$6$0123456789abcdef$G9SgByq2n0quWx91rg86cfJvu1JmXliBWYeZRSrSJL8QotKJc.7I9Oz82nj6q0rkduema9qmrmz0hhMNBKLKC.", "sha6/5000"},
	{"correct horse", "{SHA256-CRYPT}$5$rounds=1000$9kGr99XY8efqoNai$mzFEHZHZpchFbdlsbcq2kCOsjVY0OT7ok.vOimkD.44", "sha5/1000"},
	{"correct horse", "$5$ab$.ddUYR.SJRmHkR225smBa2rjHZ4E7cu0phDqvfioR31", "sha5/5000"},
	{"correct horse", "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$AqnMyUE5iC9hZw+xdY8cBA$jGVJVExNE1yCYkIlc79uqDx87xy/n71RPTspxWB3mcI", "argon2id/m=65536,t=3,p=1"},
	{"correct horse", "{PLAIN}correct horse", "plain"},
	{"$6$looks$like", "{cleartext}$6$looks$like", "plain"},
	{"!bang", "{PLAIN}!bang", "plain"},
	{"*", "{PLAIN}*", "plain"},
}

func TestHashesOfOtherTools(t *testing.T) {
	for _, h := range hashes {
		v, err := parsePassword(h.field)
		if err != nil {
			t.Errorf("%s: %v", h.field, err)
			continue
		}
		if v.class != h.class {
			t.Errorf("%s: class %s", h.field, v.class)
		}
		if !v.matches(h.password) {
			t.Errorf("%s: the password doesn't match", h.field)
		}
		for _, wrong := range []string{"", h.password + "x", strings.ToUpper(h.password) + "z", h.field} {
			if v.matches(wrong) {
				t.Errorf("%s matches %q", h.field, wrong)
			}
			if strings.HasPrefix(h.class, "argon2id") {
				break // dear, and one is enough
			}
		}
	}
}

// crypt(3) looks at 72 bytes of a password for bcrypt; so must we, or people
// with longer ones can't log in.
func TestBcryptTakesLongPasswordsAsCryptDoes(t *testing.T) {
	v, err := parsePassword("{BLF-CRYPT}$2y$05$B6mFZAbUZjmktxyrC88yyuuQxOjFOqPSIqtmiKYNdpR3BZ4YnMv8i")
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{71: false, 72: true, 100: true} {
		if got := v.matches(strings.Repeat("x", n)); got != want {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
}

func TestOneHashIsCheckedByManyAtOnce(t *testing.T) {
	v, err := parsePassword(hashes[2].field)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if got := v.matches([]string{"correct horse", "wrong"}[i%2]); got != (i%2 == 0) {
				t.Errorf("%d: %v", i, got)
			}
		})
	}
	wait.Wait()
}

func TestBadPasswordFields(t *testing.T) {
	key53 := "abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	for _, c := range []struct{ field, says string }{
		{"hunter2", "no scheme"},
		{"x", "no scheme"},
		{"{PLAIN}", "empty password"},
		{"{MD5-CRYPT}$1$salt$hunter2", "{MD5-CRYPT} isn't supported"},
		{"{SSHA512}hunter2", "{SSHA512} isn't supported"},
		{"{PLAIN.HEX}68756e74657232", "isn't supported"},
		{"{hunter2", "isn't of the form"},
		{"{hunter2!}x", "isn't of the form"},
		{"{}x", "isn't of the form"},
		{"{CRYPT}hunter2", "crypt format isn't supported"},
		{"$y$j9T$hunter2$hunter2", "crypt format isn't supported"},
		{"$1$hunter2$hunter2", "crypt format isn't supported"},
		{"{CRYPT}", "crypt format isn't supported"},
		{"{BLF-CRYPT}hunter2", "not a bcrypt hash"},
		{"{BLF-CRYPT}", "not a bcrypt hash"},
		{"{BLF-CRYPT}$2x$04$" + key53, "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$4$" + key53, "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$03$" + key53, "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$04$" + key53 + "x", "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$04$" + key53[:52] + "é", "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$04$" + key53[:52] + "=", "not a bcrypt hash"},
		{"{BLF-CRYPT}$2y$31$" + key53, "at most 16"},
		{"{BLF-CRYPT}$6$ab$" + strings.Repeat("a", 86), "not a bcrypt hash"},
		{"{SHA512-CRYPT}$5$ab$" + strings.Repeat("a", 43), "not a SHA-crypt hash"},
		{"{SHA512-CRYPT}$6$ab$" + strings.Repeat("a", 85), "not a SHA-crypt hash"},
		{"{SHA512-CRYPT}$6$0123456789abcdefg$" + strings.Repeat("a", 86), "not a SHA-crypt hash"},
		{"{SHA512-CRYPT}$6$rounds=999999999$ab$" + strings.Repeat("a", 86), "rounds isn't accepted"},
		{"{SHA512-CRYPT}$6$rounds=1$ab$" + strings.Repeat("a", 86), "rounds isn't accepted"},
		{"{SHA512-CRYPT}$6$rounds=x$ab$" + strings.Repeat("a", 86), "not a SHA-crypt hash"},
		{"{SHA512-CRYPT}$6$rounds=5000$" + strings.Repeat("a", 86), "not a SHA-crypt hash"},
		{"{ARGON2ID}$argon2id$v=19$m=4194304,t=3,p=1$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "would stall"},
		{"{ARGON2ID}$argon2id$v=19$m=1048576,t=64,p=1$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "would stall"},
		{"{ARGON2ID}$argon2id$v=19$m=65536,t=0,p=1$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=0$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2id$v=19$m=65536,t=3$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1,k=2$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2id$v=16$m=65536,t=3,p=1$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2i$v=19$m=65536,t=3,p=1$AqnMyUE5iC9hZw$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
		{"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$$jGVJVExNE1yCYkIlc79uqA", "not an argon2id hash"},
	} {
		v, err := parsePassword(c.field)
		if err == nil || v != nil || errors.Is(err, errLocked) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.field, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows what stands there: %v", c.field, err)
		}
	}
	for _, field := range []string{"", "*", "!", "!!", "!$6$ab$cd", "{CRYPT}!$6$ab$cd", "{BLF-CRYPT}*"} {
		if v, err := parsePassword(field); v != nil || !errors.Is(err, errLocked) {
			t.Errorf("%q: %v, %v, want locked", field, v, err)
		}
	}
}
