package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

var boss = Auth{Mode: ModeMaster, User: "alice", MasterUser: "proxy", MasterPassword: "masterpw"}

const (
	plainGreeting = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\n"
	aliceLogsIn   = plainGreeting + "C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\n"
	bossLogsIn    = plainGreeting + "C: p1 AUTHENTICATE PLAIN YWxpY2UAcHJveHkAbWFzdGVycHc=\n"
)

// Each failure is told apart: who is to blame, and what was said.
func TestFailuresAreToldApart(t *testing.T) {
	type unavailable struct {
		stage string
		code  string
		text  string
		err   error
		fault Fault
	}
	for _, tc := range []struct {
		name    string
		target  Target
		auth    Auth
		script  string
		refused *Refused
		down    unavailable
	}{
		// Wrong credentials.
		{name: "wrong password, Dovecot", auth: alice,
			script:  aliceLogsIn + "S: p1 NO [AUTHENTICATIONFAILED] Authentication failed.",
			refused: &Refused{Code: "AUTHENTICATIONFAILED", Text: "Authentication failed."}},
		{name: "wrong password, no code", auth: alice,
			script:  aliceLogsIn + "S: p1 NO Login failed: authentication failure",
			refused: &Refused{Text: "Login failed: authentication failure"}},
		{name: "expired", auth: alice,
			script:  aliceLogsIn + "S: p1 NO [Expired] change it at https://example.org",
			refused: &Refused{Code: "EXPIRED", Text: "change it at https://example.org"}},
		{name: "refused at the challenge", auth: alice,
			script: `
			S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi
			C: p1 AUTHENTICATE PLAIN
			S: p1 NO not today`,
			refused: &Refused{Text: "not today"}},
		{name: "refused at the literal", auth: Auth{User: "al\xe9", Password: "secret"},
			script: `
			S: * OK [CAPABILITY IMAP4rev1] hi
			C: p1 LOGIN {3}
			S: p1 NO [AUTHENTICATIONFAILED] literals indeed`,
			refused: &Refused{Code: "AUTHENTICATIONFAILED", Text: "literals indeed"}},
		{name: "the backend echoes the password", auth: alice,
			script:  aliceLogsIn + "S: p1 NO what, secret?",
			refused: &Refused{Text: "(text withheld: it contains what was sent)"}},
		{name: "NUL in the password", auth: Auth{User: "alice", Password: "a\x00b"},
			refused: &Refused{Text: "NUL in the credentials"}},
		{name: "NUL in the user", auth: Auth{User: "ali\x00ce", Password: "a"},
			refused: &Refused{Text: "NUL in the credentials"}},
		{name: "no password", auth: Auth{User: "alice"}, refused: &Refused{Text: "empty password"}},
		{name: "no user", auth: Auth{Password: "a"}, refused: &Refused{Text: "empty user name"}},

		// The backend is alive but says no for another reason.
		{name: "limit per user", auth: alice,
			script: aliceLogsIn + "S: p1 NO [LIMIT] Maximum number of connections exceeded",
			down:   unavailable{StageLogin, "LIMIT", "Maximum number of connections exceeded", errNo, FaultUser}},
		{name: "its user database is down", auth: alice,
			script: aliceLogsIn + "S: p1 NO [UNAVAILABLE] Temporary authentication failure.",
			down:   unavailable{StageLogin, "UNAVAILABLE", "Temporary authentication failure.", errNo, FaultUser}},
		{name: "Cyrus without its saslauthd", auth: alice,
			script: aliceLogsIn + "S: p1 NO Login failed: generic failure",
			down:   unavailable{StageLogin, "", "Login failed: generic failure", errNo, FaultUser}},
		{name: "BAD", auth: alice,
			script: aliceLogsIn + "S: p1 BAD syntax",
			down:   unavailable{StageLogin, "", "syntax", errBad, FaultUser}},
		{name: "master's password is wrong", auth: boss,
			script: bossLogsIn + "S: p1 NO [AUTHENTICATIONFAILED] Authentication failed.",
			down:   unavailable{StageLogin, "AUTHENTICATIONFAILED", "Authentication failed.", errNo, FaultUser}},
		{name: "master for an unknown user", auth: boss,
			script: bossLogsIn + "S: p1 NO [AUTHORIZATIONFAILED] Authorization failed.",
			down:   unavailable{StageLogin, "AUTHORIZATIONFAILED", "Authorization failed.", errNo, FaultUser}},
		{name: "master with NUL", auth: Auth{Mode: ModeMaster, User: "a\x00b", MasterUser: "m", MasterPassword: "p"},
			down: unavailable{stage: StageSettings}},
		{name: "LOGINDISABLED", auth: alice,
			script: "S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED STARTTLS] hi",
			down:   unavailable{stage: StageLogin, err: errCannot}},
		{name: "master without AUTH=PLAIN", auth: boss,
			script: "S: * OK [CAPABILITY IMAP4rev1] hi",
			down:   unavailable{stage: StageLogin, err: errCannot}},
		{name: "unknown kind of TLS", auth: alice, target: Target{TLS: "ssl"},
			down: unavailable{stage: StageSettings}},

		// It isn't well.
		{name: "BYE at the greeting", auth: alice, script: "S: * BYE [UNAVAILABLE] too busy",
			down: unavailable{StageGreeting, "UNAVAILABLE", "too busy", errBye, FaultBackend}},
		{name: "no room for another connection", auth: alice, script: "S: * BYE [LIMIT] enough",
			down: unavailable{StageGreeting, "LIMIT", "enough", errBye, FaultFull}},
		{name: "Dovecot's login processes are busy", auth: alice, script: "S: * BYE Connection queue full",
			down: unavailable{StageGreeting, "", "Connection queue full", errBye, FaultFull}},
		{name: "Dovecot's login processes are busy, during a login", auth: alice, script: aliceLogsIn + "S: * BYE Disconnected: Connection queue full",
			down: unavailable{StageLogin, "", "Disconnected: Connection queue full", errBye, FaultFull}},
		{name: "BYE instead of an answer", auth: alice, script: aliceLogsIn + "S: * BYE internal error",
			down: unavailable{StageLogin, "", "internal error", errBye, FaultUnsure}},
		{name: "BYE with a limit", auth: alice, script: aliceLogsIn + "S: * BYE [LIMIT] enough",
			down: unavailable{StageLogin, "LIMIT", "enough", errBye, FaultUser}},
		{name: "PREAUTH", auth: alice, script: "S: * PREAUTH [CAPABILITY IMAP4rev1] welcome root",
			down: unavailable{stage: StageGreeting, text: "welcome root", fault: FaultBackend}},
		{name: "PREAUTH to skip STARTTLS", auth: alice, target: Target{TLS: TLSStartTLS},
			script: "S: * PREAUTH [CAPABILITY IMAP4rev1] welcome",
			down:   unavailable{stage: StageGreeting, text: "welcome", fault: FaultBackend}},
		{name: "NO as a greeting", auth: alice, script: "S: * NO thanks",
			down: unavailable{StageGreeting, "", "thanks", ErrProtocol, FaultBackend}},
		{name: "not IMAP: SSH", auth: alice, script: "S: SSH-2.0-OpenSSH_9.2",
			down: unavailable{stage: StageGreeting, err: ErrProtocol, fault: FaultBackend}},
		{name: "not IMAP: HTTP", auth: alice, script: "S: HTTP/1.1 400 Bad Request",
			down: unavailable{stage: StageGreeting, err: ErrProtocol, fault: FaultBackend}},
		{name: "an untagged greeting that is none", auth: alice, script: "S: * CAPABILITY IMAP4rev1",
			down: unavailable{stage: StageGreeting, err: ErrProtocol, fault: FaultBackend}},
		{name: "an empty line", auth: alice, script: "S: ",
			down: unavailable{stage: StageGreeting, err: ErrProtocol, fault: FaultBackend}},

		// Hostile.
		{name: "endless greeting", auth: alice, script: "S- * OK " + strings.Repeat("x", 64<<10),
			down: unavailable{stage: StageGreeting, err: wire.ErrLineTooLong, fault: FaultBackend}},
		{name: "a literal of 1 GB", auth: alice,
			script: aliceLogsIn + "S: * ID (\"x\" {1073741824}",
			down:   unavailable{stage: StageLogin, err: wire.ErrLiteralTooLong, fault: FaultUnsure}},
		{name: "a literal of 2^63-1", auth: alice,
			script: aliceLogsIn + "S: * ID (\"x\" {9223372036854775807}",
			down:   unavailable{stage: StageLogin, err: wire.ErrLiteralTooLong, fault: FaultUnsure}},
		{name: "endless untagged responses", auth: alice,
			script: aliceLogsIn + strings.Repeat("S: * OK "+strings.Repeat("x", 1000)+"\n", 100),
			down:   unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "NUL", auth: alice, script: `S: * OK \x00`,
			down: unavailable{stage: StageGreeting, err: wire.ErrNUL, fault: FaultBackend}},
		{name: "a continuation request nobody asked for", auth: alice,
			script: aliceLogsIn + "S: + say it again",
			down:   unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "a second challenge", auth: alice,
			script: `
			S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi
			C: p1 AUTHENTICATE PLAIN
			S: +
			C: AGFsaWNlAHNlY3JldA==
			S: + and your pin?`,
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "a third literal asked for", auth: Auth{User: "al\xe9", Password: "secret"},
			script: `
			S: * OK [CAPABILITY IMAP4rev1] hi
			C: p1 LOGIN {3}
			S: +
			C: al\xe9 "secret"
			S: +`,
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "OK before the password", auth: alice,
			script: `
			S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi
			C: p1 AUTHENTICATE PLAIN
			S: p1 OK come in`,
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "somebody else's tag", auth: alice, script: aliceLogsIn + "S: a1 OK in",
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "a tag without a status", auth: alice, script: aliceLogsIn + "S: p1 MAYBE",
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "ID's tag again", auth: alice,
			script: `
			S: * OK [CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN] hi
			C: p1 ID ("name" "imapproxy")
			C: p2 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
			S: p1 OK
			S: p1 OK`,
			down: unavailable{stage: StageLogin, err: ErrProtocol, fault: FaultUnsure}},
		{name: "CAPABILITY without capabilities", auth: alice,
			script: `
			S: * OK hi
			C: p1 CAPABILITY
			S: p1 OK there are none`,
			down: unavailable{stage: StageCapability, err: ErrProtocol, fault: FaultBackend}},
		{name: "no capabilities after the login", auth: alice,
			script: aliceLogsIn + `
			S: p1 OK in
			C: p2 CAPABILITY
			S: p2 BAD what?`,
			down: unavailable{StageCapability, "", "what?", ErrProtocol, FaultUnsure}},

		// STARTTLS.
		{name: "STARTTLS isn't offered", auth: alice, target: Target{TLS: TLSStartTLS},
			script: plainGreeting,
			down:   unavailable{stage: StageTLS, err: errCannot, fault: FaultBackend}},
		{name: "STARTTLS is refused", auth: alice, target: Target{TLS: TLSStartTLS},
			script: `
			S: * OK hi
			C: p1 STARTTLS
			S: p1 NO no certificate`,
			down: unavailable{stage: StageTLS, text: "no certificate", fault: FaultBackend}},
		{name: "injection behind STARTTLS", auth: alice, target: Target{TLS: TLSStartTLS},
			script: `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hi
			C: p1 STARTTLS
			S- p1 OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n`,
			down: unavailable{stage: StageTLS, err: ErrInjection, fault: FaultBackend}},
		{name: "half a line behind STARTTLS", auth: alice, target: Target{TLS: TLSStartTLS},
			script: `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hi
			C: p1 STARTTLS
			S- p1 OK begin\r\n*`,
			down: unavailable{stage: StageTLS, err: ErrInjection, fault: FaultBackend}},
		{name: "implicit TLS against a server without", auth: alice, target: Target{TLS: TLSImplicit},
			script: "S: * OK hi",
			down:   unavailable{stage: StageTLS, fault: FaultBackend}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDialer(t, Options{})
			c, err := login(t, d, tc.script, nil, tc.target, tc.auth, Client{})
			if err == nil {
				t.Fatalf("logged in: %q", c.LoginText)
			}
			if tc.auth.Password != "" && strings.Contains(err.Error(), "secret") {
				t.Errorf("a password in the error: %v", err)
			}
			if tc.refused != nil {
				var got *Refused
				if !errors.As(err, &got) {
					t.Fatalf("%v, want %v", err, tc.refused)
				}
				if tc.refused.Backend = "b1"; got.Backend != tc.refused.Backend || got.Code != tc.refused.Code || got.Text != tc.refused.Text {
					t.Fatalf("%+v, want %+v", got, tc.refused)
				}
				return
			}
			var got *Unavailable
			if !errors.As(err, &got) {
				t.Fatalf("%v, want %+v", err, tc.down)
			}
			if got.Stage != tc.down.stage || got.Code != tc.down.code || got.Text != tc.down.text {
				t.Errorf("%+v, want %+v", got, tc.down)
			}
			if tc.down.err != nil && !errors.Is(err, tc.down.err) {
				t.Errorf("%v, want %v", err, tc.down.err)
			}
			if got.Fault() != tc.down.fault || got.BackendDown() != (tc.down.fault == FaultBackend) {
				t.Errorf("fault %v, want %v", got.Fault(), tc.down.fault)
			}
			if got.Backend != "b1" {
				t.Errorf("backend %q", got.Backend)
			}
		})
	}
}

