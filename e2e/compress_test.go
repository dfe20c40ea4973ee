package e2e

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// TestCompressIsAnsweredAsDovecotDoes compares the proxy's COMPRESS with that of a Dovecot, status and code. The proxy doesn't pass it on.
func TestCompressIsAnsweredAsDovecotDoes(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{Compress: true})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Compress: true})
	answers := func(c *imaptest.Client, user string) (all []string) {
		c.Login(user, servers.Password)
		ask := func(line string) {
			a := c.Cmd("%s", line)
			all = append(all, fmt.Sprintf("%s: %s %s", line, a.Tagged.Status(), a.Tagged.Code()))
		}
		for _, line := range []string{"COMPRESS GZIP", "COMPRESS", "COMPRESS DEFLATE DEFLATE", `COMPRESS "DEFLATE"`, "COMPRESS (DEFLATE)"} {
			ask(line)
		}
		if err := c.Compress(); err != nil {
			t.Fatal(err)
		}
		ask("COMPRESS DEFLATE")
		ask("COMPRESS GZIP")
		c.MustOK("SELECT INBOX")
		big := imaptest.GeneratedMessage(300_000, 7)
		if a := c.Literal("APPEND INBOX ", big, ""); !a.OK() {
			t.Fatal(a)
		}
		a := c.MustOK("FETCH 1 BODY.PEEK[]")
		all = append(all, fmt.Sprint(len(a.Untagged), a.Untagged[len(a.Untagged)-1].Literals[0].Size))
		c.Write("i IDLE")
		for c.Read().Tag() != "+" { // Dovecot may tell of \Recent first
		}
		c.Write("x COMPRESS DEFLATE")
		for {
			if r := c.Read(); r.Tag() != "*" {
				all = append(all, r.Tag()+" "+r.Status())
				break
			}
		}
		c.MustOK("LOGOUT")
		c.ExpectEOF()
		return all
	}
	want := answers(imaptest.Dial(t, server.Addr), servers.User(1))
	got := answers(imaptest.DialTLS(t, p.TLS, p.Cert.Client), servers.User(2))
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("through the proxy:\n%s\nfrom Dovecot:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestMbsyncCompresses has mbsync, which compresses wherever it may, keep two sides the same.
func TestMbsyncCompresses(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir"})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Compress: true})
	syncTwoWays(t, p, servers.User(1))
	text, sent := p.metric(t, "imapproxy_compressed_bytes_total", `direction="out"`, `form="text"`), p.metric(t, "imapproxy_compressed_bytes_total", `direction="out"`, `form="compressed"`)
	if sent == 0 || sent > text/2 {
		t.Errorf("%v bytes were sent for %v", sent, text)
	}
}
