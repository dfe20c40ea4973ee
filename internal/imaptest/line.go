package imaptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
)

// A linePart is a piece of a line that is sent: text or a literal's content.
type linePart struct {
	text    string
	payload *Payload
	// sync: the text ended in a synchronising literal's marker, so a client
	// waits for "+" here
	sync bool
	// bare: the line was <<FILE alone, no CRLF follows
	bare bool
}

var reLiteralRef = regexp.MustCompile(`(~?)\{<<((?:\$\{\w+\}|[^<>{}])+?)(\+?)\}`)

// splitLine expands ${name} and cuts the line at its literals, {<<F} and
// {<<F+}. There's always a text part last.
func splitLine(line string, vars map[string]string, files func(string) (Payload, error)) ([]linePart, error) {
	if name, ok := strings.CutPrefix(line, "<<"); ok && !strings.ContainsAny(name, " {}") {
		p, err := files(name)
		if err != nil {
			return nil, err
		}
		return []linePart{{payload: &p}, {bare: true}}, nil
	}
	// literals first: a value that looks like one stays a value
	var parts []linePart
	for {
		at := reLiteralRef.FindStringSubmatchIndex(line)
		if at == nil {
			text, err := expand(line, vars, asIs)
			if err != nil {
				return nil, err
			}
			return append(parts, linePart{text: text}), nil
		}
		m := reLiteralRef.FindStringSubmatch(line)
		name, err := expand(m[2], vars, asIs)
		if err != nil {
			return nil, err
		}
		p, err := files(name)
		if err != nil {
			return nil, err
		}
		text, err := expand(line[:at[0]], vars, asIs)
		if err != nil {
			return nil, err
		}
		text += fmt.Sprintf("%s{%d%s}\r\n", m[1], p.Size, m[3])
		parts = append(parts, linePart{text: text, sync: m[3] == ""}, linePart{payload: &p})
		line = line[at[1]:]
	}
}

func asIs(s string) string { return s }

// isGone says that an error means no more than a connection's end.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, errCut)
}

// errCut is what writing yields once the connection was cut on purpose.
var errCut = errors.New("imaptest: cut here")
