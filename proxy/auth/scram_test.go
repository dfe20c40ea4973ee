package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"imapproxy/telemetry"
)

// The passwords of RFC 5802 §5 and RFC 7677 §3, and what Dovecot and gsasl write for them.
const (
	pencil1   = "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="
	pencil256 = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

// scramFile is a passwd-file whose users have the password pencil.
func scramFile(t *testing.T, mechanisms ...string) *PasswdFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	text := "one:" + pencil1 + "\ntwo:" + pencil256 + "\nlocked:" + pencil256 + "::::::nologin\nhome:" + pencil256 +
		"::::::allow_nets=192.0.2.0/24\nother:" + pencil256 + "::::::user=target backend=b2\nold:{PLAIN}pencil\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPasswdFile(path, PasswdFileOptions{Scram: ScramOptions{Mechanisms: mechanisms, Secret: "0123456789abcdef0123456789abcdef"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// prove is a login by the library's client. change may change what it sends.
func prove(t *testing.T, sources []Source, mechanism, user, password string, b Bindings, binding scram.ChannelBinding, change func(step int, message string) string) (v Verdict, right bool, err error) {
	t.Helper()
	generate := scram.SHA256
	if strings.HasPrefix(mechanism, MechanismScramSHA1) {
		generate = scram.SHA1
	}
	client, err := generate.NewClientUnprepped(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	switch {
	case Binds(mechanism):
		conversation = client.NewConversationWithChannelBinding(binding)
	case binding.Type != "":
		conversation = client.NewConversationAdvertisingChannelBinding()
	}
	step := 0
	say := func(challenge string) []byte {
		step++
		message, err := conversation.Step(challenge)
		if err != nil {
			t.Fatalf("the client: %v", err)
		}
		if change != nil {
			message = change(step, message)
		}
		return base64.StdEncoding.AppendEncode(nil, []byte(message))
	}
	x := NewScramExchange(mechanism, b)
	if err := x.First(say("")); err != nil {
		return nil, false, err
	}
	_, name := x.Names()
	c, err := NewNamed(Names{}, mechanism, "", name)
	if err != nil {
		return nil, false, err
	}
	k, v, _ := FirstKeys(context.Background(), sources, c)
	if _, ok := v.(Unavailable); ok {
		return v, false, nil
	}
	challenge, err := x.Challenge(k)
	if err != nil {
		return nil, false, err
	}
	text, _ := base64.StdEncoding.DecodeString(string(challenge))
	signature, right, err := x.Final(say(string(text)))
	if right && err == nil {
		text, _ := base64.StdEncoding.DecodeString(string(signature))
		if _, err := conversation.Step(string(text)); err != nil || !conversation.Valid() {
			t.Errorf("the client doesn't believe the server: %v", err)
		}
	}
	return v, right, err
}

func TestScramLetsInWhoKnowsThePassword(t *testing.T) {
	sources := []Source{scramFile(t, MechanismScramSHA256, MechanismScramSHA1)}
	b := Bindings{Exporter: []byte(strings.Repeat("e", 32)), EndPoints: [][]byte{[]byte("first"), []byte("second")}}
	exporter := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: b.Exporter}
	for _, c := range []struct {
		mechanism, user, password string
		binding                   scram.ChannelBinding
		verdict                   Verdict // nil: Accepted
		right                     bool
		err                       error
	}{
		{mechanism: MechanismScramSHA256, user: "two", password: "pencil", right: true},
		{mechanism: MechanismScramSHA1, user: "one", password: "pencil", right: true},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: exporter, right: true},
		{mechanism: MechanismScramSHA1Plus, user: "one", password: "pencil", binding: exporter, right: true},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: []byte("first")}, right: true},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: []byte("second")}, right: true},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencils", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: []byte("second")}},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: []byte("another's")}, err: ErrBinding},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte(strings.Repeat("x", 32))}, err: ErrBinding},
		{mechanism: MechanismScramSHA256Plus, user: "two", password: "pencil", binding: scram.ChannelBinding{Type: scram.ChannelBindingTLSUnique, Data: []byte("u")}, err: ErrMessage},
		// It could do -PLUS, and was told that the server can't.
		{mechanism: MechanismScramSHA256, user: "two", password: "pencil", binding: exporter, err: ErrBinding},
		{mechanism: MechanismScramSHA256, user: "two", password: "pencils"},
		{mechanism: MechanismScramSHA256, user: "one", password: "pencil", verdict: Rejected{Reason: ReasonNoScramKeys}},
		{mechanism: MechanismScramSHA256, user: "old", password: "pencil", verdict: Rejected{Reason: ReasonNoScramKeys}},
		{mechanism: MechanismScramSHA256, user: "nobody", password: "pencil", verdict: Rejected{Reason: ReasonUnknownUser}},
		{mechanism: MechanismScramSHA256, user: "locked", password: "pencil", verdict: Rejected{Reason: ReasonAccountDisabled}},
		{mechanism: MechanismScramSHA256, user: "home", password: "pencil", verdict: Rejected{Reason: ReasonAccountDisabled}, right: true},
	} {
		t.Run(fmt.Sprintf("%s/%s/%s/%s", c.mechanism, c.user, c.password, c.binding.Type), func(t *testing.T) {
			v, right, err := prove(t, sources, c.mechanism, c.user, c.password, b, c.binding, nil)
			if !errors.Is(err, c.err) || right != c.right {
				t.Fatalf("right: %v, %v", right, err)
			}
			if _, ok := v.(Accepted); err == nil && (c.verdict == nil) != ok || c.verdict != nil && v != c.verdict {
				t.Errorf("the verdict is %#v", v)
			}
		})
	}
	v, right, err := prove(t, sources, MechanismScramSHA256, "other", "pencil", Bindings{}, scram.ChannelBinding{}, nil)
	if a, _ := v.(Accepted); !right || err != nil || a.User != "target" || a.Placement != "b2" || a.Stamp == nil {
		t.Errorf("another name and a placement: %#v, %v, %v", v, right, err)
	}
	c := Credentials{User: "home", Mechanism: MechanismScramSHA256, Client: netip.MustParseAddr("192.0.2.7")}
	if _, v, _ := FirstKeys(context.Background(), sources, c); v.(Accepted).Stamp == nil {
		t.Errorf("from its network: %#v", v)
	}
}

