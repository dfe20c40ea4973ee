//go:build figures

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// What COMPRESS saves a client, and what it costs: mbsync copies a mailbox of FIGURE_MESSAGES messages through a proxy with and without it, and a
// client reads all headers. Bytes are those of the proxy's counters; the processor time is the proxy's.
func TestFigureCompression(t *testing.T) {
	servers.Real(t)
	server := servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
	user := servers.User(1)
	fill(t, server, user, figure("FIGURE_MESSAGES", 5000))
	for _, compress := range []bool{false, true} {
		p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Compress: compress})
		home := t.TempDir()
		rc := privateFile(t, filepath.Join(home, "mbsyncrc"), fmt.Sprintf(`IMAPAccount proxy
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s
Timeout 300

IMAPStore far
Account proxy

MaildirStore near
Path %[5]s/
Inbox %[5]s/INBOX

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`, port(p.TLS), user, servers.Password, p.Cert.CertFile, filepath.Join(home, "mail")))
		must(t, os.MkdirAll(filepath.Join(home, "mail"), 0o755))
		count := func(what string, f func()) {
			text, sent := p.sent(t, "text"), p.sent(t, "compressed")
			relayed := p.metric(t, "imapproxy_relayed_bytes_total", `direction="out"`)
			before := cpu(t, p)
			f()
			took := cpu(t, p) - before // reading the counters takes some, too
			p.eventually(t, "told of the end of all sessions", func() error {
				if n := p.metric(t, "imapproxy_sessions"); n > 0 {
					return fmt.Errorf("%v sessions", n)
				}
				return nil
			})
			relayed = p.metric(t, "imapproxy_relayed_bytes_total", `direction="out"`) - relayed
			t.Logf("compress %v, %s: %.2f MB relayed, %.2f MB of text compressed to %.2f MB; %v of processor time", compress, what, relayed/1e6,
				(p.sent(t, "text")-text)/1e6, (p.sent(t, "compressed")-sent)/1e6, took)
		}
		count("mbsync", func() { client(t, home, "mbsync", "-c", rc, "all") })
		count("headers", func() {
			c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
			c.Login(user, servers.Password)
			if compress {
				must(t, c.Compress())
			}
			c.MustOK("EXAMINE INBOX")
			c.MustOK("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
			c.MustOK("LOGOUT")
		})
	}
}

func (p *runningProxy) sent(t *testing.T, form string) float64 {
	return p.metric(t, "imapproxy_compressed_bytes_total", `direction="out"`, fmt.Sprintf("form=%q", form))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cpu is the processor time that a proxy has taken.
func cpu(t *testing.T, p *runningProxy) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid()))
	must(t, err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// fill appends n messages: three quarters are text of 1 to 8 KB, a fifth has HTML of 10 to 40 KB as well, and a twentieth an attachment of 100 KB in base64.
func fill(t *testing.T, server *servers.Server, user string, n int) {
	t.Helper()
	c := imaptest.Dial(t, server.Addr)
	c.Login(user, servers.Password)
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do")
	text := func(size int, before, after string) string {
		var b strings.Builder
		for b.Len() < size {
			b.WriteString(before)
			for range 12 {
				w := words[r.IntN(len(words))]
				if r.IntN(4) == 0 {
					w = fmt.Sprintf("%s%x", w, r.IntN(1<<12))
				}
				b.WriteString(w + " ")
			}
			b.WriteString(after + "\r\n")
		}
		return b.String()
	}
	const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range n {
		var m strings.Builder
		fmt.Fprintf(&m, "Received: from mx%d.example.org (mx%[1]d.example.org [192.0.2.%d]) by mail.example.net with ESMTPS id %x for <%s@example.net>; Mon, 2 Nov 2026 10:%02d:00 +0000\r\n", r.IntN(9), r.IntN(255), r.Uint64(), user, i%60)
		fmt.Fprintf(&m, "From: %s %s <%x@example.org>\r\nTo: <%s@example.net>\r\nSubject: %sMessage-ID: <%x.%x@example.org>\r\nDate: Mon, 2 Nov 2026 10:%02d:00 +0000\r\nMIME-Version: 1.0\r\n",
			words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(1<<20), user, text(20, "", ""), r.Uint64(), r.Uint64(), i%60)
		switch k := r.IntN(20); {
		case k < 15:
			m.WriteString("Content-Type: text/plain; charset=utf-8\r\n\r\n" + text(1000+r.IntN(7000), "", ""))
		case k < 19:
			m.WriteString("Content-Type: text/html; charset=utf-8\r\n\r\n" + text(10_000+r.IntN(30_000), `<td class="body" style="font-family:sans-serif;font-size:14px"><p>`, "</p></td>"))
		default:
			m.WriteString("Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
			for range 100_000 / 78 {
				for range 76 {
					m.WriteByte(base64[r.IntN(64)])
				}
				m.WriteString("\r\n")
			}
		}
		if a := c.Literal("APPEND INBOX ", imaptest.BytesPayload([]byte(m.String())), ""); !a.OK() {
			t.Fatal(a)
		}
	}
	c.MustOK("LOGOUT")
}
