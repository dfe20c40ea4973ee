//go:build thunderbird

package idlers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A marionette is Mozilla's remote control: scripts run in the program's own window.
// Each message is its length, a colon and JSON.
type marionette struct {
	a    *account
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// newMarionette connects when the program listens.
func newMarionette(a *account, addr string) *marionette {
	a.Helper()
	m := &marionette{a: a}
	a.eventually("Marionette", func() (err error) {
		m.conn, err = net.Dial("tcp", addr)
		return err
	})
	a.Cleanup(func() { _ = m.conn.Close() })
	m.r = bufio.NewReader(m.conn)
	if _, err := m.read(); err != nil {
		a.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args map[string]any
	}{
		{"WebDriver:NewSession", map[string]any{}},
		{"Marionette:SetContext", map[string]any{"value": "chrome"}},
		{"WebDriver:SetTimeouts", map[string]any{"script": 30000}},
	} {
		if _, err := m.send(c.name, c.args); err != nil {
			a.Fatalf("%s: %v", c.name, err)
		}
	}
	return m
}

func (m *marionette) read() ([]byte, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	text, err := m.r.ReadString(':')
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(text[:len(text)-1])
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(m.r, b)
	return b, err
}

func (m *marionette) send(name string, args map[string]any) (json.RawMessage, error) {
	m.n++
	b, err := json.Marshal([]any{0, m.n, name, args})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		return nil, err
	}
	if b, err = m.read(); err != nil {
		return nil, err
	}
	var answer [4]json.RawMessage
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, err
	}
	if string(answer[2]) != "null" {
		return nil, errors.New(string(answer[2]))
	}
	return answer[3], nil
}

// run executes a script's body and decodes what it returns.
func (m *marionette) run(into any, script string, args ...any) error {
	if args == nil {
		args = []any{}
	}
	b, err := m.send("WebDriver:ExecuteScript", map[string]any{"script": script, "args": args, "sandbox": "system"})
	if err != nil {
		return err
	}
	var answer struct{ Value json.RawMessage }
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, into)
}
