package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Programs that people read their mail with, through the proxy to a Dovecot.
// mbsync has a file of its own.
func TestRealClients(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	proxy := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	for i, c := range []struct {
		name string
		run  func(t *testing.T, p *runningProxy, user string)
	}{
		{"curl", curlReadsAndWrites},
		{"fetchmail", fetchmailTakesTheMail},
		{"getmail", getmailTakesTheMail},
		{"offlineimap", offlineimapCopiesTheAccount},
		{"imapfilter", imapfilterMovesMail},
		{"go-imap", goIMAPSeesNewMailInIdle},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, proxy, servers.User(i+1)) })
	}
}

// client runs a program to its end, with a home of its own.
func client(t *testing.T, home, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home+"/.config", "XDG_DATA_HOME="+home+"/.data", "FETCHMAILHOME="+home)
	cmd.Dir = home
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// privateFile writes a configuration with a password in it: the programs insist.
func privateFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// port is the last part of an address.
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// message is a small mail with a subject of its own.
func message(subject string) imaptest.Payload {
	return imaptest.BytesPayload([]byte(strings.ReplaceAll(fmt.Sprintf(`From: Ann <ann@example.org>
To: Ben <ben@example.org>
Subject: %[1]s
Date: Mon, 02 Mar 2026 10:00:00 +0000
Message-ID: <%[1]s@example.org>

The text of %[1]s.
`, subject), "\n", "\r\n")))
}

// seed puts messages into a mailbox, through the proxy.
func seed(t *testing.T, p *runningProxy, user, mailbox string, subjects ...string) {
	t.Helper()
	c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	c.Login(user, servers.Password)
	if mailbox != "INBOX" {
		c.MustOK("CREATE %s", imaptest.Quote(mailbox))
	}
	for _, s := range subjects {
		if a := c.Literal("APPEND "+imaptest.Quote(mailbox)+" ", message(s), ""); !a.OK() {
			t.Fatal(a)
		}
	}
	c.MustOK("LOGOUT")
}

// messages counts a mailbox's, through the proxy.
func messages(t *testing.T, p *runningProxy, user, mailbox string) string {
	t.Helper()
	c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	c.Login(user, servers.Password)
	r, _ := c.MustOK("STATUS %s (MESSAGES)", imaptest.Quote(mailbox)).Find("STATUS")
	c.MustOK("LOGOUT")
	return r.Text[strings.LastIndexByte(r.Text, '(')+1 : len(r.Text)-1]
}

