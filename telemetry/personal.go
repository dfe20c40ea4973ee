package telemetry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// What logs and traces hold of the names of users, of mailboxes and of clients' addresses (Options.Personal).
const (
	PersonalFull   = "full"   // as they are; the same as ""
	PersonalHashed = "hashed" // a keyed hash, the same for the same name or address
	PersonalNone   = "none"   // nothing
)

// removed stands in texts instead of a name or an address.
const removed = "[removed]"

// personal says what may be written of a name or an address. The zero value writes all.
type personal struct {
	key  []byte // of the hashes
	mode string
}

// newPersonal returns what Options.Personal and PersonalKey say. A hash without a key could be computed by anyone who has a list of names.
func newPersonal(mode string, key Secret) (personal, error) {
	switch mode {
	case "", PersonalFull:
		return personal{}, nil
	case PersonalNone:
		return personal{mode: PersonalNone}, nil
	case PersonalHashed:
		if key == "" {
			return personal{}, errors.New("telemetry: names can't be hashed without a key")
		}
		return personal{mode: PersonalHashed, key: []byte(key.Reveal())}, nil
	}
	return personal{}, errors.New("telemetry: personal: write full, hashed or none")
}

// full says that nothing is replaced.
func (p *personal) full() bool { return p.mode == "" }

// shown returns what is written instead of a name or an address; "": nothing is.
func (p *personal) shown(value string) string {
	switch {
	case p.full() || value == "":
		return value
	case p.mode == PersonalNone:
		return ""
	}
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(address(value)))
	return "h-" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// address returns an address without its port and in one spelling, so that it has one hash; other text is returned as it is.
func address(value string) string {
	if a, err := netip.ParseAddrPort(value); err == nil {
		return a.Addr().Unmap().WithZone("").String()
	}
	if a, err := netip.ParseAddr(value); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return value
}

// peers finds the addresses in the errors of package net: the other end of a connection, or the one that an HTTP request came from.
var peers = regexp.MustCompile(`(->|\bfrom )(\[[0-9A-Fa-f:.%a-z]+\]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)(:[0-9]+)?`)

// text returns a text, such as an error's, without these names and addresses, and without those of clients' connections.
func (p *personal) text(s string, values []string) string {
	if p.full() || s == "" {
		return s
	}
	if strings.Contains(s, "->") || strings.Contains(s, "from ") {
		s = peers.ReplaceAllStringFunc(s, func(match string) string {
			begin, rest := "->", strings.TrimPrefix(match, "->")
			if rest == match {
				begin, rest = "from ", strings.TrimPrefix(match, "from ")
			}
			return begin + p.instead(rest)
		})
	}
	for _, v := range values {
		s = replaceWord(s, v, p.instead(v))
	}
	return s
}

// saying is an error that holds what a backend said: it can name users and mailboxes in the backend's own spelling, which can't be found by
// the names that the proxy knows.
type saying interface {
	error
	Discreet() string // Error's text without what the backend said
}

// Said is what a backend, a client or a server that the proxy asks has said, as an attribute of a log line: it can name users and mailboxes in
// a spelling that isn't the proxy's. It is written only if Options.Personal permits names.
type Said string

// errorText returns an error's text as text does, and without what backends said.
func (p *personal) errorText(err error, values []string) string {
	if p.full() {
		return err.Error()
	}
	return p.text(unsaid(err.Error(), err), values)
}

// unsaid returns the text of an error without what backends said in it or in the errors that it wraps.
func unsaid(text string, err error) string {
	if s, ok := err.(saying); ok { //nolint:errorlint // wrapped errors come below, each of them
		text = strings.ReplaceAll(text, s.Error(), s.Discreet())
	}
	switch e := err.(type) { //nolint:errorlint // the same
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return unsaid(text, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text = unsaid(text, inner)
		}
	}
	return text
}

// instead returns what stands in a text instead of a name or an address.
func (p *personal) instead(value string) string {
	if shown := p.shown(value); shown != "" {
		return shown
	}
	return removed
}

// replaceWord replaces a word wherever no letter, digit or part of a name stands on either side of it.
func replaceWord(s, word, by string) string {
	if word == "" {
		return s
	}
	var b strings.Builder
	for {
		i := strings.Index(s, word)
		if i < 0 {
			break
		}
		end := i + len(word)
		if i > 0 && isWord(s[i-1]) && isWord(word[0]) || end < len(s) && isWord(s[end]) && isWord(word[len(word)-1]) {
			b.WriteString(s[:i+1])
			s = s[i+1:]
			continue
		}
		b.WriteString(s[:i])
		b.WriteString(by)
		s = s[end:]
	}
	if b.Len() == 0 {
		return s
	}
	b.WriteString(s)
	return b.String()
}

