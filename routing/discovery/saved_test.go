package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// keeping is a router and a Consul source with a file, as in the product: what the
// router takes whole is kept.
func keeping(t *testing.T, address, file string) (*routing.Router, *recorder, *logBuffer, func()) {
	t.Helper()
	tel, log := logged(t)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConsul(ConsulOptions{Address: address, Service: "imap", MaxBackoff: time.Second, CacheFile: file}, tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	stop := background(t, func(ctx context.Context) error {
		return c.Run(ctx, func(s routing.Snapshot) {
			if router.Apply(s) {
				c.Keep(s)
			}
			r.apply(s)
		})
	})
	return router, r, log, stop
}

func TestAStartWithoutConsulHasTheLastGoodSet(t *testing.T) {
	a := consultest.Start(t)
	file := filepath.Join(t.TempDir(), "backends.json")
	for _, id := range []string{"b1", "b2", "b3"} {
		a.Register(instance(id))
	}
	_, r, _, stop := keeping(t, a.Address(), file)
	r.waitFleet(t, "b1 b2 b3")
	a.TTL("service:b3", "critical")
	r.waitFleet(t, "b1 b2 b3=down")
	stop()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}

	a.Kill()
	router, r, log, stop := keeping(t, a.Address(), file)
	log.wait(t, "using the last good set, which was saved on disk")
	if got := fleetOf(router); got != "b1 b2 b3=down" || !router.FromSaved() {
		t.Errorf("the fleet is %q", got)
	}
	if _, err := router.Pick("ann", ""); err != nil {
		t.Error(err)
	}

	// The restarted agent has forgotten all: its empty answer isn't applied, the next is,
	// although it takes most of what the file remembers away.
	a.StartAgain()
	log.wait(t, "keeping the last good set")
	if got := fleetOf(router); got != "b1 b2 b3=down" {
		t.Errorf("the fleet is %q", got)
	}
	a.Register(instance("b2"))
	r.wait(t, "a live answer", func(s routing.Snapshot) bool { return s.Saved.IsZero() && describe(s.Backends) == "b2" })
	stop()
	if s, err := ReadSaved(file, ConsulOptions{Service: "imap"}.SavedOf()); err != nil || describe(s.Backends) != "b2" || router.FromSaved() {
		t.Errorf("%v %v", describe(s.Backends), err)
	}
}

func TestAnAgentThatHangsAtTheStartIsAwayToo(t *testing.T) {
	a := consultest.Start(t)
	file := savedFile(t, `{"id": "b1", "address": "192.0.2.1:143", "weight": 1, "state": "up"}`)
	a.Stop()
	defer a.Continue()
	router, r, _, _ := keeping(t, a.Address(), file)
	r.waitFleet(t, "b1")
	if !router.FromSaved() {
		t.Error("where is it from?")
	}
}

func TestALiveAnswerLeavesTheFileUnread(t *testing.T) {
	a := consultest.Start(t)
	a.Register(instance("b1"))
	file := savedFile(t, `{"id": "b9", "address": "192.0.2.9:143", "weight": 1, "state": "up"}`)
	router, r, log, _ := keeping(t, a.Address(), file)
	r.waitFleet(t, "b1")
	a.Kill()
	log.wait(t, "doesn't answer")
	if got := fleetOf(router); got != "b1" || router.FromSaved() {
		t.Errorf("the fleet is %q", got)
	}
}

