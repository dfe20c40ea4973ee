package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// prometheusTool returns a program of Debian's package prometheus.
func prometheusTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("IMAPPROXY_REAL") == "" {
		t.Skip("Prometheus isn't installed here: run ./test")
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program and returns its output.
func run(t *testing.T, dir string, input io.Reader, program string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Stdin = dir, input
	said, err := c.CombinedOutput()
	return string(said), err
}

func TestPromtoolFindsNoFaultInTheMetrics(t *testing.T) {
	promtool := prometheusTool(t, "promtool")
	tel, _ := everything(t)
	recordEverything(tel)
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	// The others are the runtime's, whose names are OpenTelemetry's.
	var own bytes.Buffer
	for line := range strings.Lines(rec.Body.String()) {
		if strings.Contains(line, "imapproxy_") {
			own.WriteString(line)
		}
	}
	if said, err := run(t, ".", &own, promtool, "check", "metrics"); err != nil || said != "" {
		t.Errorf("promtool check metrics: %v\n%s", err, said)
	}
	// It finds a fault if there is one.
	if said, err := run(t, ".", strings.NewReader("# TYPE imapproxy_x counter\nimapproxy_x 1\n"), promtool, "check", "metrics"); err == nil {
		t.Errorf("promtool finds no fault in a counter without _total: %s", said)
	}
}

// On an ordinary day no alert fires, and each fires for what it is meant for.
func TestPromtoolTestsTheAlerts(t *testing.T) {
	promtool := prometheusTool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"check", "config", "scrape.yml"}, {"test", "rules", "rules_test.yml"}} {
		if said, err := run(t, "../contrib/prometheus", nil, promtool, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
}

// Each alert is tested, and has a page that quotes its expression; no page is without an alert.
func TestEachAlertIsTestedAndHasAPage(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules, tests := read("../contrib/prometheus/rules.yml"), read("../contrib/prometheus/rules_test.yml")
	operations := read("../docs/operations.md")
	alerts := map[string]bool{}
	for _, m := range alert.FindAllStringSubmatch(rules, -1) {
		name, expr := m[1], strings.ReplaceAll(m[2], "''", "'")
		alerts[name+".md"] = true
		if !strings.Contains(read("../docs/runbooks/"+name+".md"), "```promql\n"+expr+"\n```") {
			t.Errorf("docs/runbooks/%s.md has another expression than the rule: %s", name, expr)
		}
		if !strings.Contains(tests, "- name: "+name+"\n") || strings.Count(tests, "alertname: "+name+"\n") != 2 {
			t.Errorf("rules_test.yml doesn't test when %s fires, and that it doesn't on an ordinary day", name)
		}
		if !strings.Contains(operations, "(runbooks/"+name+".md)") {
			t.Errorf("docs/operations.md doesn't name %s", name)
		}
	}
	pages, err := os.ReadDir("../docs/runbooks")
	if err != nil || len(alerts) < 20 {
		t.Fatal(err, alerts)
	}
	for _, p := range pages {
		if !alerts[p.Name()] {
			t.Errorf("docs/runbooks/%s is about no alert", p.Name())
		}
	}
}

var (
	alert    = regexp.MustCompile(`- alert: (\w+)\n +expr: '((?:[^']|'')*)'\n`)
	fenced   = regexp.MustCompile("(?s)```promql\n(.*?)\n```")
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	ofProxy  = regexp.MustCompile(`imapproxy_[a-z_]+`)
	variable = regexp.MustCompile(`\$\w+`)
)

// query is an expression that we show to operators.
type query struct {
	at, expr string
	panel    bool // of a dashboard: it must show something
}

// queries returns all expressions in the documentation, the alerts and the dashboards.
func queries(t *testing.T) (all []query) {
	t.Helper()
	metrics := map[string]bool{}
	for _, i := range Instruments() {
		name, err := i.PromName()
		if err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			metrics[name+suffix] = true
		}
	}
	pages := func(path string, text string) {
		text = fenced.ReplaceAllStringFunc(text, func(block string) string {
			all = append(all, query{at: path, expr: fenced.FindStringSubmatch(block)[1]})
			return ""
		})
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			names := ofProxy.FindAllString(m[1], -1)
			isName := !strings.ContainsAny(m[1], `("/<>`) || strings.Contains(m[1], "…")
			if len(names) > 0 && !isName && slices.ContainsFunc(names, func(n string) bool { return metrics[n] }) {
				all = append(all, query{at: path, expr: m[1]})
			}
		}
	}
	for _, root := range []string{"../docs", "../contrib/prometheus", "../contrib/grafana", "../README.md"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			switch filepath.Ext(path) {
			case ".md":
				pages(path, string(text))
			case ".yml":
				for _, m := range alert.FindAllStringSubmatch(string(text), -1) {
					all = append(all, query{at: path + " " + m[1], expr: strings.ReplaceAll(m[2], "''", "'")})
				}
			case ".json":
				all = append(all, panels(t, path, text)...)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return all
}

// panels returns the queries of a dashboard's panels, and of its variables.
func panels(t *testing.T, path string, text []byte) (all []query) {
	t.Helper()
	var board struct {
		Title  string
		UID    string
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil || board.Title == "" || board.UID == "" || len(board.Panels) == 0 {
		t.Fatalf("%s: %v: %q, %d panels", path, err, board.Title, len(board.Panels))
	}
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("%s: a panel %q has no query or no title", path, p.Title)
		}
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr)
			if left := variable.FindString(expr); left != "" && !strings.Contains(expr, `$"`) {
				t.Errorf("%s, %s: nothing sets %s", path, p.Title, left)
			}
			all = append(all, query{at: path + ", " + p.Title, expr: expr, panel: true})
		}
	}
	return all
}