// What a client changes of the messages is never let in.
func TestScramTakesNoOtherMessages(t *testing.T) {
	sources := []Source{scramFile(t, MechanismScramSHA256)}
	for name, change := range map[string]func(step int, m string) string{
		"empty":             func(_ int, _ string) string { return "" },
		"no header":         func(_ int, m string) string { return strings.TrimPrefix(m, "n,,") },
		"p= without -PLUS":  func(_ int, m string) string { return strings.Replace(m, "n,,", "p=tls-exporter,,", 1) },
		"an extension":      func(_ int, m string) string { return strings.Replace(m, "n=two", "m=x,n=two", 1) },
		"a bad escape":      func(_ int, m string) string { return strings.Replace(m, "n=two", "n=t=wo", 1) },
		"no name":           func(_ int, m string) string { return strings.Replace(m, "n=two", "n=", 1) },
		"no nonce":          func(_ int, m string) string { return m[:strings.Index(m, "r=")+2] },
		"bad authzid":       func(_ int, m string) string { return strings.Replace(m, "n,,", "n,b=x,", 1) },
		"NUL":               func(_ int, m string) string { return m + "\x00" },
		"long":              func(_ int, m string) string { return m + strings.Repeat(",x=y", 1200) },
		"another nonce":     func(step int, m string) string { return second(step, m, "r=", "r=x") },
		"another header":    func(step int, m string) string { return second(step, m, "c=biws", "c=eSws") },
		"no proof":          func(step int, m string) string { return second(step, m, ",p=", ",q=") },
		"a short proof":     func(step int, m string) string { return second(step, m, ",p=", ",p=AAAA,p=") },
		"proof of nothing":  func(step int, m string) string { return proof(step, m, "") },
		"proof of zeros":    func(step int, m string) string { return proof(step, m, strings.Repeat("\x00", 32)) },
		"proof of 31 bytes": func(step int, m string) string { return proof(step, m, strings.Repeat("x", 31)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, right, err := prove(t, sources, MechanismScramSHA256, "two", "pencil", Bindings{}, scram.ChannelBinding{}, change)
			if right || err == nil && name != "proof of zeros" && name != "a short proof" {
				t.Errorf("right: %v, %v", right, err)
			}
			if err != nil && strings.Contains(err.Error(), "two") {
				t.Errorf("the error quotes the client: %v", err)
			}
		})
	}
	x := NewScramExchange(MechanismScramSHA256, Bindings{})
	if err := x.First([]byte("*")); !errors.Is(err, ErrCancelled) {
		t.Errorf("*: %v", err)
	}
	if err := x.First([]byte("%%")); !errors.Is(err, ErrSyntax) {
		t.Errorf("not base64: %v", err)
	}
}

