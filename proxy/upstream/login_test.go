package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"imapproxy/telemetry"
)

var alice = Auth{User: "alice", Password: "secret"}

// dialogues are logins that succeed, each as its server has it.
var dialogues = []struct {
	name   string
	target Target
	auth   Auth
	client Client
	script string
	caps   string // after the login
	text   string // of the OK
	also   string // untagged responses to pass on, joined by |
	rest   string // bytes that the relay gets to read first
}{
	{
		name: "Dovecot: ID and login in one write",
		auth: alice,
		client: Client{
			Addr:      netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711"),
			LocalAddr: netip.MustParseAddrPort("[2001:db8::1%eth0]:993"),
			SessionID: `s"1\x`, ProxyTTL: 4,
		},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN AUTH=LOGIN] Dovecot ready.
		C: p1 ID ("name" "imapproxy" "x-proxy-host" "imap.example.org" "x-originating-ip" "192.0.2.7" "x-originating-port" "4711" "x-connected-ip" "2001:db8::1" "x-connected-port" "993" "x-session-id" "s\"1\\x" "x-proxy-ttl" "4")
		C: p2 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S: * ID ("name" "Dovecot")
		S: p1 OK ID completed.
		S: * CAPABILITY IMAP4rev1 WRONG
		S: p2 OK [CAPABILITY IMAP4rev1 IDLE NOTIFY] Logged in`,
		caps: "IMAP4rev1 IDLE NOTIFY",
		text: "Logged in",
	},
	{
		name: "Cyrus: capabilities untagged, after ID was answered",
		auth: Auth{Mode: ModeUser, User: "alice", Password: "secret"},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE AUTH=PLAIN AUTH=LOGIN SASL-IR] localhost Cyrus IMAP 3.6.1 server ready
		C: p1 ID ("name" "imapproxy" "x-proxy-host" "imap.example.org")
		C: p2 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S: * ID NIL
		S: p1 OK Completed
		S: * CAPABILITY IMAP4rev1 QRESYNC
		S: p2 OK Success (no protection) SESSIONID=<x>`,
		caps: "IMAP4rev1 QRESYNC",
		text: "Success (no protection) SESSIONID=<x>",
	},
	{
		name: "Courier: no ID, no SASL-IR, capabilities asked twice",
		auth: alice,
		script: `
		S: * OK Courier-IMAP ready. Copyright 1998-2018 Double Precision, Inc.
		C: p1 CAPABILITY
		S: * CAPABILITY IMAP4rev1 UIDPLUS IDLE AUTH=PLAIN
		S: p1 OK CAPABILITY completed
		C: p2 AUTHENTICATE PLAIN
		S: +
		C: AGFsaWNlAHNlY3JldA==
		S: p2 OK LOGIN Ok.
		C: p3 CAPABILITY
		S: * CAPABILITY IMAP4rev1 ACL
		S: p3 OK done`,
		caps: "IMAP4rev1 ACL",
		text: "LOGIN Ok.",
	},
	{
		name: "the challenge has a text, and ID is answered behind it",
		auth: alice,
		script: `
		S: * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] hi
		C: p1 ID ("name" "imapproxy" "x-proxy-host" "imap.example.org")
		C: p2 AUTHENTICATE PLAIN
		S: + go ahead
		C: AGFsaWNlAHNlY3JldA==
		S: p2 OK [CAPABILITY A B] in
		S: p1 BAD what?`,
		caps: "A B",
		text: "in",
	},
	{
		name: "LOGIN with quoted strings",
		auth: Auth{User: `a"b`, Password: `c\d "`},
		script: `
		S: * OK [CAPABILITY IMAP4rev1] hi
		C: p1 LOGIN "a\"b" "c\\d \""
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "LOGIN with synchronising literals: newline and 8-bit",
		auth: Auth{User: "al\xe9", Password: "x\r\ny"},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 ID] hi
		C: p1 ID ("name" "imapproxy" "x-proxy-host" "imap.example.org")
		C: p2 LOGIN {3}
		S: * ID NIL
		S: p1 OK
		S: + OK
		C: al\xe9 {4}
		S: + OK
		C: x\r\ny
		S: p2 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "LOGIN with LITERAL+ waits for nothing",
		auth: Auth{User: "al\xe9", Password: "x\ny"},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 LITERAL+] hi
		C: p1 LOGIN {3+}
		C: al\xe9 {3+}
		C: x\ny
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "LITERAL- takes short ones only",
		auth: Auth{User: "al\xe9", Password: "\xe9444444444444" + secretPassword(4096)},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 LITERAL-] hi
		C: p1 LOGIN {3+}
		C: al\xe9 {4109}
		S: + go
		C: \xe9444444444444` + strings.Repeat("x", 4096) + `
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "8-bit and newline in a password go through PLAIN as they are",
		auth: Auth{User: "a", Password: "\xe9\n"},
		script: `
		S: * OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] hi
		C: p1 AUTHENTICATE PLAIN AGEA6Qo=
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "too long for an initial response",
		auth: Auth{User: "a", Password: secretPassword(900)},
		script: `
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi
		C: p1 AUTHENTICATE PLAIN
		S: +
		C: AGEA` + strings.Repeat("eHh4", 300) + `
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name: "alerts are passed on, referrals and capabilities are not",
		auth: alice,
		script: `
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi
		C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S: * OK [ALERT] down on Sunday
		S: * OK [REFERRAL imap://elsewhere/] not for you
		S: * NO disk is getting full
		S: * OK [CAPABILITY A B]
		S: p1 OK [ALERT] password expires soon`,
		caps: "A B",
		text: "password expires soon",
		also: "* OK [ALERT] down on Sunday|* NO disk is getting full|* OK [ALERT] password expires soon",
	},
	{
		name: "what comes behind the OK is the relay's",
		auth: alice,
		script: `
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi
		C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S- p1 OK [CAPABILITY A] in\r\n* OK Still here\r\n* BYE`,
		caps: "A", text: "in",
		rest: "* OK Still here\r\n* BYE",
	},
	{
		name:   "STARTTLS",
		target: Target{TLS: TLSStartTLS},
		auth:   alice,
		script: `
		S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi
		C: p1 STARTTLS
		S: p1 OK begin
		TLS
		C: p2 CAPABILITY
		S: * CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN
		S: p2 OK
		C: p3 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S- p3 OK [CAPABILITY A] in\r\n* OK more`,
		caps: "A", text: "in",
		rest: "* OK more",
	},
	{
		name:   "STARTTLS without asking for the capabilities first",
		target: Target{TLS: TLSStartTLS, ServerName: "127.0.0.1"},
		auth:   alice,
		script: `
		S: * OK hi
		C: p1 STARTTLS
		S: p1 OK begin
		TLS
		C: p2 CAPABILITY
		S: * CAPABILITY IMAP4rev1
		S: p2 OK
		C: p3 LOGIN "alice" "secret"
		S: p3 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
	{
		name:   "implicit TLS",
		target: Target{TLS: TLSImplicit},
		auth:   alice,
		script: `
		TLS
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi
		C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S: p1 OK [CAPABILITY A] in`,
		caps: "A", text: "in",
	},
}

