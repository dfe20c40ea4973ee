package upstream

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// sharer is a backend with logins for shared mailboxes.
type sharer struct {
	caps     string
	rights   string // the answers to MYRIGHTS INBOX and to EXAMINE INBOX of a user who doesn't exist
	examine  string
	stranger string // the answer to their login

	mu       sync.Mutex
	strange  int      // logins of users who don't exist
	commands []string // of all others' connections
}

func (b *sharer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	fmt.Fprintf(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n")
	strange := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		tag, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "OK done"
		switch word, rest, _ := strings.Cut(command, " "); word {
		case "AUTHENTICATE":
			_, initial, _ := strings.Cut(rest, " ")
			text, _ := base64.StdEncoding.DecodeString(initial)
			parts := strings.Split(string(text), "\x00")
			answer = "OK [CAPABILITY IMAP4rev1 " + b.caps + "] in"
			b.mu.Lock()
			switch strange = strings.HasPrefix(parts[1], "imapproxy-nobody-"); {
			case parts[0] != "alice" || parts[2] != "secret":
				answer = "NO [AUTHENTICATIONFAILED] wrong"
			case strange:
				b.strange++
				if b.stranger != "" {
					answer = b.stranger
				}
			}
			b.mu.Unlock()
		case "MYRIGHTS":
			answer = b.rights
		case "EXAMINE":
			answer = b.examine
		case "LOGOUT":
			return
		}
		if !strange {
			b.mu.Lock()
			b.commands = append(b.commands, command)
			b.mu.Unlock()
		}
		fmt.Fprintf(c, "%s %s\r\n", tag, answer)
	}
}

func (b *sharer) start(t *testing.T) Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return Target{ID: "b1", Address: l.Addr().String()}
}

// A login to another user's mail is made only at backends that were seen to judge by the rights of the user who makes it.
func TestLoginShared(t *testing.T) {
	const acl, no = "ACL UIDPLUS", "NO [NONEXISTENT] no such mailbox"
	for name, c := range map[string]struct {
		backend *sharer
		want    error
	}{
		"rights are applied":               {&sharer{caps: acl, rights: no, examine: no}, nil},
		"a stranger has rights":            {&sharer{caps: acl, rights: "OK", examine: no}, ErrRights},
		"a stranger may open it":           {&sharer{caps: acl, rights: no, examine: "OK"}, ErrRights},
		"no ACL":                           {&sharer{caps: "UIDPLUS", rights: no, examine: no}, ErrRights},
		"MYRIGHTS isn't known":             {&sharer{caps: acl, rights: "BAD what?", examine: no}, ErrUnproved},
		"strangers are refused":            {&sharer{caps: acl, rights: no, examine: no, stranger: "NO [AUTHENTICATIONFAILED] wrong"}, ErrUnproved},
		"strangers can't be looked up now": {&sharer{caps: acl, rights: no, examine: no, stranger: "NO [UNAVAILABLE] later"}, ErrUnproved},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.backend
			target := b.start(t)
			d, err := New(Options{LoginTimeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			a := Auth{User: "alice", MasterUser: "bob", MasterPassword: "secret"}
			for range 2 {
				conn, err := d.LoginShared(context.Background(), target, a, Client{})
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				if conn != nil {
					_ = conn.Close()
				}
				if _, ok := errors.AsType[*Unavailable](err); err != nil && !ok {
					t.Errorf("%T", err)
				}
			}
			b.mu.Lock()
			want := 1 // what was found is remembered
			if errors.Is(c.want, ErrUnproved) {
				want = 2
			}
			if b.strange != want {
				t.Errorf("%d logins of a stranger, want %d", b.strange, want)
			}
			if c.want != nil && len(b.commands) > 0 {
				t.Errorf("the mail was opened: %q", b.commands)
			}
			b.mu.Unlock()
			if _, err := d.VerifySharing(context.Background(), target, Auth{User: "alice", MasterPassword: "secret"}); !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLoginSharedIsForOthers(t *testing.T) {
	d, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.LoginShared(context.Background(), Target{ID: "b1", Address: "127.0.0.1:1"}, Auth{User: "alice", MasterUser: "Alice", MasterPassword: "x"}, Client{}); !errors.Is(err, ErrUnproved) {
		t.Errorf("%v", err)
	}
}