func curlReadsAndWrites(t *testing.T, p *runningProxy, user string) {
	home := t.TempDir()
	big := imaptest.GeneratedMessage(3<<20, 1)
	file := filepath.Join(home, "big.eml")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, big.Open()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	login := []string{"--silent", "--show-error", "--cacert", p.Cert.CertFile, "--user", user + ":" + servers.Password}
	imaps := "imaps://localhost:" + port(p.TLS)
	starttls := "imap://localhost:" + port(p.StartTLS)

	client(t, home, "curl", append(login, "--upload-file", file, imaps+"/INBOX")...)
	client(t, home, "curl", append(login, "--output", "back.eml", "--ssl-reqd", starttls+"/INBOX;UID=1")...)
	back, err := os.ReadFile(filepath.Join(home, "back.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := imaptest.BytesPayload(back).SHA256(), big.SHA256(); got != want {
		t.Errorf("curl uploaded %d bytes and got %d others back", big.Size, len(back))
	}
	out := client(t, home, "curl", append(login, "--ssl-reqd", "--login-options", "AUTH=PLAIN", starttls+"/INBOX?SUBJECT%20generated")...)
	if strings.TrimSpace(out) != "* SEARCH 1" {
		t.Errorf("curl searched: %q", out)
	}
	wrong := exec.Command("curl", "--silent", "--show-error", "--cacert", p.Cert.CertFile, "--user", user+":wrong", imaps+"/INBOX")
	// 67: login denied, and no other error.
	if err := wrong.Run(); wrong.ProcessState.ExitCode() != 67 {
		t.Errorf("curl with a wrong password: %v", err)
	}
}

func fetchmailTakesTheMail(t *testing.T, p *runningProxy, user string) {
	seed(t, p, user, "INBOX", "one", "two", "three")
	home := t.TempDir()
	rc := privateFile(t, filepath.Join(home, "fetchmailrc"), fmt.Sprintf(`poll localhost protocol imap port %s
  user "%s" password "%s" ssl sslproto "TLS1.2+" sslcertck sslcertfile "%s"
  mda "cat >> %s/taken"
`, port(p.TLS), user, servers.Password, p.Cert.CertFile, home))
	client(t, home, "fetchmail", "--fetchmailrc", rc, "--nosyslog", "--nodetach")
	taken, err := os.ReadFile(filepath.Join(home, "taken"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two", "three"} {
		if !bytes.Contains(taken, []byte("The text of "+s)) {
			t.Errorf("fetchmail hasn't taken %q", s)
		}
	}
	if got := messages(t, p, user, "INBOX"); got != "MESSAGES 0" {
		t.Errorf("fetchmail left %s", got)
	}
}

func getmailTakesTheMail(t *testing.T, p *runningProxy, user string) {
	seed(t, p, user, "INBOX", "one", "two")
	home := t.TempDir()
	deliver := filepath.Join(home, "deliver")
	if err := os.WriteFile(deliver, []byte("#!/bin/sh\ncat >> "+home+"/taken\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rc := privateFile(t, filepath.Join(home, "getmailrc"), servers.GetmailConfig(port(p.TLS), user, p.Cert.CertFile, deliver))
	client(t, home, "getmail", "--getmaildir", home, "--rcfile", rc)
	taken, err := os.ReadFile(filepath.Join(home, "taken"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two"} {
		if !bytes.Contains(taken, []byte("The text of "+s)) {
			t.Errorf("getmail hasn't taken %q", s)
		}
	}
	if got := messages(t, p, user, "INBOX"); got != "MESSAGES 0" {
		t.Errorf("getmail left %s", got)
	}
}

func offlineimapCopiesTheAccount(t *testing.T, p *runningProxy, user string) {
	seed(t, p, user, "INBOX", "one", "two")
	seed(t, p, user, "Work", "three")
	home := t.TempDir()
	rc := privateFile(t, filepath.Join(home, "offlineimaprc"), servers.OfflineIMAPConfig(home, port(p.TLS), user, p.Cert.CertFile, "remotepass = "+servers.Password))
	client(t, home, "offlineimap", "-o", "-c", rc)
	for folder, want := range map[string]int{"INBOX": 2, "Work": 1} {
		if got := len(readMaildir(t, filepath.Join(home, "mail", folder))); got != want {
			t.Errorf("offlineimap copied %d messages of %s, want %d", got, folder, want)
		}
	}
}

func imapfilterMovesMail(t *testing.T, p *runningProxy, user string) {
	seed(t, p, user, "INBOX", "keep", "move-1", "move-2")
	seed(t, p, user, "Moved")
	home := t.TempDir()
	config := privateFile(t, filepath.Join(home, "config.lua"), fmt.Sprintf(`
options.certificates = false
options.timeout = 60
account = IMAP {
  server = 'localhost', port = %s, ssl = 'auto',
  username = '%s', password = '%s',
}
account.INBOX:contain_subject('move'):move_messages(account.Moved)
`, port(p.TLS), user, servers.Password))
	client(t, home, "imapfilter", "-t", p.Cert.CertFile, "-c", config)
	for mailbox, want := range map[string]string{"INBOX": "MESSAGES 1", "Moved": "MESSAGES 2"} {
		if got := messages(t, p, user, mailbox); got != want {
			t.Errorf("after imapfilter %s has %s, want %s", mailbox, got, want)
		}
	}
}

func goIMAPSeesNewMailInIdle(t *testing.T, p *runningProxy, user string) {
	exists := make(chan uint32, 10)
	c, err := imapclient.DialStartTLS(p.StartTLS, &imapclient.Options{
		TLSConfig: p.Cert.Client,
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Login(user, servers.Password).Wait())
	_, err = c.Select("INBOX", nil).Wait()
	must(err)
	idle, err := c.Idle()
	must(err)
	seed(t, p, user, "INBOX", "hello")
	select {
	case n := <-exists:
		if n != 1 {
			t.Errorf("told of %d messages, want 1", n)
		}
	case <-time.After(30 * time.Second):
		t.Error("not told of new mail in IDLE")
	}
	must(idle.Close())
	must(idle.Wait())
	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "hello"}}}, nil).Wait()
	must(err)
	if len(found.AllUIDs()) != 1 {
		t.Errorf("found %v", found.AllUIDs())
	}
	fetched, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
		Envelope: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{}},
	}).Collect()
	must(err)
	if len(fetched) != 1 || fetched[0].Envelope.Subject != "hello" {
		t.Fatalf("fetched %+v", fetched)
	}
	must(c.Create("Elsewhere", nil).Wait())
	_, err = c.Move(imap.SeqSetNum(1), "Elsewhere").Wait()
	must(err)
	if got := messages(t, p, user, "Elsewhere"); got != "MESSAGES 1" {
		t.Errorf("after the move: %s", got)
	}
	must(c.Logout().Wait())
}
