//go:build figures

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// What COMPRESS saves a client, and what it costs: mbsync copies a mailbox of FIGURE_MESSAGES messages, and a client reads all headers, with and without
// COMPRESS, through a proxy and from Dovecot itself with its own COMPRESS, FIGURE_ROUNDS times in turn. Bytes are those that the client was sent,
// TLS included; the processor time is that of the proxy and of all processes of the Dovecot. The rest is their medians.
func TestFigureCompression(t *testing.T) {
	servers.Real(t)
	mail := servers.DovecotMail(t)
	user := servers.User(1)
	type way struct {
		name     string
		addr     string
		cert     servers.Certificate
		compress bool
		proxy    *runningProxy // nil: none
		dovecot  *servers.Server
		got      map[string][][3]float64 // MB, ms of the proxy, ms of Dovecot; by what was done
	}
	var ways []*way
	for _, compress := range []bool{false, true} {
		cert := servers.NewCertificate(t)
		direct := servers.StartDovecot(t, servers.DovecotOptions{Name: fmt.Sprintf("direct-%v", compress), Store: "maildir", Mail: mail, Compress: compress, Certificate: cert})
		if len(ways) == 0 {
			fill(t, direct, user, figure("FIGURE_MESSAGES", 5000))
		}
		behind := servers.StartDovecot(t, servers.DovecotOptions{Name: fmt.Sprintf("behind-%v", compress), Store: "maildir", Mail: mail})
		p := startProxy(t, proxyOptions{Backends: []backend{{"b1", behind.Addr}}, Compress: compress, Stays: true})
		ways = append(ways, &way{name: "Dovecot", addr: direct.TLSAddr, cert: cert, compress: compress, dovecot: direct},
			&way{name: "the proxy", addr: p.TLS, cert: p.Cert, compress: compress, proxy: p, dovecot: behind})
	}
	for range figure("FIGURE_ROUNDS", 3) {
		for _, w := range ways {
			addr, sent := counted(t, w.addr)
			measure := func(what string, f func()) {
				before, dovecot, proxy := sent.Load(), cpuOfAll(t, w.dovecot.Process.Pid()), time.Duration(0)
				if w.proxy != nil {
					proxy = cpuOfAll(t, w.proxy.Process.Pid())
				}
				f()
				if w.proxy != nil {
					w.proxy.eventually(t, "told of the end of all sessions", func() error {
						if n := w.proxy.metric(t, "imapproxy_sessions"); n > 0 {
							return fmt.Errorf("%v sessions", n)
						}
						return nil
					})
					proxy = cpuOfAll(t, w.proxy.Process.Pid()) - proxy
				}
				imaptest.Eventually(t, "the end of the user's processes", func() bool { return processes(t, w.dovecot.Process.Pid(), "imap") == 0 })
				if w.got == nil {
					w.got = map[string][][3]float64{}
				}
				w.got[what] = append(w.got[what], [3]float64{float64(sent.Load()-before) / 1e6, ms(proxy), ms(cpuOfAll(t, w.dovecot.Process.Pid()) - dovecot)})
			}
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
`, port(addr), user, servers.Password, w.cert.CertFile, filepath.Join(home, "mail")))
			must(t, os.MkdirAll(filepath.Join(home, "mail"), 0o755))
			measure("mbsync", func() { client(t, home, "mbsync", "-c", rc, "all") })
			must(t, os.RemoveAll(filepath.Join(home, "mail")))
			measure("headers", func() {
				c := imaptest.DialTLS(t, addr, w.cert.Client)
				c.Login(user, servers.Password)
				if w.compress {
					must(t, c.Compress())
				}
				c.MustOK("EXAMINE INBOX")
				c.MustOK("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
				c.MustOK("LOGOUT")
			})
		}
	}
	for _, what := range []string{"mbsync", "headers"} {
		plain := map[string][3]float64{}
		for _, w := range ways {
			var m [3]float64
			for i := range m {
				m[i] = middle(w.got[what], func(x [3]float64) float64 { return x[i] })
			}
			t.Logf("%-8s from %-9s compress %-5v: %7.2f MB to the client; processor time: proxy %4.0f ms, Dovecot %4.0f ms", what, w.name, w.compress, m[0], m[1], m[2])
			if !w.compress {
				plain[w.name] = m
				continue
			}
			without := plain[w.name]
			t.Logf("%-8s from %-9s COMPRESS costs %.2f ms a MB of text (%.0f ms)", what, w.name, (m[1]+m[2]-without[1]-without[2])/without[0], m[1]+m[2]-without[1]-without[2])
		}
	}
}

// What a session holds that has compressed, attached and parked, beside one that hasn't, and beside the same at Dovecot itself: FIGURE_SESSIONS sessions of
// one user log in, read some envelopes and a message, and idle; FIGURE_SETTLE seconds later the memory is read. A quarter of an hour.
func TestFigureCompressedSessions(t *testing.T) {
	servers.Real(t)
	n, settle := figure("FIGURE_SESSIONS", 200), time.Duration(figure("FIGURE_SETTLE", 150))*time.Second
	user, cert := servers.User(1), servers.NewCertificate(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{Store: "maildir", Compress: true, Certificate: cert})
	fill(t, dovecot, user, 50)
	for _, state := range []string{"Dovecot", "attached", "parked"} {
		var plain float64
		for _, compress := range []bool{false, true} {
			addr, cfg, pid := dovecot.TLSAddr, cert.Client, dovecot.Process.Pid()
			var p *runningProxy
			if state != "Dovecot" {
				p = startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Compress: compress, Stays: state == "attached", Linger: "1s"})
				addr, cfg, pid = p.TLS, p.Cert.Client, p.Process.Pid()
			}
			var all []*imaptest.Client
			opens := func() {
				c := imaptest.DialTLS(t, addr, cfg)
				c.Login(user, servers.Password)
				if compress {
					must(t, c.Compress())
				}
				c.MustOK("EXAMINE INBOX")
				c.MustOK("UID FETCH 1:20 (UID FLAGS ENVELOPE)")
				c.MustOK("UID FETCH 1:2 (BODY.PEEK[])")
				c.Idle()
				all = append(all, c)
			}
			settled := func() int {
				if p == nil {
					return pss(t, pid)
				}
				p.eventually(t, state, func() error {
					if got := p.metric(t, "imapproxy_sessions", fmt.Sprintf("attachment=%q", state)); int(got) < len(all) {
						return fmt.Errorf("%v of %d sessions", got, len(all))
					}
					return nil
				})
				time.Sleep(settle) // the runtime of an idle process collects garbage every two minutes, and gives memory back then
				return pss(t, pid)
			}
			for range max(n/10, 1) { // what the first ones cost is no session's
				opens()
			}
			before := settled()
			for range n {
				opens()
			}
			kb := float64(settled()-before) / 1000 / float64(n)
			t.Logf("%-8s compress %-5v: %7.1f KB a session", state, compress, kb)
			if compress {
				t.Logf("%-8s COMPRESS takes %.1f KB a session", state, kb-plain)
			}
			plain = kb
			for _, c := range all {
				_ = c.Conn.Close()
			}
			if p != nil {
				p.Process.Stop()
			}
			imaptest.Eventually(t, "the end of the user's processes", func() bool { return processes(t, dovecot.Process.Pid(), "imap") == 0 })
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// middle is the median of a figure.
func middle[T any](all []T, of func(T) float64) float64 {
	var values []float64
	for _, x := range all {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// counted forwards connections to addr, and counts what comes back.
func counted(t *testing.T, addr string) (at string, sent *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	sent = new(atomic.Int64)
	go func() { // ends with its listener
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() { // ends with the client's connection
				_, _ = io.Copy(far, near)
				_ = far.(*net.TCPConn).CloseWrite()
			}()
			go func() { // ends with the server's
				n, _ := io.Copy(near, far)
				sent.Add(n)
				_, _ = near.Close(), far.Close()
			}()
		}
	}()
	return l.Addr().String(), sent
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// family is a process and all that it has started.
func family(t *testing.T, pid int) []int {
	t.Helper()
	all := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, file := range tasks {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(f)
			must(t, err)
			all = append(all, family(t, child)...)
		}
	}
	return all
}

// processes counts those of a name in a process's family.
func processes(t *testing.T, pid int, name string) (n int) {
	t.Helper()
	for _, pid := range family(t, pid) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(b)) == name {
			n++
		}
	}
	return n
}

// cpuOfAll is the processor time that a process, what it has started, and what of that has ended have taken.
func cpuOfAll(t *testing.T, pid int) time.Duration {
	t.Helper()
	var ticks int
	for _, pid := range family(t, pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, err := strconv.Atoi(f)
			must(t, err)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// pss is the proportional set size of a process and what it has started, in bytes.
func pss(t *testing.T, pid int) (sum int) {
	t.Helper()
	for _, pid := range family(t, pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
				kb, err := strconv.Atoi(f[1])
				must(t, err)
				sum += kb << 10
			}
		}
	}
	return sum
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