// isWord says whether a byte belongs to a word.
func isWord(c byte) bool {
	return c >= 0x80 || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// personalKey says whether an attribute of a log line holds the name of a user or of a mailbox, or a client's address.
func personalKey(key string) bool {
	switch key {
	case "user", "owner", "login", "client", "mailbox":
		return true
	}
	return false
}

// userAttrs appends a user's name to a span's attributes, as far as it may be written.
func (p *personal) userAttrs(attrs []attribute.KeyValue, user string) []attribute.KeyValue {
	switch shown := p.shown(user); {
	case shown == "":
		return attrs
	case p.full():
		return append(attrs, semconv.UserName(valid(user)))
	default:
		return append(attrs, semconv.UserHash(shown))
	}
}

// clientAttrs appends a client's address to a span's attributes, as far as it may be written.
func (p *personal) clientAttrs(attrs []attribute.KeyValue, client netip.AddrPort) []attribute.KeyValue {
	if !client.IsValid() {
		return attrs
	}
	shown := p.shown(address(client.String()))
	if shown == "" {
		return attrs
	}
	attrs = append(attrs, semconv.ClientAddress(shown))
	if p.full() {
		attrs = append(attrs, semconv.ClientPort(int(client.Port())))
	}
	return attrs
}

// discreet is a slog.Handler that writes names and addresses as the operator wants, and passes lines on.
type discreet struct {
	slog.Handler
	personal *personal
	values   []string // names and addresses among the logger's attributes
}

// Handle implements slog.Handler.
func (d *discreet) Handle(ctx context.Context, r slog.Record) error {
	values := d.values[:len(d.values):len(d.values)]
	r.Attrs(func(a slog.Attr) bool {
		values = namesIn(values, a)
		return true
	})
	next := slog.NewRecord(r.Time, r.Level, d.personal.text(r.Message, values), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a, ok := d.attr(a, values); ok {
			next.AddAttrs(a)
		}
		return true
	})
	return d.Handler.Handle(ctx, next)
}

// WithAttrs implements slog.Handler.
func (d *discreet) WithAttrs(attrs []slog.Attr) slog.Handler {
	values := d.values[:len(d.values):len(d.values)]
	for _, a := range attrs {
		values = namesIn(values, a)
	}
	next := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if a, ok := d.attr(a, values); ok {
			next = append(next, a)
		}
	}
	return &discreet{d.Handler.WithAttrs(next), d.personal, values}
}

// WithGroup implements slog.Handler.
func (d *discreet) WithGroup(name string) slog.Handler {
	return &discreet{d.Handler.WithGroup(name), d.personal, d.values}
}

// namesIn appends the names and addresses of an attribute. An address is looked for with and without its port.
func namesIn(values []string, a slog.Attr) []string {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		for _, one := range a.Value.Group() {
			values = namesIn(values, one)
		}
		return values
	}
	if !personalKey(a.Key) {
		return values
	}
	value := a.Value.String()
	if value == "" {
		return values
	}
	values = append(values, value)
	if bare := address(value); bare != value {
		values = append(values, bare)
	}
	return values
}

// attr returns an attribute as it is written, and whether it is. Numbers and times have no names in them; everything else is text.
func (d *discreet) attr(a slog.Attr, values []string) (slog.Attr, bool) {
	if _, is := spanOf(a.Value); is {
		return a, true // records need more than its text
	}
	a.Value = a.Value.Resolve()
	if said, ok := a.Value.Any().(Said); ok {
		if said != "" {
			said = removed
		}
		return slog.String(a.Key, string(said)), true
	}
	switch kind := a.Value.Kind(); {
	case kind == slog.KindGroup:
		var group []slog.Attr
		for _, one := range a.Value.Group() {
			if one, ok := d.attr(one, values); ok {
				group = append(group, one)
			}
		}
		a.Value = slog.GroupValue(group...)
		return a, len(group) > 0
	case personalKey(a.Key):
		shown := d.personal.shown(a.Value.String())
		return slog.String(a.Key, shown), shown != ""
	case kind == slog.KindString, kind == slog.KindAny && !secretKey(a.Key):
		text := a.Value.String()
		changed := ""
		if err, ok := a.Value.Any().(error); ok {
			changed = d.personal.errorText(err, values)
		} else {
			changed = d.personal.text(text, values)
		}
		if changed != text {
			a.Value = slog.StringValue(changed)
		}
	}
	return a, true
}
