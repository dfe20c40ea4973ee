package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// What each source of credentials on another machine knows of its users, in these tests. The
// backend knows none of the passwords: the proxy logs in as a master.
const (
	rightPassword  = "pw-Right.%20+&\"'\\"
	wideA          = "pw-Grün€" // of user 2
	lockedPassword = "pw-Locked.1"
	wrongPassword  = "pw-Wrong.1"
)

// mechanisms are the ways to log in, by the name that the log has for them.
var mechanisms = map[string]func(c *imaptest.Client, user, password string) imaptest.Answer{
	"LOGIN-COMMAND": func(c *imaptest.Client, user, password string) imaptest.Answer {
		if password == "" {
			return c.TryLogin(user, password)
		}
		return c.Literal("LOGIN "+imaptest.Quote(user)+" ", imaptest.BytesPayload([]byte(password)), "")
	},
	"PLAIN": func(c *imaptest.Client, user, password string) imaptest.Answer { return c.Plain("", user, password) },
	"LOGIN": func(c *imaptest.Client, user, password string) imaptest.Answer {
		c.Write("x AUTHENTICATE LOGIN " + base64.StdEncoding.EncodeToString([]byte(user)))
		if r := c.Read(); r.Tag() != "+" {
			return imaptest.Answer{Tagged: r}
		}
		c.Write(base64.StdEncoding.EncodeToString([]byte(password)))
		return imaptest.Answer{Tagged: c.Read()}
	},
}

// cell is one login, and what must come of it.
type cell struct {
	what, user, password string
	code                 string // of the NO; "": OK
	reason               string // in the log and in the metric
}

