package imaptest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Recording is what was said on each connection of one run.
type Recording struct {
	Streams   []*Stream // in the order of their names
	Vars      map[string]string
	Normalise []string // what the script asks to be normalised
}

// RunFile runs a transcript from a file and fails the test where it departs
// from it.
func RunFile(t testing.TB, path string, o RunOptions) *Recording {
	t.Helper()
	s, err := LoadScript(path)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := s.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// Missing are the capabilities that the script requires and the list, as in a
// CAPABILITY response, doesn't have.
func (s *Script) Missing(caps string) []string {
	have := strings.Fields(strings.ToUpper(caps))
	var missing []string
	for _, c := range s.Requires {
		if !slices.Contains(have, strings.ToUpper(c)) {
			missing = append(missing, c)
		}
	}
	return missing
}

// Run plays the client's side and checks the server's. The recording is
// returned with an error too, as far as it got. Every connection is closed
// before it returns.
func (s *Script) Run(ctx context.Context, o RunOptions) (*Recording, error) {
	p := &player{s: s, o: o, timeout: orDefault(o.Timeout), vars: map[string]string{}, conns: map[string]*playedConn{}}
	maps.Copy(p.vars, o.Vars)
	defer p.closeAll()
	for _, st := range s.steps {
		if st.verb == stepCompare {
			p.comparing, p.hasCompare = true, true
		}
	}
	p.comparing = !p.hasCompare
	var err error
	for i := 0; i < len(s.steps) && err == nil; i++ {
		st := s.steps[i]
		if !st.wanted(o.Conditions) {
			continue
		}
		if err = ctx.Err(); err != nil {
			break
		}
		if st.verb == stepUnordered {
			group := []step{st}
			for i+1 < len(s.steps) && s.steps[i+1].verb == stepUnordered && s.steps[i+1].conn == st.conn {
				i++
				if s.steps[i].wanted(o.Conditions) {
					group = append(group, s.steps[i])
				}
			}
			err = p.unordered(ctx, group)
		} else {
			err = p.step(ctx, st)
		}
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", s.Name, st.line, err)
		}
	}
	return p.recording(), err
}

func (p *player) closeAll() {
	for _, c := range p.conns {
		_ = c.Close() // closed by the script or the server already, perhaps
	}
}

func (p *player) recording() *Recording {
	rec := &Recording{Vars: p.vars, Normalise: p.normalise}
	for _, name := range slices.Sorted(maps.Keys(p.conns)) {
		rec.Streams = append(rec.Streams, p.conns[name].stream)
	}
	return rec
}

func (p *player) step(ctx context.Context, st step) error {
	switch st.verb {
	case stepTimeout:
		d, err := time.ParseDuration(st.arg)
		p.timeout = d
		return err
	case stepCompare:
		p.comparing = true
		return nil
	case stepNormalise:
		p.normalise = append(p.normalise, strings.Fields(st.arg)...)
		return nil
	case stepSet:
		name, value, _ := strings.Cut(st.arg, " ")
		value, err := expand(value, p.vars, asIs)
		p.vars[name] = value
		return err
	case stepWait:
		return p.wait(ctx, st)
	}
	c, err := p.conn(ctx, st)
	if err != nil {
		return err
	}
	switch st.verb {
	case stepSend:
		return c.send(p, st.arg)
	case stepRaw:
		raw, err := strconv.Unquote(st.arg)
		if err != nil {
			return fmt.Errorf("%s: %w", st.arg, err)
		}
		var tags []string
		for line := range strings.SplitSeq(raw, "\r\n") {
			if tag := commandTag(line); tag != "" {
				tags = append(tags, tag)
			}
		}
		c.record(Entry{Sent: st.arg, Tags: tags})
		return c.SendRaw(raw)
	case stepStartTLS:
		if p.o.TLS == nil {
			return fmt.Errorf("RunOptions.TLS isn't set")
		}
		return c.handshake(p.o.TLS)
	case stepCompress:
		return c.BeginCompression()
	case stepHalfClose:
		return c.CloseWrite()
	case stepClose:
		return c.Conn.Close()
	case stepReset:
		return c.Reset()
	case stepExpect:
		return c.expect(p, st.arg)
	case stepOptional:
		return c.optional(p, st.arg)
	case stepEOF:
		return c.expectEOF(p)
	case stepQuiet:
		return c.quiet(st.arg)
	}
	return fmt.Errorf("%s is for scripted backends", st.verb)
}

func (p *player) wait(ctx context.Context, st step) error {
	line, err := expand(st.arg, p.vars, asIs)
	if err != nil {
		return err
	}
	f := strings.Fields(line)
	if len(f) == 0 || p.o.Hooks[f[0]] == nil {
		return fmt.Errorf("wait %s: the test has no such hook", st.arg)
	}
	if err := p.o.Hooks[f[0]](ctx, f[1:]...); err != nil {
		return fmt.Errorf("wait %s: %w", st.arg, err)
	}
	return nil
}

// conn is the step's connection, opened when it's the first to name it.
func (p *player) conn(ctx context.Context, st step) (*playedConn, error) {
	if c := p.conns[st.conn]; c != nil {
		c.skipCompare = !p.comparing
		return c, nil
	}
	connect := p.o.Connect
	if connect == nil {
		connect = func(ctx context.Context, _ string) (*Conn, error) { return DialConn(ctx, p.o.Addr, p.o.Dial) }
	}
	nc, err := connect(ctx, st.conn)
	if err != nil {
		return nil, err
	}
	c := &playedConn{Conn: nc, stream: &Stream{Name: st.conn}, skipCompare: !p.comparing}
	p.conns[st.conn] = c
	if !strings.HasPrefix(st.verb, "C") {
		return c, nil
	}
	r, err := c.next(p)
	if err != nil {
		return nil, fmt.Errorf("waiting for the greeting: %w", err)
	}
	if s := r.Status(); s != "OK" && s != "PREAUTH" {
		return nil, fmt.Errorf("greeting: %s", r)
	}
	return c, nil
}

func (p *player) unordered(ctx context.Context, group []step) error {
	c, err := p.conn(ctx, group[0])
	if err != nil {
		return err
	}
	var left []string
	for _, st := range group {
		left = append(left, st.arg)
	}
	return c.unordered(p, left)
}
