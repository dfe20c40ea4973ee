package proxy

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// TestPreLogin plays testdata/prelogin: what the proxy answers by itself. The
// backend is a polite one. "# listener: NAME" says where the client connects to.
func TestPreLogin(t *testing.T) {
	for name, src := range transcripts(t, "prelogin") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{})
			l.play(name, src, directive(src, "listener", plain), nil)
		})
	}
}

// What both sides say before the dialogue of a transcript of testdata/relay.
const (
	clientLogsIn = `C: login LOGIN alice ${password}
S: login OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ UIDPLUS XTRA] Logged in
`
	clientCompresses = `C: login LOGIN alice ${password}
S: login OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ UIDPLUS XTRA COMPRESS=DEFLATE] Logged in
C: compress COMPRESS DEFLATE
S: compress OK
C-compress:
`
	backendLetsIn = `S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN STARTTLS] ready
C: ${tag=\w+} AUTHENTICATE PLAIN {w}
S: ${tag} OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ UIDPLUS AUTH=PLAIN STARTTLS COMPRESS=DEFLATE UNAUTHENTICATE LOGIN-REFERRALS XTRA] Logged in
`
)

// TestRelay plays testdata/relay: the archive's comment is the client's side,
// its file "backend" the backend's, after a login that both sides are given.
// Each runs in the clear, under TLS and compressed, the backend's answers once as they are
// and once a byte at a time. "# compressed: no" is for a dialogue in which COMPRESS is refused.
func TestRelay(t *testing.T) {
	for name, src := range transcripts(t, "relay") {
		for _, way := range []struct {
			name, listener  string
			split, compress bool
		}{{"plain", plain, false, false}, {"TLS", implicit, false, false}, {"a byte at a time", plain, true, false}, {"compressed", implicit, true, true}} {
			if way.compress && directive(src, "compressed", "") == "no" {
				continue
			}
			t.Run(name+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				client, backend := sides(t, src)
				if way.split {
					backend = strings.Replace(backend, backendLetsIn, backendLetsIn+"S-split: 1\n", 1)
				}
				script, err := imaptest.ParseScript(name+" (backend)", []byte(backend))
				must(t, err)
				o := labOptions{handlers: []imaptest.Handler{script.Handler(imaptest.ScriptedOptions{})}}
				if way.compress {
					o.change = compresses
					client = strings.Replace(client, clientLogsIn, clientCompresses, 1)
				}
				l := newLab(t, o)
				l.play(name, client, way.listener, nil)
				if reason := directive(src, "reason", ""); reason != "" {
					l.ended(session.Reason(reason))
				}
			})
		}
	}
}

// sides takes a transcript of testdata/relay apart.
func sides(t *testing.T, src string) (client, backend string) {
	t.Helper()
	ar := txtar.Parse([]byte(src))
	c := &txtar.Archive{Comment: []byte(clientLogsIn + string(ar.Comment))}
	b := &txtar.Archive{}
	for _, f := range ar.Files {
		if f.Name == "backend" {
			b.Comment = []byte(backendLetsIn + string(f.Data))
			continue
		}
		c.Files, b.Files = append(c.Files, f), append(b.Files, f)
	}
	if b.Comment == nil {
		t.Fatal(`the transcript has no file "backend"`)
	}
	return string(txtar.Format(c)), string(txtar.Format(b))
}
