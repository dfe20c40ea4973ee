package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// onSmallDisk runs the rest of its arguments with a file system of its own at "$1", which has room for two megabytes.
const onSmallDisk = `
set -eu
mount -t tmpfs -o size=2m tmpfs "$1"
shift
exec "$@"
`

// logging is a proxy that logs to a file on a disk of its own.
type logging struct {
	*runningProxy
	t    *testing.T
	dir  string
	seen string // dir, as the test sees it
}

func startLogging(t *testing.T) *logging {
	t.Helper()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	l := &logging{t: t, dir: servers.Folder(t)}
	l.runningProxy = configureProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, LogFile: filepath.Join(l.dir, "imapproxy.log")})
	serve := l.serveCommand()
	c := exec.Command("unshare", append([]string{"--mount", "--propagation", propagation(t), "/bin/sh", "-c", onSmallDisk, "sh", l.dir}, serve.Args...)...)
	c.Env = serve.Env
	l.Process = servers.Start(t, "imapproxy", c)
	l.waitReady(t)
	l.seen = filepath.Join(fmt.Sprintf("/proc/%d/root", l.Pid()), l.dir)
	return l
}

// session logs in and out.
func (l *logging) session(user int) {
	c := imaptest.Dial(l.t, l.Plain)
	c.Login(servers.User(user), servers.Password)
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	_ = c.Close() // the server has closed already
}

// ended is how many sessions the log has in all of its files. The error is of a line that isn't whole.
func (l *logging) ended() (sessions int, err error) {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), "sh", "-c", "cd \"$1\" && zcat -f imapproxy.log*", "sh", l.seen).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "time=") || !strings.HasSuffix(line, "\n") {
			err = fmt.Errorf("not whole: %q", line)
		}
	}
	return strings.Count(string(out), `msg="session ended"`), err
}

// lost is how many lines the proxy says that it couldn't write.
func (l *logging) lost() (int, error) {
	resp, err := http.Get(l.Admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^imapproxy_telemetry_log_lines_dropped_total\{.*reason="failed".*\} (\d+)$`).FindSubmatch(body)
	if found == nil {
		return 0, errors.New("there is no such metric")
	}
	return strconv.Atoi(string(found[1]))
}

// logrotate runs with the configuration of the package, but for what isn't here: the package's user and folder, and systemd.
func (l *logging) rotate() {
	l.t.Helper()
	text, err := os.ReadFile("../packaging/debian/logrotate")
	if err != nil {
		l.t.Fatal(err)
	}
	config := string(text)
	for from, to := range map[string]string{
		"/var/log/imapproxy":     l.dir,
		"su imapproxy imapproxy": "su root root",
		"systemctl kill --kill-whom=main --signal=HUP imapproxy-lb.service": fmt.Sprintf("kill -HUP %d", l.Pid()),
	} {
		if !strings.Contains(config, from) {
			l.t.Fatalf("the package's file has no %q", from)
		}
		config = strings.ReplaceAll(config, from, to)
	}
	dir := servers.Folder(l.t)
	writeFile(l.t, filepath.Join(dir, "logrotate"), config)
	var before os.FileInfo
	l.eventually(l.t, "logging something: an empty file isn't rotated", func() error {
		if before, err = os.Stat(filepath.Join(l.seen, "imapproxy.log")); err == nil && before.Size() == 0 {
			err = errors.New("nothing")
		}
		return err
	})
	c := exec.CommandContext(l.t.Context(), "nsenter", "--target", strconv.Itoa(l.Pid()), "--mount", "--root", "logrotate", "--force", "--state", filepath.Join(dir, "state"), filepath.Join(dir, "logrotate"))
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	l.eventually(l.t, "logging to a new file", func() error {
		now, err := os.Stat(filepath.Join(l.seen, "imapproxy.log"))
		if err == nil && os.SameFile(now, before) {
			err = errors.New("it is the old one")
		}
		return err
	})
}

// logrotate moves the log while clients log in and out: no line is lost or cut. A full disk costs lines, which are counted, and no session; once
// there is room again the log goes on.
func TestTheLogFileIsRotatedAndSurvivesAFullDisk(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	l := startLogging(t)
	var clients sync.WaitGroup
	var sessions atomic.Int32
	rotated := make(chan struct{})
	for u := range 4 {
		clients.Go(func() {
			for over := false; !over; {
				l.session(u + 1)
				sessions.Add(1)
				select {
				case <-rotated:
					over = true
				default:
				}
			}
		})
	}
	for range 3 {
		l.rotate()
	}
	close(rotated)
	clients.Wait()
	l.eventually(t, "logging all sessions", func() error {
		n, err := l.ended()
		if all := int(sessions.Load()); err == nil && n != all {
			err = fmt.Errorf("%d of %d sessions", n, all)
		}
		return err
	})

	if n, err := l.lost(); n != 0 || err != nil {
		t.Fatalf("%d lines are lost (%v)", n, err)
	}
	ballast := filepath.Join(l.seen, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk isn't full: %v", err)
	}
	// What is left of the last block takes some lines.
	l.eventually(t, "counting lines that it can't write", func() error {
		l.session(1)
		if n, err := l.lost(); n == 0 {
			return fmt.Errorf("none are (%v)", err)
		}
		return nil
	})
	l.session(2)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	before, _ := l.ended() // a line may have been cut
	l.session(3)
	l.eventually(t, "logging again", func() error {
		if n, err := l.ended(); n <= before {
			return fmt.Errorf("%d sessions (%v)", n, err)
		}
		return nil
	})
	l.rotate()
}
