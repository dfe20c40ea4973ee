package imaptest

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ScriptedOptions are what a scripted backend's transcript may need.
type ScriptedOptions struct {
	Vars       map[string]string
	Conditions map[string]bool
	TLS        *tls.Config // for S-starttls
}

// NewScripted is a Backend whose dialogue is a transcript, read from the
// server's side: C lines are expected, S lines are sent. Each connection runs
// the lines that name it: "C:"/"S:" lines and "C0:"/"S0:" are the first's,
// "C1:"/"S1:" the second's, and so on; one without lines of its own is closed
// at once. The test fails when a client departs from its lines, or goes before
// their end.
//
// Besides S and C lines: S-raw: "go string" · S-split: n (a write for each n
// bytes) · S-cut: n [reset|halfclose] (the connection breaks after n more
// bytes) · S-close: · S-reset: · S-halfclose: · S-starttls: · C-eof: (the
// client closes) · wait EVENT and fire EVENT (Backend.Fire and Wait; prefixed
// by nothing, so they belong to the first connection; write S1-wait: EVENT and
// S1-fire: EVENT for another's). S: … {<<F} sends the file F as a literal.
func NewScripted(t testing.TB, transcript string, o ScriptedOptions) *Backend {
	t.Helper()
	s, err := ParseScript(t.Name(), []byte(transcript))
	if err != nil {
		t.Fatal(err)
	}
	return NewBackend(t, s.Handler(o))
}

// Handler is the server's side of the script.
func (s *Script) Handler(o ScriptedOptions) Handler {
	return func(c *BackendConn) error {
		p := &serverPlayer{s: s, o: o, c: c, vars: map[string]string{}}
		maps.Copy(p.vars, o.Vars)
		for _, st := range s.steps {
			if connIndex(st.conn) != c.Index || !st.wanted(o.Conditions) {
				continue
			}
			if err := p.step(st); err != nil {
				if isGone(err) && !strings.HasPrefix(st.verb, "C") {
					return err
				}
				return fmt.Errorf("%s:%d: %w", s.Name, st.line, notGone(err))
			}
			if p.ended {
				return nil
			}
		}
		return nil
	}
}

// notGone keeps a client that went too early from looking like a normal end.
func notGone(err error) error {
	if isGone(err) {
		return fmt.Errorf("the client went before this line: %v", err) //nolint:errorlint // isGone may not find it
	}
	return err
}

func connIndex(conn string) int {
	n, err := strconv.Atoi(conn)
	if err != nil {
		return 0
	}
	return n
}

// serverPlayer is one connection's way through the script.
type serverPlayer struct {
	s     *Script
	o     ScriptedOptions
	c     *BackendConn
	vars  map[string]string
	ended bool
}

func (p *serverPlayer) step(st step) error {
	switch st.verb {
	case stepSend:
		return p.expect(st.arg)
	case stepExpect:
		return p.send(st.arg)
	case stepServerRaw:
		raw, err := strconv.Unquote(st.arg)
		if err != nil {
			return fmt.Errorf("%s: %w", st.arg, err)
		}
		return p.c.SendRaw(raw)
	case stepServerSplit:
		n, err := strconv.Atoi(st.arg)
		p.c.SplitWrites(n)
		return err
	case stepServerCut:
		return p.cut(st.arg)
	case stepServerClose:
		p.ended = true
		return p.c.Do(FaultClose)
	case stepServerReset:
		p.ended = true
		return p.c.Do(FaultReset)
	case stepServerHalfClose:
		return p.c.Do(FaultHalfClose)
	case stepServerStartTLS:
		return p.c.StartTLS(p.o.TLS)
	case stepClientEOF:
		return p.c.ExpectEOF()
	case stepTimeout:
		d, err := time.ParseDuration(st.arg)
		p.c.Timeout = d
		return err
	case stepWait, stepServerWait:
		return p.c.Stall(st.arg)
	case stepFire, stepServerFire:
		p.c.Backend.Fire(st.arg)
		return nil
	}
	return fmt.Errorf("%s isn't for a scripted backend", st.verb)
}

func (p *serverPlayer) expect(src string) error {
	want, err := compilePattern(src, p.vars, p.s.payload)
	if err != nil {
		return err
	}
	cmd, err := p.c.ReadCommand()
	if err != nil {
		return err
	}
	got, ok := want.match(cmd.Response)
	if !ok {
		return fmt.Errorf("the client's command:\n got  %s\n want %s", cmd, src)
	}
	maps.Copy(p.vars, got)
	return nil
}

func (p *serverPlayer) send(line string) error {
	parts, err := splitLine(line, p.vars, p.s.payload)
	if err != nil {
		return err
	}
	for i, part := range parts {
		if part.payload == nil {
			text := part.text
			if i == len(parts)-1 && !part.bare {
				text += "\r\n"
			}
			if err := p.c.SendRaw(text); err != nil {
				return err
			}
			continue
		}
		if err := p.c.SendPayload(*part.payload); err != nil {
			return err
		}
	}
	return nil
}

func (p *serverPlayer) cut(arg string) error {
	f := strings.Fields(arg)
	if len(f) == 0 {
		return fmt.Errorf("after S-cut: a number of bytes is wanted")
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return err
	}
	how := FaultClose
	if len(f) > 1 {
		var ok bool
		if how, ok = map[string]Fault{"close": FaultClose, "reset": FaultReset, "halfclose": FaultHalfClose}[f[1]]; !ok {
			return fmt.Errorf("after S-cut: %q is none of close, reset, halfclose", f[1])
		}
	}
	p.c.CutAfter(n, how)
	return nil
}

// DialTranscript starts a scripted backend that plays a transcript, whose lines may be indented, and connects to it.
// The transcript ends with the client's end of the connection; the test's end waits for it.
func DialTranscript(t testing.TB, transcript string) *net.TCPConn {
	t.Helper()
	var lines strings.Builder
	for line := range strings.Lines(transcript) {
		lines.WriteString(strings.TrimLeft(line, "\t"))
	}
	b := NewScripted(t, lines.String()+"\nC-eof:\n", ScriptedOptions{})
	c, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.WaitOpen(0) })
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}
