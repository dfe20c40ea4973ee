package upstream

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A process without a descriptor to spare gives up one that waits in the pool for a
// login, and without any of those says that the shortage is its own. It runs out of them
// in a process of its own, the backend stays in this one.
func TestDescriptorsThatRunOut(t *testing.T) {
	const child = "IMAPPROXY_TEST_DESCRIPTORS"
	if address := os.Getenv(child); address != "" {
		withoutDescriptors(t, address)
		return
	}
	b := answersAll(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+b.addr)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func withoutDescriptors(t *testing.T, address string) {
	target := Target{ID: "b1", Address: address}
	d, _, pool := oneThatWaits(t, target)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	files.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	for { // the rest of them
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		defer f.Close()
	}
	c, err := d.Login(t.Context(), target, alice, Client{})
	if err != nil {
		t.Fatalf("with a connection that waits: %v", err)
	}
	defer c.Close()
	if pool.Len() != 0 {
		t.Error("the connection still waits")
	}
	_, err = d.Login(t.Context(), target, Auth{User: "carol", Password: "secret"}, Client{})
	var own *Unavailable
	if !errors.As(err, &own) || own.Fault() != FaultOwn || own.BackendDown() {
		t.Errorf("without one: %v", err)
	}
	if of := d.tel.Shortages(); len(of) != 1 || of[0].Of != "descriptors" || of[0].Count != 2 {
		t.Errorf("told: %+v", of)
	}
	_, err = d.Login(t.Context(), Target{ID: "b2", Address: "localhost:" + address[strings.LastIndex(address, ":")+1:]}, alice, Client{})
	if !errors.As(err, &own) || own.Fault() != FaultOwn {
		t.Errorf("by name: %v", err)
	}
}
