package telemetry

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// TracesDoc returns docs/traces.md, written from the table of spans.
func TracesDoc() string {
	var b strings.Builder
	b.WriteString(`# Traces

<!-- Generated from telemetry/spans.go by: go run ./telemetry/metricsdoc traces > docs/traces.md -->

Every span of the proxy with its attributes, as OTLP carries them. ` + "`telemetry.traces`" + ` says where they go and which are kept: the share ` + "`sample`" + ` of all traces, and always those of what
failed, was slower than ` + "`slow`" + `, or needed a second attempt. Resyncs and watches' conversations are tried again for each
parked mailbox while a backend is down: of those that failed or were slow, ` + fmt.Sprintf("%d in %d s", keptRetried, int(retriedWithin.Seconds())) + ` are kept of each backend, and the share ` + "`sample`" + ` of the others.

A trace begins with a login, a command, a park, a resume, a recovery, a resync, a watch's conversation or a TLS handshake. Those of a session link to the trace of its login (` + "`imapproxy.link`" + ` is ` + "`login`" + `), if that is kept. When a
command, park or resume fails or is slow, its session's login is kept too, although it went well, if it is among the proxy's latest ` + fmt.Sprint(keptLate) + ` logins that weren't kept.

Spans of the kind client are conversations with a backend. A span that failed has the status error, with the error's text. The event ` + "`sent`" + ` of a command is the time at which the backend had the whole command.

`)
	for _, s := range Spans() {
		fmt.Fprintf(&b, "## %s\n\n%s · %s\n\n%s\n\n", s.Name, strings.ToLower(s.Kind.String()), withinText(s.Within), s.Help)
		if len(s.Attributes) > 0 {
			b.WriteString("| attribute | value |\n| --- | --- |\n")
			for _, a := range s.Attributes {
				fmt.Fprintf(&b, "| `%s` | %s |\n", a.Key, a.Values)
			}
			b.WriteString("\n")
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// withinText says where a span stands.
func withinText(within []string) string {
	if len(within) == 0 {
		return "begins a trace"
	}
	var parents []string
	alone := ""
	for _, name := range within {
		if name == "" {
			alone = ", or begins a trace"
			continue
		}
		parents = append(parents, "`"+name+"`")
	}
	return "a part of " + strings.Join(parents, " or ") + alone
}

// row returns a span's row of the table; a command's is that of all commands. root: it begins a trace. false: it has none.
func row(name string, root bool) (Span, bool) {
	if strings.HasPrefix(name, commandPrefix) {
		name = commandPrefix + "VERB"
	}
	for _, s := range Spans() {
		begins, part := len(s.Within) == 0, false
		for _, w := range s.Within {
			begins, part = begins || w == "", part || w != ""
		}
		if s.Name == name && (root && begins || !root && part) {
			return s, true
		}
	}
	return Span{}, false
}

// CheckSpan compares a span with the table, for tests. It returns what the table doesn't have.
func CheckSpan(name string, kind trace.SpanKind, root bool, attributes []string) error {
	s, known := row(name, root)
	if !known {
		return fmt.Errorf("the table of spans has no %s (at the beginning of a trace: %v)", name, root)
	}
	if kind != s.Kind {
		return fmt.Errorf("%s has the kind %s, in the table %s", name, kind, s.Kind)
	}
	for _, key := range attributes {
		if !s.has(key) {
			return fmt.Errorf("the table of spans has no attribute %s of %s", key, name)
		}
	}
	return nil
}

// has says whether the table has an attribute of a span.
func (s *Span) has(key string) bool {
	for _, a := range s.Attributes {
		if a.Key == key {
			return true
		}
	}
	return false
}