func second(step int, m, old, now string) string {
	if step == 2 {
		return strings.Replace(m, old, now, 1)
	}
	return m
}

func proof(step int, m, of string) string {
	if step == 2 {
		return m[:strings.LastIndex(m, ",p=")+3] + base64.StdEncoding.EncodeToString([]byte(of))
	}
	return m
}

// Who has no keys is told made-up ones: always the same for a name, others for another name, another mechanism or
// another secret, and of the shape that the users' have.
func TestScramMakesUpKeysThatStayTheSame(t *testing.T) {
	challenge := func(s *Scram, mechanism, user string) string {
		k := s.madeUp(mechanism, user)
		return fmt.Sprintf("%q %d", k.salt, k.iterations)
	}
	a := NewScram(ScramOptions{Mechanisms: []string{MechanismScramSHA256, MechanismScramSHA1}, Secret: "a"})
	again := NewScram(ScramOptions{Mechanisms: []string{MechanismScramSHA256, MechanismScramSHA1}, Secret: "a"})
	b := NewScram(ScramOptions{Mechanisms: []string{MechanismScramSHA256, MechanismScramSHA1}, Secret: "b"})
	one := challenge(a, MechanismScramSHA256, "nobody")
	if one != challenge(again, MechanismScramSHA256Plus, "nobody") {
		t.Error("another proxy, or -PLUS, tells something else")
	}
	for what, other := range map[string]string{
		"user": challenge(a, MechanismScramSHA256, "nobodies"), "mechanism": challenge(a, MechanismScramSHA1, "nobody"), "secret": challenge(b, MechanismScramSHA256, "nobody"),
	} {
		if other == one {
			t.Errorf("another %s has the same", what)
		}
	}
	real, err := parseScram(MechanismScramSHA256, "9000,"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 40)))+pencil256[strings.LastIndex(pencil256, ",WG"):])
	if err != nil {
		t.Fatal(err)
	}
	a.saw(*real.keys)
	k := a.madeUp(MechanismScramSHA256, "nobody")
	if k.iterations != 9000 || len(k.salt) != 40 || len(k.stored) != 32 || len(k.server) != 32 || k.stored == k.server {
		t.Errorf("not of the users' shape: %d iterations, %d bytes of salt", k.iterations, len(k.salt))
	}
	// A user whose password is in another scheme gets them as well, and one who is locked.
	file := scramFile(t, MechanismScramSHA256)
	for _, user := range []string{"old", "nobody", "locked"} {
		var told []Keys
		for range 2 {
			k, _, _ := FirstKeys(context.Background(), []Source{file}, Credentials{User: user, Mechanism: MechanismScramSHA256})
			told = append(told, k)
		}
		if told[0] != told[1] || len(told[0].salt) != 16 || told[0].iterations != 4096 {
			t.Errorf("%s: %d iterations, %d bytes of salt, the same: %v", user, told[0].iterations, len(told[0].salt), told[0] == told[1])
		}
	}
}

func TestAPasswordIsComparedWithScramKeys(t *testing.T) {
	for _, field := range []string{pencil1, pencil256, strings.ToLower(pencil1[:13]) + pencil1[13:]} {
		v, err := parsePassword(field)
		if err != nil {
			t.Fatal(err)
		}
		if v.cheap() || !v.matches("pencil") || v.matches("pencils") || v.matches("") {
			t.Errorf("%s isn't of pencil", field)
		}
	}
	for _, field := range []string{
		"{SCRAM-SHA-256}", "{SCRAM-SHA-256}pencil", strings.Replace(pencil256, "4096", "4095", 1), strings.Replace(pencil256, "4096", "1000001", 1),
		strings.Replace(pencil256, "4096", "-1", 1), strings.Replace(pencil256, "SHA-256", "SHA-1", 1), strings.Replace(pencil1, "SHA-1", "SHA-256", 1),
		pencil256 + ",x", pencil256[:len(pencil256)-4], strings.Replace(pencil256, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1),
		strings.Replace(pencil256, "W22ZaJ0SNY7soEsUEjb6gQ==", strings.Repeat("AAAA", 50), 1), "{SCRAM-SHA-512}" + pencil256[15:],
	} {
		if v, err := parsePassword(field); err == nil || strings.Contains(err.Error(), "WG5d") {
			t.Errorf("%s: %v, %v", field, v, err)
		}
	}
}

