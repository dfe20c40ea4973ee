package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"imapproxy/telemetry"
)

const (
	filterFile = "../../contrib/fail2ban/imapproxy-lb.conf"
	realClient = "192.0.2.7" // the only client that may be banned in these tests
	forged     = "203.0.113.99"
)

// hostileNames are names by which an attacker could try to have another client banned, to hide, or to harm
// the reader of the log.
func hostileNames() []string {
	names := []string{
		"", " ", "alice", "alice@example.org", "user*master", `back\slash`, `"`, `""`, `\"`, `\\"`, "=", "a=b",
		" client=" + forged, "x client=" + forged + " port=1 mechanism=PLAIN reason=bad_password user=y",
		`x" client=` + forged + ` port=1 mechanism=PLAIN reason=bad_password user="y`,
		`x\" client=` + forged + ` port=1 mechanism=PLAIN reason=bad_password user=\"y`,
		"x\nlevel=WARN msg=\"login failed\" client=" + forged + " port=1 mechanism=PLAIN reason=bad_password user=y",
		"x\r\ntime=2026-01-02T03:04:05.678Z level=WARN msg=\"login failed\" client=" + forged + " port=1 mechanism=PLAIN reason=bad_password user=y",
		"x\n{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"WARN\",\"msg\":\"login failed\",\"client\":\"" + forged + "\",\"port\":1,\"mechanism\":\"PLAIN\",\"reason\":\"bad_password\",\"user\":\"y\"}",
		`y","client":"` + forged + `","port":1,"mechanism":"PLAIN","reason":"bad_password","user":"z`,
		`y\","client":"` + forged + `"}`,
		"\x1b[2J\x1b]0;pwned\x07", "\u009b31mred", "\x7f", "\x00nul", "\xff\xfe", "ok\xc3", "\u2028line\u2029para", "\u202egnp.exe", "\ufffd",
		"émile", strings.Repeat("x", 5000), strings.Repeat("é\x01", 400), "host " + forged + ": failed", "[" + forged + "]", forged,
		"<HOST>", "%(__prefix)s", "${IFS}", "$(id)", "`id`",
	}
	return names
}

