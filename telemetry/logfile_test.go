package telemetry

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// lostLines returns the metric's value for a reason.
func lostLines(t *testing.T, tel *Telemetry, reason string) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	m := regexp.MustCompile(`(?m)^imapproxy_telemetry_log_lines_dropped_total\{[^}]*reason="` + reason + `"[^}]*\} (\d+)$`).FindStringSubmatch(w.Body.String())
	if m == nil {
		t.Fatalf("no such metric:\n%s", w.Body)
	}
	return m[1]
}

// /dev/full answers each write with ENOSPC, as a full disk does.
func TestLinesThatAFullDiskDoesNotTakeAreCounted(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	tel, err := Start(t.Context(), Options{LogWriter: full, Prometheus: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tel.Log.Info("lost")
	}
	if err := tel.logLines.shutdown(t.Context()); err != nil { // all is tried then
		t.Fatal(err)
	}
	if got := lostLines(t, tel, "failed"); got != "3" {
		t.Errorf("%s lines are counted", got)
	}
	if got := lostLines(t, tel, "slow"); got != "0" {
		t.Errorf("the reader is blamed for %s lines", got)
	}
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// fillingDisk takes so many bytes, then none until it is emptied.
type fillingDisk struct {
	bytes.Buffer
	room int
}

func (d *fillingDisk) Write(p []byte) (int, error) {
	if len(p) <= d.room {
		d.room -= len(p)
		return d.Buffer.Write(p)
	}
	n, _ := d.Buffer.Write(p[:d.room])
	d.room = 0
	return n, syscall.ENOSPC
}

func TestALineThatWasCutDoesNotSpoilTheNext(t *testing.T) {
	disk := &fillingDisk{room: 100}
	tel, err := Start(t.Context(), Options{LogWriter: disk, LogFormat: "json", Prometheus: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.Background())
	for range 4 {
		tel.Log.Info("a line of about eighty octets")
	}
	if got := lostLines(t, tel, "failed"); got != "3" {
		t.Errorf("%s lines are counted", got)
	}
	disk.room = 1000
	tel.Log.Info("there is room again")
	lines := strings.Split(strings.TrimSpace(disk.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[2], `{"time"`) || !strings.HasSuffix(lines[2], `}`) {
		t.Errorf("%q", lines)
	}
}

func TestALogFileIsSwitchedWithoutLosingALine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	tel, err := Start(t.Context(), Options{LogFile: path, Prometheus: true})
	if err != nil {
		t.Fatal(err)
	}
	const lines = logQueue / 2
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := range lines {
			tel.Log.Info("line", "n", n)
		}
	})
	for n := range 50 {
		if err := os.Rename(path, filepath.Join(dir, "log."+string(rune('A'+n)))); err != nil {
			t.Fatal(err)
		}
		next, err := OpenLogFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tel.SwitchLog(next)
	}
	writer.Wait()
	if err := tel.logLines.shutdown(t.Context()); err != nil { // all is written then
		t.Fatal(err)
	}
	defer tel.Shutdown(context.Background())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 51 {
		t.Fatal(files, err)
	}
	found := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found += strings.Count(string(text), "\n")
	}
	if got := lostLines(t, tel, "failed"); found != lines || got != "0" {
		t.Errorf("%d of %d lines came out, %s are counted as lost", found, lines, got)
	}
}

func TestALogThatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, filepath.Join(dir, "no", "such")} { // a pipe would wait for its reader
		if tel, err := Start(t.Context(), Options{LogFile: path}); err == nil {
			_ = tel.Shutdown(context.Background())
			t.Errorf("%s was taken", path)
		}
	}
}