// Each expression that we show can be pasted: a real Prometheus that scrapes the metrics runs it, knows its metrics, and each panel of a
// dashboard shows something.
func TestPrometheusRunsEachExpression(t *testing.T) {
	program := prometheusTool(t, "prometheus")
	tel, spans := everything(t)
	slow := fetch(time.Now())
	slow.End = slow.Start.Add(time.Minute)
	tel.Command(slow)
	recordEverything(tel)
	scrapes := make(chan struct{}, 1000)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recordEverything(tel) // so that what counts grows
		refused := fetch(time.Now())
		refused.Status = "NO"
		tel.Command(refused)
		tel.MetricsHandler().ServeHTTP(w, r)
		scrapes <- struct{}{}
	}))
	defer target.Close()
	address := startPrometheus(t, program, strings.TrimPrefix(target.URL, "http://"))
	for range 4 { // the fourth begins when all of the first three is stored
		select {
		case <-scrapes:
		case <-t.Context().Done():
			t.Fatal("no scrape")
		}
	}

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(expr string) (series int, err error) {
		answer, err := client.PostForm("http://"+address+"/api/v1/query", url.Values{"query": {expr}})
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		var said struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || said.Status != "success" {
			return 0, fmt.Errorf("%s %s %v", answer.Status, said.Error, err)
		}
		return len(said.Data.Result), nil
	}
	all, known := queries(t), map[string]bool{}
	for _, q := range all {
		n, err := ask(q.expr)
		if err != nil || q.panel && n == 0 || strings.Contains(q.expr, `\|`) {
			t.Errorf("%s: %d series, %v: %s", q.at, n, err, q.expr)
		}
		for _, name := range ofProxy.FindAllString(q.expr, -1) {
			if !known[name] {
				if n, err := ask(name); err != nil || n == 0 {
					t.Errorf("%s: Prometheus has no %s: %v", q.at, name, err)
				}
				known[name] = true
			}
		}
	}
	// The slow command's trace can be reached from its metric.
	answer, err := client.PostForm("http://"+address+"/api/v1/query_exemplars", url.Values{"query": {"imapproxy_command_duration_seconds_bucket"},
		"start": {fmt.Sprint(slow.Start.Unix() - 60)}, "end": {fmt.Sprint(time.Now().Unix() + 60)}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var said bytes.Buffer
	_, _ = said.ReadFrom(answer.Body)
	for _, s := range spans.GetSpans() {
		if s.Name == "imap UID FETCH" && !strings.Contains(said.String(), s.SpanContext.TraceID().String()) {
			t.Errorf("Prometheus has no exemplar of %s: %s", s.SpanContext.TraceID(), said.String())
		}
	}
	if len(all) < 60 {
		t.Errorf("only %d expressions were found", len(all))
	}
}

// startPrometheus starts one that scrapes the target each second, and returns its address once it is ready.
func startPrometheus(t *testing.T, program, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	rules, err := filepath.Abs("../contrib/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := "global:\n  scrape_interval: 1s\nrule_files:\n  - " + rules + "\nscrape_configs:\n  - job_name: imapproxy\n    static_configs:\n      - targets: [\"" + target + "\"]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--enable-feature=exemplar-storage")
	var said bytes.Buffer
	c.Stderr, c.Stdout = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		answer, err := client.Get("http://" + address + "/-/ready")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return address
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("Prometheus has ended: %v\n%s", err, said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// What an alert says of durations is what was counted: a share of what stayed within a boundary of the histogram, or a quantile that is
// compared with one. Between two boundaries a quantile is a guess, and the alert's page would say what the metrics don't.
func TestAlertsCompareDurationsWithBoundaries(t *testing.T) {
	boundaries := map[string][]float64{}
	for _, i := range Instruments() {
		name, err := i.PromName()
		if err != nil {
			t.Fatal(err)
		}
		boundaries[name] = i.Buckets
	}
	compared := 0
	for _, q := range queries(t) {
		if !strings.Contains(q.at, "rules.yml") {
			continue
		}
		for _, m := range slices.Concat(quantile.FindAllStringSubmatch(q.expr, -1), within.FindAllStringSubmatch(q.expr, -1)) {
			at, err := strconv.ParseFloat(m[2], 64)
			if err != nil || !slices.Contains(boundaries[m[1]], at) {
				t.Errorf("%s: %s isn't a boundary of %s: %v %v", q.at, m[2], m[1], boundaries[m[1]], err)
			}
			compared++
		}
		if n := strings.Count(q.expr, "_bucket{"); n != len(quantile.FindAllString(q.expr, -1))+len(within.FindAllString(q.expr, -1)) {
			t.Errorf("%s: %d parts of histograms, which aren't all compared with a boundary: %s", q.at, n, q.expr)
		}
	}
	if compared < 2 {
		t.Errorf("%d comparisons were found", compared)
	}
}

var (
	quantile = regexp.MustCompile(`histogram_quantile\([^<>]*\b(imapproxy_[a-z_]+)_bucket\{[^}]*\}[^<>]*[<>]=? *([0-9.]+)`)
	within   = regexp.MustCompile(`\b(imapproxy_[a-z_]+)_bucket\{[^}]*\ble="([0-9.]+)"`)
)
