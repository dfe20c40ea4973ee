package app

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// The running configuration is compared with its file as it is now, without a reload.
func TestTheRunningConfigurationIsComparedWithItsFile(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	write(t, authorities, string(imaptest.NewCert(t).CertPEM))
	text := settings(imaptest.NewModelServer(t, imaptest.ModelServerOptions{}).Addr) + "backend_defaults {\n  ca_file = \"" + authorities + "\"\n}\n"
	path := file(t, text)
	read := func(modified time.Time) { // a file's time, with no wait for the clock
		t.Helper()
		if err := os.Chtimes(authorities, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	read(time.Now().Add(-time.Minute))
	a := open(t, Options{File: path})
	running := task.Start(a.Run)
	<-a.Ready()
	client := &admin.Client{Address: a.AdminAddr(), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	ask := func() admin.Config {
		t.Helper()
		c, err := client.Config(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	first := ask()
	if d := first.Disk; first.File != path || d == nil || !d.Same || d.Digest != first.Digest || d.Error != "" || !strings.Contains(first.Text, `address = "127.0.0.1:0"`) {
		t.Errorf("as it was loaded: %+v %+v", first, d)
	}

	write(t, path, strings.Replace(text, "imap.test", "other.test", 1)+"limits {\n  per_user = 1\n}\nadmin_ {}\n")
	if d := ask().Disk; d.Same || !strings.Contains(d.Error, "config.hcl:") || d.Digest != "" {
		t.Errorf("with a mistake: %+v", d)
	}

	write(t, path, strings.Replace(text, "tls            = \"none\"", "tls            = \"none\"\n  min_version = \"1.3\"", 1)+"limits {\n  per_user = 1\n}\ntelemetry {\n  log {\n    format = \"json\"\n  }\n}\n")
	changed := ask()
	if d := changed.Disk; d.Same || d.Error != "" || d.Digest == changed.Digest || changed.Digest != first.Digest || len(d.Changes) != 3 {
		t.Fatalf("with changes: %+v", d)
	}
	for _, c := range changed.Disk.Changes {
		if c.NeedRestart != (c.Setting == "telemetry.log.format") {
			t.Errorf("%+v", c)
		}
	}
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := ask(); len(after.Disk.Changes) != 1 || after.Disk.Same || !strings.Contains(after.Text, "per_user") || after.Digest == first.Digest || !after.Since.After(first.Since) {
		t.Errorf("after a reload: %+v", after.Disk)
	}

	// A file that a setting names counts as well.
	write(t, path, text)
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := ask(); !c.Disk.Same || c.Digest != first.Digest {
		t.Errorf("as it was: %+v", c.Disk)
	}
	read(time.Now().Add(time.Minute))
	if d := ask().Disk; d.Same || len(d.Files) != 1 || d.Files[0] != (admin.ChangedFile{Path: authorities}) {
		t.Errorf("with other authorities: %+v", d)
	}
	end(t, a, running)
}