// sourceTable logs in with everything that a client may send, by each mechanism. names are
// what is injected as a user's name; unknown is the reason for a user that the source doesn't know.
func (p *runningProxy) sourceTable(t *testing.T, source, unknown string, names ...string) {
	t.Helper()
	cells := []cell{
		{"right", servers.User(1), rightPassword, "", ""},
		{"right, 8-bit", servers.User(2), wideA, "", ""},
		{"wrong", servers.User(1), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"},
		{"another's", servers.User(2), rightPassword, "AUTHENTICATIONFAILED", "bad_password"},
		{"8-bit, not UTF-8", servers.User(2), "pw-Gr\xfcn", "AUTHENTICATIONFAILED", "bad_password"},
		{"unknown", "nobody", rightPassword, "AUTHENTICATIONFAILED", unknown},
		{"locked", servers.User(3), lockedPassword, "AUTHENTICATIONFAILED", "account_disabled"},
		{"empty", servers.User(1), "", "AUTHENTICATIONFAILED", "bad_credentials"},
		{"line break", servers.User(1), "pw-Break\r\nAuth-Status: OK\r\n\r\n", "AUTHENTICATIONFAILED", "bad_password"},
		{"tab", servers.User(1), "pw-Tab\t1\tOK", "AUTHENTICATIONFAILED", "bad_password"},
		{"long", servers.User(1), strings.Repeat("pw-Long.", 800), "AUTHENTICATIONFAILED", "bad_password"},
	}
	for _, name := range names {
		reason := unknown
		if strings.Contains(name, "*") { // users.refuse_separators
			reason = "bad_name"
		}
		cells = append(cells, cell{"injection", name, rightPassword, "AUTHENTICATIONFAILED", reason})
	}
	for mechanism, login := range mechanisms {
		for _, c := range cells {
			switch {
			case source == "backend" && c.reason == "bad_password":
				c.reason = "backend_refused" // it says no more
			case source == "backend" && c.what == "locked": // Dovecot's answer is passed on
				c.code, c.reason = "CONTACTADMIN", "unavailable"
			}
			if mechanism != "PLAIN" && (strings.Contains(c.password, "\r\n") || c.what == "injection" || c.what == "tab" || c.what == "long") {
				continue // by one mechanism; and a line break in a literal is BAD
			}
			p.cell(t, source, mechanism, c, login)
		}
	}
	p.tooLong(t)
	p.cell(t, source, "PLAIN", cell{"NUL", servers.User(1), rightPassword + "\x00x", "AUTHENTICATIONFAILED", "malformed"}, mechanisms["PLAIN"])
	p.toldNoSecrets(t)
}

// cell logs in once.
func (p *runningProxy) cell(t *testing.T, source, mechanism string, c cell, login func(*imaptest.Client, string, string) imaptest.Answer) {
	t.Helper()
	if c.password == "" && mechanism != "LOGIN-COMMAND" && !strings.HasPrefix(mechanism, "SCRAM-") {
		c.reason = "malformed" // such a message is none of the mechanism
	}
	if c.reason == "malformed" || c.reason == "bad_credentials" || c.reason == "bad_name" {
		source = "" // none is asked
	}
	outcome := c.reason
	if c.code == "" {
		outcome = "ok"
	}
	before := p.counted(t, source, mechanism, outcome)
	failed := p.failures(t, c.reason)
	said := len(p.Output())
	client := imaptest.Dial(t, p.Plain)
	a := login(client, c.user, c.password)
	_ = client.Close()
	what := fmt.Sprintf("%s by %s", c.what, mechanism)
	if a.OK() != (c.code == "") || a.Tagged.Code() != c.code && c.code != "" {
		t.Errorf("%s: %s, want %q", what, a.Tagged, c.code)
	}
	if n := p.counted(t, source, mechanism, outcome) - before; n != 1 {
		t.Errorf("%s: counted %v times as %s by %q", what, n, outcome, source)
	}
	if c.code == "" {
		return
	}
	if n := p.failures(t, c.reason) - failed; n != 1 {
		t.Errorf("%s: %v failures are counted as %s", what, n, c.reason)
	}
	if line := fmt.Sprintf("mechanism=%s reason=%s ", mechanism, c.reason); !strings.Contains(p.Output()[said:], line) {
		t.Errorf("%s: the log has no %q:\n%s", what, line, p.Output()[said:])
	}
}

// tooLong sends a password of a megabyte, as a literal and in base64.
func (p *runningProxy) tooLong(t *testing.T) {
	t.Helper()
	c := imaptest.Dial(t, p.Plain)
	if a := c.Literal("LOGIN "+servers.User(1)+" ", imaptest.BytesPayload(make([]byte, 1<<20)), ""); a.Tagged.Code() != "TOOBIG" {
		t.Errorf("a password of 1 MB: %s", a.Tagged)
	}
	c = imaptest.Dial(t, p.Plain)
	c.Write("x AUTHENTICATE PLAIN")
	c.Expect("+{*}")
	_ = c.SendRaw(strings.Repeat("QUFB", 1<<18) + "\r\n") // the proxy hangs up meanwhile
	for {
		r, err := c.Next()
		if err != nil {
			break
		}
		if r.Tag() == "x" && r.Status() == "OK" {
			t.Errorf("a response of 1 MB: %s", r)
		}
	}
}

// metric is the sum of a counter's lines that have all the labels.
func (p *runningProxy) metric(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	resp, err := http.Get(p.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
next:
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name+"{")
		if !ok {
			continue
		}
		for _, l := range labels {
			if !strings.Contains("{"+rest, l) {
				continue next
			}
		}
		n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

func (p *runningProxy) counted(t *testing.T, source, mechanism, outcome string) float64 {
	t.Helper()
	if mechanism == "LOGIN-COMMAND" {
		mechanism = "LOGIN"
	}
	return p.metric(t, "imapproxy_login_duration_seconds_count", `mechanism="`+mechanism+`"`, `source="`+source+`"`, `outcome="`+outcome+`"`)
}

func (p *runningProxy) failures(t *testing.T, reason string) float64 {
	t.Helper()
	return p.metric(t, "imapproxy_login_failures_total", `reason="`+reason+`"`)
}

// toldNoSecrets looks for the passwords in all that the proxy tells.
func (p *runningProxy) toldNoSecrets(t *testing.T, more ...string) {
	t.Helper()
	told := p.Output()
	for _, path := range []string{"/metrics", "/v1/status", "/v1/sessions", "/v1/backends"} {
		resp, err := http.Get(p.Admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		told += string(body)
	}
	for _, secret := range append(more, "pw-Right", "pw-Gr", "pw-Locked", "pw-Wrong", "pw-Break", "pw-Tab", "pw-Long", servers.MasterPassword) {
		for pad := range 3 {
			enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + secret))
			for _, spelling := range []string{secret, enc[(pad*8+5)/6 : (pad+len(secret))*8/6]} {
				if i := strings.Index(told, spelling); i >= 0 {
					t.Errorf("a password was told: …%q…", told[max(0, i-200):min(len(told), i+50)])
				}
			}
		}
	}
}

// unavailable logs in while the source can't tell.
func (p *runningProxy) unavailable(t *testing.T, source, what string) {
	t.Helper()
	for mechanism, login := range mechanisms {
		p.cell(t, source, mechanism, cell{what, servers.User(1), rightPassword, "UNAVAILABLE", "unavailable"}, login)
	}
}

// hangs freezes the source, and sees that a login then ends, and that the source is asked again
// once it is thawed.
func (p *runningProxy) hangs(t *testing.T, source string, server *servers.Process) {
	t.Helper()
	server.Freeze()
	p.unavailable(t, source, "hangs")
	server.Thaw()
	p.comesBack(t, "thawed")
}

// comesBack logs in until that succeeds: a server that has just been started, or goes on, may need a moment.
func (p *runningProxy) comesBack(t *testing.T, what string) {
	t.Helper()
	p.eventually(t, what, func() error {
		c := imaptest.Dial(t, p.Plain)
		defer c.Close()
		if a := c.TryLogin(servers.User(1), rightPassword); !a.OK() {
			return fmt.Errorf("%s", a.Tagged)
		}
		return nil
	})
}