// secretPassword is n octets that can't be part of anything else.
func secretPassword(n int) telemetry.Secret { return telemetry.Secret(strings.Repeat("x", n)) }

func TestLoginSpeaksWithEachKindOfServer(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, "127.0.0.1", time.Now().Add(time.Hour))
	d := newDialer(t, Options{Hostname: "imap.example.org", CAFile: ca.caFile})
	for _, tc := range dialogues {
		t.Run(tc.name, func(t *testing.T) {
			c, err := login(t, d, tc.script, cert, tc.target, tc.auth, tc.client)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Caps.String(); got != tc.caps {
				t.Errorf("capabilities %q, want %q", got, tc.caps)
			}
			if c.LoginText != tc.text {
				t.Errorf("text %q, want %q", c.LoginText, tc.text)
			}
			if got := string(bytes.Join(c.Untagged, []byte("|"))); got != tc.also {
				t.Errorf("untagged %q, want %q", got, tc.also)
			}
			if tc.rest != "" {
				got := make([]byte, len(tc.rest))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tc.rest {
					t.Errorf("the relay reads %q (%v), want %q", got, err, tc.rest)
				}
			}
			if secure := tc.target.TLS != ""; c.Secure() != secure {
				t.Errorf("secure: %v", c.Secure())
			}
		})
	}
}

// Wherever a backend falls silent for ever, it's the backend that is down, and
// never the user's password that is wrong.
func TestBackendThatClosesAtAnyStepIsUnavailable(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, "127.0.0.1", time.Now().Add(time.Hour))
	d := newDialer(t, Options{Hostname: "imap.example.org", CAFile: ca.caFile})
	for _, tc := range dialogues {
		if tc.rest != "" {
			continue // its last step is more than the login
		}
		t.Run(tc.name, func(t *testing.T) {
			for n := range steps(tc.script) {
				_, err := login(t, d, cut(tc.script, n), cert, tc.target, tc.auth, tc.client)
				var down *Unavailable
				if !errors.As(err, &down) {
					t.Fatalf("cut after step %d: %v", n, err)
				}
				want := FaultBackend
				if down.sent { // what the user sent may have closed it
					want = FaultUnsure
				}
				if down.Fault() != want {
					t.Errorf("cut after step %d: fault %v, want %v: %v", n, down.Fault(), want, err)
				}
			}
		})
	}
}
