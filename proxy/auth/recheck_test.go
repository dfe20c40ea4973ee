package auth

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/internal/fair"
)

// An entry that didn't change needs no hash: thousands of sessions may be asked about at once.
func TestWhatDidntChangeIsRecheckedWithoutAHash(t *testing.T) {
	// bcrypt of "pw-One", cost 4.
	const hash = "{BLF-CRYPT}$2y$04$abcdefghijklmnopqrstuuqGcWnqfmUnPQR5hD9wPyj6vDSmQYq7O"
	file := filepath.Join(t.TempDir(), "users")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alice:" + hash + "\nbob:" + hash + "\n")
	p, err := openPasswdFile(file, PasswdFileOptions{Hashing: NewHashing(1)})
	if err != nil {
		t.Fatal(err)
	}
	sources := []Source{&scripted{name: "a", answer: Unknown{}}, p}
	stamp := any(p.users.Load().users["alice"])

	// Every slot is taken, and no caller waits: a source that hashes is Unavailable.
	other := fair.Network(netip.MustParseAddr("192.0.2.1"))
	if err := p.opts.Hashing.queue.Acquire(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	defer p.opts.Hashing.queue.Release(other)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	alice := Credentials{User: "alice", Password: "pw-One"}
	recheck := func(sources []Source) Verdict { return Recheck(ctx, sources, alice, stamp) }

	reload := func(content string) {
		t.Helper()
		write(content)
		p.watch.judged, p.watch.seen = nil, nil
		p.look()
		p.look()
	}
	before := Version(sources)
	reload("carol:" + hash + "\nalice:" + hash + ":1000:1000::/home/alice\n")
	if Version(sources) == before {
		t.Fatal("the new file isn't there")
	}
	if v, ok := recheck(sources[1:]).(Accepted); !ok || v.Stamp != stamp {
		t.Errorf("the same password, another home: %#v", v)
	}
	if !Holds(sources[1:], "alice", stamp) || Holds(sources[1:], "carol", stamp) || Holds(sources[1:], "bob", stamp) || Holds(sources[1:], "alice", nil) {
		t.Error("a stamp is its own entry's")
	}
	if Holds(sources, "alice", stamp) {
		t.Error("a source before it that can't tell has to be asked")
	}
	if v, ok := Recheck(ctx, sources[1:], Credentials{User: "bob", Password: "pw-One"}, nil).(Rejected); !ok || v.Reason != ReasonUnknownUser {
		t.Errorf("a user who is gone: %#v", v)
	}
	reload("alice:" + hash + "::::::nologin\n")
	if v, ok := recheck(sources[1:]).(Accepted); ok {
		t.Errorf("a locked user: %#v", v)
	}
}