// Once they are logged in, users whose keys are others now, who are gone or locked, aren't let in any more.
func TestScramSessionsAreAskedAboutAgain(t *testing.T) {
	file := scramFile(t, MechanismScramSHA256)
	sources := []Source{file}
	k, v, _ := FirstKeys(context.Background(), sources, Credentials{User: "two", Mechanism: MechanismScramSHA256})
	c := Credentials{User: "two", Mechanism: MechanismScramSHA256Plus, Password: "x"}
	if v := Recheck(context.Background(), sources, c, nil); v != (Rejected{Reason: ReasonBadPassword}) {
		t.Errorf("with other keys: %#v", v)
	}
	c.Password = telemetry.Secret(k.Proof())
	if v, ok := Recheck(context.Background(), sources, c, nil).(Accepted); !ok {
		t.Errorf("with the same: %#v", v)
	}
	if !Holds(sources, "two", v.(Accepted).Stamp) {
		t.Error("the stamp doesn't hold")
	}
	c.User = "gone"
	if v := Recheck(context.Background(), sources, c, nil); v != (Rejected{Reason: ReasonUnknownUser}) {
		t.Errorf("gone: %#v", v)
	}
	c.User = "locked"
	if v := Recheck(context.Background(), sources, c, nil); v != (Rejected{Reason: ReasonAccountDisabled}) {
		t.Errorf("locked: %#v", v)
	}
	if v := Recheck(context.Background(), []Source{NewBackend()}, c, nil); v != (Rejected{Reason: ReasonUnknownUser}) {
		t.Errorf("without a source: %#v", v)
	}
}

// The first of the sources that do anything of SCRAM and know the user decides, also about a mechanism that it doesn't
// offer; others aren't asked.
func TestTheFirstThatKnowsTheUserDecidesAboutScram(t *testing.T) {
	first, later := scramFile(t, MechanismScramSHA1), scramFile(t, MechanismScramSHA256)
	sources := []Source{NewBackend(), first, later}
	c := Credentials{User: "two", Mechanism: MechanismScramSHA256}
	if _, v, _ := FirstKeys(context.Background(), sources, c); v.(Accepted).Stamp == nil {
		t.Fatalf("it has the keys: %#v", v)
	}
	delete(first.users.Load().users, "two")
	first.users.Load().users["two"] = &entry{}
	if _, v, _ := FirstKeys(context.Background(), sources, c); v != (Rejected{Reason: ReasonAccountDisabled}) {
		t.Errorf("locked in the first: %#v", v)
	}
	if got := Offered([]Source{NewBackend(), first}); strings.Join(got, " ") != "PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-1-PLUS EXTERNAL" {
		t.Errorf("offered: %v", got)
	}
	if got := Offered([]Source{scramFile(t)}); strings.Join(got, " ") != "PLAIN LOGIN EXTERNAL" {
		t.Errorf("offered without the setting: %v", got)
	}
}

func FuzzScram(f *testing.F) {
	f.Add("biwsbj10d28scj1mZmY=", "Yz1iaXdzLHI9ZmZmLHA9QUFBQQ==")
	f.Add("cD10bHMtZXhwb3J0ZXIsLG49dHdvLHI9Zg==", "*")
	k, err := parsePassword(pencil256)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, final string) {
		for _, m := range []string{MechanismScramSHA256, MechanismScramSHA256Plus} {
			x := NewScramExchange(m, Bindings{Exporter: []byte("e")})
			if x.First([]byte(first)) != nil {
				continue
			}
			if _, user := x.Names(); user == "" {
				t.Error("no name")
			}
			if _, err := x.Challenge(*k.keys); err != nil {
				continue
			}
			if _, right, _ := x.Final([]byte(final)); right {
				t.Error("let in without the password")
			}
		}
	})
}