// failureLog writes a failure line for each name with the real logger, and
// returns the log and how many of its lines ought to match.
func failureLog(t *testing.T, format string, client netip.AddrPort, reason Reason) []byte {
	t.Helper()
	var out bytes.Buffer
	tel, err := telemetry.Start(context.Background(), telemetry.Options{
		Service: "imapproxy", LogWriter: &out, LogFormat: format, LogLevel: slog.LevelInfo,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range hostileNames() {
		log := tel.Log
		switch i % 3 {
		case 1:
			log = tel.SessionLogger("s-0123456789", trace.SpanContext{})
		case 2:
			log = tel.SessionLogger("s-0123456789", trace.SpanContext{}.WithTraceID(trace.TraceID{0x4b, 0xf9}).WithTraceFlags(trace.FlagsSampled)).With("listener", "imaps")
		}
		LogFailure(context.Background(), log, Failure{Client: client, User: name, Mechanism: MechanismPlain, Reason: reason})
	}
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFailureLineHasItsDocumentedForm(t *testing.T) {
	line := func(format string, f Failure) string {
		var out bytes.Buffer
		opts := &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}
		var h slog.Handler = slog.NewTextHandler(&out, opts)
		if format == "json" {
			h = slog.NewJSONHandler(&out, opts)
		}
		LogFailure(context.Background(), slog.New(h).With("session", "s1"), f)
		return out.String()
	}
	v4 := netip.MustParseAddrPort("192.0.2.7:50123")
	for _, c := range []struct {
		format string
		f      Failure
		want   string
	}{
		{"text", Failure{v4, "alice", MechanismPlain, ReasonBadPassword},
			"level=WARN msg=\"login failed\" session=s1 client=192.0.2.7 port=50123 mechanism=PLAIN reason=bad_password user=alice\n"},
		{"text", Failure{v4, "a b\n\"\\", MechanismCommand, ReasonBadName},
			"level=WARN msg=\"login failed\" session=s1 client=192.0.2.7 port=50123 mechanism=LOGIN-COMMAND reason=bad_name user=\"a b\\\\x0a\\\"\\\\\\\\\"\n"},
		{"text", Failure{v4, "", "EVIL reason=x", "nonsense"},
			"level=WARN msg=\"login failed\" session=s1 client=192.0.2.7 port=50123 mechanism=other reason=unavailable user=\"\"\n"},
		{"text", Failure{netip.MustParseAddrPort("[::ffff:192.0.2.7]:1"), "a", MechanismLogin, ReasonUnknownUser},
			"level=WARN msg=\"login failed\" session=s1 client=192.0.2.7 port=1 mechanism=LOGIN reason=unknown_user user=a\n"},
		{"text", Failure{netip.MustParseAddrPort("[fe80::1%eth0]:1"), "a", MechanismLogin, ReasonUnknownUser},
			"level=WARN msg=\"login failed\" session=s1 client=fe80::1 port=1 mechanism=LOGIN reason=unknown_user user=a\n"},
		{"text", Failure{netip.AddrPort{}, "a", MechanismLogin, ReasonUnknownUser},
			"level=WARN msg=\"login failed\" session=s1 client=unknown port=0 mechanism=LOGIN reason=unknown_user user=a\n"},
		{"json", Failure{v4, "al\"ice\x1b", MechanismPlain, ReasonBadPassword},
			`{"level":"WARN","msg":"login failed","session":"s1","client":"192.0.2.7","port":50123,"mechanism":"PLAIN","reason":"bad_password","user":"al\"ice\\x1b"}` + "\n"},
	} {
		if got := line(c.format, c.f); got != c.want {
			t.Errorf("%s %+v:\n got %s\nwant %s", c.format, c.f, got, c.want)
		}
	}
}

func TestFailureLineIsOneLineOfPrintableTextForEveryName(t *testing.T) {
	client := netip.MustParseAddrPort(realClient + ":1")
	for _, format := range []string{"text", "json"} {
		log := failureLog(t, format, client, ReasonBadPassword)
		lines := strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
		if len(lines) != len(hostileNames()) {
			t.Fatalf("%s: %d lines for %d failures", format, len(lines), len(hostileNames()))
		}
		for i, line := range lines {
			if !isPrintable(strings.ReplaceAll(line, `\`, "")) {
				t.Errorf("%s: something unprintable in %q", format, line)
			}
			if len(line) > 3*MaxName+400 {
				t.Errorf("%s: %d bytes for a name of %d", format, len(line), len(hostileNames()[i]))
			}
			if format == "json" {
				var m struct{ Client, User, Reason string }
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Errorf("%v in %q", err, line)
				} else if m.Client != realClient || m.Reason != string(ReasonBadPassword) {
					t.Errorf("forged: %q gives %+v", line, m)
				}
			}
		}
	}
}

// filter is contrib's filter, as far as Go's regexp can run it: <ADDR> is an
// address here, and the date is left in the line, which the filter allows for.
func filter(t *testing.T) []*regexp.Regexp {
	t.Helper()
	src, err := os.ReadFile(filterFile)
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	key := ""
	for line := range strings.Lines(string(src)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#' || line[0] == '[':
		case line[0] == ' ':
			settings[key] += "\n" + strings.TrimSpace(line)
		default:
			var value string
			key, value, _ = strings.Cut(line, "=")
			key = strings.TrimSpace(key)
			settings[key] = strings.TrimSpace(value)
		}
	}
	var all []*regexp.Regexp
	for expr := range strings.SplitSeq(settings["failregex"], "\n") {
		for key, value := range settings {
			expr = strings.ReplaceAll(expr, "%("+key+")s", value)
		}
		if strings.Contains(expr, "%(") || strings.Count(expr, "<ADDR>") != 1 {
			t.Fatalf("filter not understood: %s", expr)
		}
		expr = strings.ReplaceAll(expr, "<ADDR>", `(?P<addr>[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+)`)
		re, err := regexp.Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, re)
	}
	return all
}

// banned returns the address that the filter finds in a line, or "".
func banned(filter []*regexp.Regexp, line string) string {
	for _, re := range filter {
		if m := re.FindStringSubmatch(line); m != nil {
			return m[re.SubexpIndex("addr")]
		}
	}
	return ""
}

func TestFilterFindsTheClientAndNobodyElse(t *testing.T) {
	f := filter(t)
	for _, format := range []string{"text", "json"} {
		for _, addr := range []string{realClient, "2001:db8::7", "::1", "2001:db8:1:2:3:4:5:6"} {
			client := netip.AddrPortFrom(netip.MustParseAddr(addr), 50123)
			for line := range strings.Lines(string(failureLog(t, format, client, ReasonBadPassword))) {
				line = strings.TrimSuffix(line, "\n")
				for _, prefix := range []string{"", "mx1 imapproxy[1234]: ", "Jan  2 03:04:05 mx1 imapproxy[1]: "} {
					// fail2ban takes the date out of the line before it matches.
					shown := strings.TrimPrefix(prefix+line, "Jan  2 03:04:05")
					if got := banned(f, shown); got != addr {
						t.Errorf("%s: want %s, found %q in %s", format, addr, got, shown)
					}
				}
			}
		}
	}
}

func TestFilterCountsGuessesOnly(t *testing.T) {
	f := filter(t)
	client := netip.MustParseAddrPort(realClient + ":50123")
	for _, reason := range Reasons() {
		for _, format := range []string{"text", "json"} {
			line, _, _ := strings.Cut(string(failureLog(t, format, client, reason)), "\n")
			if got := banned(f, line) != ""; got != reason.Guess() {
				t.Errorf("%s %s: counted %v, Guess %v: %s", format, reason, got, reason.Guess(), line)
			}
		}
	}
}

// Other lines of the log may hold what a client sent; none may look like a
// failure line.
func TestFilterIgnoresOtherLines(t *testing.T) {
	f := filter(t)
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: &out, LogFormat: format})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range hostileNames() {
			tel.Log.Warn("session ended", "user", name, "client", realClient)
			tel.Log.With("user", name).Warn("login slow", "client", realClient)
		}
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if got := banned(f, strings.TrimSuffix(line, "\n")); got != "" {
				t.Errorf("%s: would ban %s for %s", format, got, line)
			}
		}
	}
	// And a failure line whose logger carries a hostile attribute of its own.
	for _, format := range []string{"text", "json"} {
		for _, name := range hostileNames() {
			var out bytes.Buffer
			var h slog.Handler = slog.NewTextHandler(&out, nil)
			if format == "json" {
				h = slog.NewJSONHandler(&out, nil)
			}
			LogFailure(context.Background(), slog.New(h).With("tried", name),
				Failure{Client: netip.MustParseAddrPort(realClient + ":1"), User: name, Mechanism: MechanismPlain, Reason: ReasonBadPassword})
			if got := banned(f, strings.TrimSuffix(out.String(), "\n")); got != realClient {
				t.Errorf("%s: found %q in %s", format, got, out.String())
			}
		}
	}
}

// The filter reads the journal of the unit that we ship, and the jail uses the filter and the log file of the configuration's manual.
func TestTheFilterAndTheJailFitWhatElseIsShipped(t *testing.T) {
	read := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	value := func(text, name string) string {
		t.Helper()
		found := regexp.MustCompile(`(?m)^` + name + ` *= *(.+)$`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("there is no %s", name)
		}
		return found[1]
	}
	filter, jail := read("contrib/fail2ban/imapproxy-lb.conf"), read("contrib/fail2ban/jail.conf")
	unit, found := strings.CutPrefix(value(filter, "journalmatch"), "_SYSTEMD_UNIT=")
	if _, err := os.Stat(filepath.Join("../../contrib/systemd", unit)); !found || err != nil {
		t.Errorf("the filter reads the journal of %s (%v)", unit, err)
	}
	if name := value(jail, "filter"); name+".conf" != filepath.Base(filterFile) {
		t.Errorf("the jail uses the filter %s", name)
	}
	if path := value(jail, "logpath"); !strings.Contains(read("config.hcl"), "#file = \""+path+"\"\n") {
		t.Errorf("the jail reads %s, which isn't the file in config.hcl", path)
	}
}

// The real thing.
func TestFilterInRealFail2ban(t *testing.T) {
	tool, err := exec.LookPath("fail2ban-regex")
	if err != nil {
		t.Fatal("this test needs fail2ban-regex: run ./test, which installs it, or apt-get install fail2ban")
	}
	conf, err := filepath.Abs(filterFile)
	if err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, log []byte, encoding string) []string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, log, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(tool, "--encoding="+encoding, "--usedns=no", "--out=<ip> <time>", file, conf)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil && len(out) == 0 && stderr.Len() > 0 {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	}
	for _, format := range []string{"text", "json"} {
		for _, addr := range []string{realClient, "2001:db8::7"} {
			t.Run(format+" "+addr, func(t *testing.T) {
				log := failureLog(t, format, netip.AddrPortFrom(netip.MustParseAddr(addr), 50123), ReasonBadPassword)
				found := run(t, log, "UTF-8")
				for _, got := range found {
					ip, at, _ := strings.Cut(got, " ")
					if ip != addr {
						t.Errorf("would ban %q", got)
					}
					// A time it couldn't read would be now, or nothing.
					if at == "" || at == "0" || at == "None" {
						t.Errorf("no time in %q", got)
					}
				}
				if want := len(hostileNames()); len(found) != want {
					t.Errorf("found %d of %d failures", len(found), want)
				}
			})
		}
		t.Run(format+" unavailable", func(t *testing.T) {
			log := failureLog(t, format, netip.MustParseAddrPort(realClient+":1"), ReasonUnavailable)
			if found := run(t, log, "UTF-8"); len(found) != 1 || found[0] != "" {
				t.Errorf("would ban %q", found)
			}
		})
	}
	t.Run("times", func(t *testing.T) {
		const rest = ` level=WARN msg="login failed" session=s1 client=` + realClient + ` port=1 mechanism=PLAIN reason=bad_password user=a` + "\n"
		const json = `,"level":"WARN","msg":"login failed","client":"` + realClient + `","port":1,"mechanism":"PLAIN","reason":"bad_password","user":"a"}` + "\n"
		log := "time=2026-01-02T03:04:05.678Z" + rest + "time=2026-01-02T05:04:05.678+02:00" + rest +
			`{"time":"2026-01-02T03:04:05.123456789Z"` + json + `{"time":"2026-01-02T03:04:05Z"` + json
		for _, got := range run(t, []byte(log), "UTF-8") {
			if !strings.HasPrefix(got, realClient+" 1767323045") {
				t.Errorf("time misread: %s", got)
			}
		}
		if got := len(run(t, []byte(log), "UTF-8")); got != 4 {
			t.Errorf("%d of 4 lines found", got)
		}
		syslog := "Jan  2 03:04:05 mx1 imapproxy[12]: time=2026-01-02T03:04:05.678Z" + rest
		if got := run(t, []byte(syslog), "UTF-8"); len(got) != 1 || !strings.HasPrefix(got[0], realClient) {
			t.Errorf("in syslog: %q", got)
		}
	})
}
