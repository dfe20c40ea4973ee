package upstream

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// backendSide is what the backend says in a script.
func backendSide(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimLeft(strings.TrimRight(line, "\n"), "\t")
		if text, ok := strings.CutPrefix(line, "S: "); ok {
			out.WriteString(unescape(text) + "\r\n")
		} else if text, ok := strings.CutPrefix(line, "S- "); ok {
			out.WriteString(unescape(text))
		}
	}
	return out.String()
}

// FuzzLogin: whatever a backend says, a login ends, without a panic, in a Conn
// or one of the two errors. The bytes are sent at once and then the backend
// closes its side, so a login that waits for more than that is a hang.
func FuzzLogin(f *testing.F) {
	for _, tc := range dialogues {
		if tc.target.TLS != "" {
			continue
		}
		f.Add([]byte(backendSide(tc.script)), byte(0))
	}
	f.Add([]byte("* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\np1 OK go\r\n* more"), byte(2))
	f.Add([]byte("* OK {3}\r\nabc\r\n"), byte(1))
	f.Add([]byte("* ID (\"a\" {99999}\r\n"), byte(1))

	auths := []Auth{alice, {User: "al\xe9", Password: "\n"}, boss}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan struct{})
	turn := make(chan []byte)
	go func() {
		defer close(done)
		for said := range turn {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(said)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	f.Cleanup(func() { close(turn); ln.Close(); <-done })

	f.Fuzz(func(t *testing.T, said []byte, mode byte) {
		d := newDialer(t, Options{LoginTimeout: time.Minute})
		target := Target{ID: "b1", Address: ln.Addr().String()}
		if mode&4 != 0 {
			target.TLS = TLSStartTLS
		}
		a := auths[int(mode&3)%len(auths)]
		turn <- said
		start := time.Now()
		// Not Login: a master's would dial again to verify.
		c, err := d.login(t.Context(), target, a, Client{SessionID: "s"}, kindProbe)
		if time.Since(start) > 20*time.Second {
			t.Fatal("it hung")
		}
		var refused *Refused
		var down *Unavailable
		switch {
		case err == nil:
			if c.Caps == nil {
				t.Error("logged in without capabilities")
			}
			_ = c.Close()
		case errors.As(err, &refused):
			if a.Mode == ModeMaster {
				t.Errorf("a master login blames the user: %v", err)
			}
		case !errors.As(err, &down):
			t.Errorf("an error of neither kind: %v", err)
		}
	})
}