func TestCodesThatMeanUnavailableNeverBlameTheUser(t *testing.T) {
	want := map[string]verdict{
		"": wrongCredentials, "AUTHENTICATIONFAILED": wrongCredentials, "AUTHORIZATIONFAILED": wrongCredentials,
		"EXPIRED": wrongCredentials, "NOPERM": wrongCredentials, "ALERT": wrongCredentials, "X-NEW": wrongCredentials,
		"UNAVAILABLE": unavailable, "INUSE": unavailable, "LIMIT": unavailable, "SERVERBUG": unavailable,
		"CONTACTADMIN": unavailable, "PRIVACYREQUIRED": unavailable, "CORRUPTION": unavailable,
		"CLIENTBUG": unavailable, "CANNOT": unavailable, "OVERQUOTA": unavailable, "REFERRAL": unavailable,
	}
	for code, verdict := range want {
		if got := classify(ModeUser, code); got != verdict {
			t.Errorf("[%s]: %v, want %v", code, got, verdict)
		}
		if got := classify(ModeMaster, code); got != unavailable {
			t.Errorf("[%s] to a master login blames the user", code)
		}
	}
}

// Time runs out wherever the backend dawdles.
func TestSlowBackendTimesOut(t *testing.T) {
	for _, tc := range []struct {
		name   string
		tls    string
		script string
		down   bool
	}{
		{"says nothing", TLSNone, "WAIT", true},
		{"a byte now and then", TLSNone, "SLOW: * OK hello ", true},
		{"never shakes hands", TLSImplicit, "WAIT", true},
		{"never gives capabilities", TLSNone, "S: * OK hi\nSLOW: * OK still busy\\r\\n", true},
		{"never answers the login", TLSNone, aliceLogsIn + "WAIT", false},
		{"lines now and then", TLSNone, aliceLogsIn + "SLOW: * OK still busy\\r\\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDialer(t, Options{LoginTimeout: 100 * time.Millisecond})
			_, err := login(t, d, tc.script, nil, Target{TLS: tc.tls}, alice, Client{})
			var down *Unavailable
			if !errors.As(err, &down) || !errors.Is(err, ErrTimeout) || down.BackendDown() != tc.down {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestConnectTimesOut(t *testing.T) {
	d := newDialer(t, Options{
		ConnectTimeout: 20 * time.Millisecond,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		},
	})
	_, err := d.Login(t.Context(), Target{ID: "b1", Address: "192.0.2.1:143"}, alice, Client{})
	var down *Unavailable
	if !errors.As(err, &down) || down.Stage != StageDial || !errors.Is(err, ErrTimeout) || !down.BackendDown() {
		t.Fatalf("got %v", err)
	}
}

func TestRefusedConnectionIsTheBackendsFault(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, err = newDialer(t, Options{}).Login(t.Context(), Target{ID: "b1", Address: addr}, alice, Client{})
	var down *Unavailable
	if !errors.As(err, &down) || down.Stage != StageDial || !down.BackendDown() {
		t.Fatalf("got %v", err)
	}
	_, err = newDialer(t, Options{}).Login(t.Context(), Target{ID: "b1", Address: "no port"}, alice, Client{})
	if !errors.As(err, &down) || down.Stage != StageSettings || down.BackendDown() {
		t.Fatalf("got %v", err)
	}
}

// The client has gone: the backend's socket is closed at once, and that doesn't
// count as a failure of the backend.
func TestCancellingClosesTheSocket(t *testing.T) {
	for _, tlsMode := range []string{TLSNone, TLSImplicit} {
		t.Run(tlsMode, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			closed := make(chan error, 1)
			b := serve(t, func(c net.Conn) error {
				if tlsMode == TLSNone {
					fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n")
				}
				one := make([]byte, 1)
				if _, err := c.Read(one); err != nil {
					return err
				}
				cancel()
				_, err := io.Copy(io.Discard, c)
				closed <- err
				return nil
			})
			_, err := newDialer(t, Options{}).Login(ctx, Target{ID: "b1", Address: b.addr, TLS: tlsMode}, alice, Client{})
			var down *Unavailable
			if !errors.As(err, &down) || !errors.Is(err, context.Canceled) || down.BackendDown() {
				t.Fatalf("got %v", err)
			}
			<-closed
		})
	}
}

// A client that comes to its login with no time left takes no backend down.
func TestCallersDeadlineIsntTheBackendsFault(t *testing.T) {
	b := serve(t, func(c net.Conn) error { _, _ = io.Copy(io.Discard, c); return nil })
	target := Target{ID: "b1", Address: b.addr}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, stage := range []string{StageGreeting, StageDial} { // the second time it has ended already
		_, err := newDialer(t, Options{}).Login(ctx, target, alice, Client{})
		var down *Unavailable
		if !errors.As(err, &down) || down.Stage != stage || down.BackendDown() || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
}

// Once handed over, a connection has nothing to do with the login's context.
func TestConnOutlivesTheLoginsContext(t *testing.T) {
	b := serve(t, func(c net.Conn) error {
		return playScript(c, aliceLogsIn+"S: p1 OK [CAPABILITY A] in\nC: a1 NOOP\nS: a1 OK", nil)
	})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := newDialer(t, Options{}).Login(ctx, Target{ID: "b1", Address: b.addr}, alice, Client{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	fmt.Fprint(c, "a1 NOOP\r\n")
	got := make([]byte, 7)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "a1 OK\r\n" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestPhasesAreObserved(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, "127.0.0.1", time.Now().Add(time.Hour))
	d := newDialer(t, Options{CAFile: ca.caFile})
	var seen []string
	client := Client{Observe: func(phase string, start, end time.Time, err error) {
		if start.IsZero() || end.Before(start) {
			t.Errorf("%s: from %v to %v", phase, start, end)
		}
		seen = append(seen, fmt.Sprint(phase, " ", err != nil))
	}}
	script := "TLS\n" + aliceLogsIn + "S: p1 OK [CAPABILITY A] in"
	if _, err := login(t, d, script, cert, Target{TLS: TLSImplicit}, alice, client); err != nil {
		t.Fatal(err)
	}
	_, _ = login(t, d, "CLOSE", cert, Target{TLS: TLSImplicit}, alice, client)
	want := "dial false,backend_tls false,backend_login false,dial false,backend_tls true,backend_login true"
	if got := strings.Join(seen, ","); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestProbeLeavesAfterTheCapabilities(t *testing.T) {
	b := serve(t, func(c net.Conn) error {
		return playScript(c, "S: * OK hi\nC: p1 CAPABILITY\nS: * CAPABILITY IMAP4rev1 IDLE\nS: p1 OK\nC: p2 LOGOUT\nWAIT", nil)
	})
	caps, err := newDialer(t, Options{}).Probe(t.Context(), Target{ID: "b1", Address: b.addr})
	if err != nil || strings.Join(caps, " ") != "IMAP4rev1 IDLE" {
		t.Fatalf("got %q, %v", caps, err)
	}
}