func TestAFileThatCannotBeUsedIsAnErrorAndAnEmptyStart(t *testing.T) {
	a := consultest.Start(t)
	file := filepath.Join(t.TempDir(), "backends.json")
	if err := os.WriteFile(file, []byte(`{"format": "imapproxy ba`), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Kill()
	router, r, log, stop := keeping(t, a.Address(), file)
	log.wait(t, "can't be used")
	if router.Ready() {
		t.Error("a set came from somewhere")
	}
	a.StartAgain()
	a.Register(instance("b1"))
	r.waitFleet(t, "b1")
	log.wait(t, "the unusable file was renamed")
	stop()
	if text, err := os.ReadFile(file + ".unusable"); err != nil || !strings.HasPrefix(string(text), `{"format": "imapproxy ba`) {
		t.Errorf("the operator can't see what was wrong: %q %v", text, err)
	}
	if _, err := ReadSaved(file, ConsulOptions{Service: "imap"}.SavedOf()); err != nil {
		t.Error(err)
	}
}

// savedFile is a file with the given backends, as JSON.
func savedFile(t *testing.T, backends ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backends.json")
	of := strings.ReplaceAll(ConsulOptions{Service: "imap"}.SavedOf(), `"`, `\"`)
	text := fmt.Sprintf(`{"format": "imapproxy backends", "version": 1, "of": "%s", "saved": "2026-01-02T03:04:05Z", "backends": [%s]}`,
		of, strings.Join(backends, ", "))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backends.json")
	of := ConsulOptions{Service: "imap", Tags: []string{"b", "a"}}.SavedOf()
	k := newKeeper(file, of, telemetry.Discard())
	all := []routing.Backend{
		{ID: "b1@c0ffee", Name: "b1@n1", Service: "b1", Address: "[2001:db8::1]:143", Weight: 3, State: routing.Draining, Reason: "maintenance", Tags: []string{"ssd"},
			TLS: "implicit", ServerName: "b1.example.org", Datacenter: "dc1", Node: "n1"},
		{ID: "b2", Address: "imap2.example.org:993", State: routing.Down},
	}
	begun := time.Now()
	k.store(kept{append(all, routing.Backend{ID: "b3", Address: "[host:1]:143", State: routing.Down}), begun}, false) // no router can use it
	s, err := ReadSaved(file, of)
	if err != nil {
		t.Fatal(err)
	}
	if s.Saved.IsZero() || !s.Saved.Equal(begun) || s.Source != consulSource || len(s.Backends) != 2 {
		t.Fatalf("%+v", s)
	}
	for n := range all {
		if !equalBackends(all[n], s.Backends[n]) {
			t.Errorf("wrote %+v\nread  %+v", all[n], s.Backends[n])
		}
	}
}

func TestTheFileIsWrittenWhenTheSetChangesOrHasAged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backends.json")
	k := newKeeper(file, "x", telemetry.Discard())
	b1 := []routing.Backend{{ID: "b1", Address: "192.0.2.1:143"}}
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		last  bool
		want  bool
	}{{0, false, true}, {time.Second, false, false}, {time.Second, true, true}, {refreshSaved + time.Second, false, true}} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		now = now.Add(step.after)
		k.store(kept{b1, now}, step.last)
		if _, err := os.Stat(file); (err == nil) != step.want {
			t.Errorf("%+v: %v", step, err)
		}
	}
}

func TestAFileIsCheckedBeforeItIsBelieved(t *testing.T) {
	const b1 = `{"id": "b1", "address": "192.0.2.1:143", "weight": 1, "state": "up"}`
	of := ConsulOptions{Service: "imap"}.SavedOf()
	change := func(from, to string) func(string) string {
		return func(text string) string { return strings.Replace(text, from, to, 1) }
	}
	for want, edit := range map[string]func(string) string{
		"unexpected end of JSON input": func(text string) string { return text[:len(text)-2] },
		"isn't a file of imapproxy's":  change("imapproxy backends", "something"),
		"its version is 2":             change(`"version": 1`, `"version": 2`),
		"it is about service":          change("imap", "smtp"),
		"when it was saved":            change(`"saved": "2026-01-02T03:04:05Z"`, `"x": 1`),
		"names no backend":             change(b1, ""),
		"there twice":                  change(b1, b1+","+b1),
		"it has no id":                 change(`"id": "b1"`, `"id": ""`),
		"isn't an address":             change("192.0.2.1:143", "[[::1]]:143"),
		"the weight is 70000":          change(`"weight": 1`, `"weight": 70000`),
		"backend state":                change(`"up"`, `"well"`),
		`tls is "off"`:                 change(`"weight": 1`, `"weight": 1, "tls": "off"`),
	} {
		file := savedFile(t, b1)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		edited := edit(string(text))
		if edited == string(text) {
			t.Fatalf("%s: nothing was changed", want)
		}
		if want == "it is about service" {
			edited = strings.Replace(string(text), `service=\"imap\"`, `service=\"smtp\"`, 1)
		}
		if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSaved(file, of); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	file := savedFile(t, b1)
	if err := os.Chmod(file, 0o660); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSaved(file, of); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("others may write it: %v", err)
	}
	if _, err := ReadSaved(filepath.Dir(file), of); !errors.Is(err, ErrUnusable) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := ReadSaved(file+"x", of); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestAFailedWriteLeavesTheOldFileAndSaysSo(t *testing.T) {
	tel, log := logged(t)
	file := savedFile(t, `{"id": "b1", "address": "192.0.2.1:143", "weight": 1, "state": "up"}`)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(file+".new/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(file, ConsulOptions{Service: "imap"}.SavedOf(), tel)
	k.store(kept{[]routing.Backend{{ID: "b2", Address: "192.0.2.2:143"}}, time.Now()}, false)
	log.wait(t, "discovery.consul.cache_file")
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("%q %v", after, err)
	}
}
