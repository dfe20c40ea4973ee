package imaptest

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// However the stream is cut into reads, the units are the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte("* OK {3}\r\n* 1 FETCH (BODY[] {3}\r\nabc)\r\na OK\r\n"), true)
	f.Add([]byte("a LOGIN {1+}\r\nx {2}\r\nyz\r\nb NOOP\r\n{9}\r\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, server bool) {
		whole := units(t, newReader(bytes.NewReader(in), server))
		pieces := units(t, newReader(iotest.OneByteReader(bytes.NewReader(in)), server))
		if !reflect.DeepEqual(whole, pieces) {
			t.Errorf("%q\nwhole  %q\npieces %q", in, whole, pieces)
		}
	})
}

func units(t *testing.T, r *reader) []string {
	var all []string
	for {
		u, err := r.next()
		all = append(all, u.digested())
		if err != nil {
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%v", err)
			}
			return all
		}
	}
}

// A pattern without specials matches its own text and nothing added to it.
func FuzzPattern(f *testing.F) {
	f.Add("* {n} EXISTS")
	f.Add(`* OK [X ${v=[a-z]{1,3}}] ...`)
	f.Add(`/\* (a|b)/`)
	f.Fuzz(func(t *testing.T, src string) {
		p, err := compilePattern(src, nil, nil)
		if err != nil || strings.ContainsAny(src, "{$/<+\r\n") || strings.HasSuffix(src, " ...") || src == "" || src == "*" {
			return
		}
		if _, ok := p.match(Response{Text: src}); !ok {
			t.Errorf("%q doesn't match itself", src)
		}
		if _, ok := p.match(Response{Text: "x" + src}); ok {
			t.Errorf("%q matches what begins with x too", src)
		}
	})
}

// No script makes the parser panic, and each error says where.
func FuzzScript(f *testing.F) {
	f.Add([]byte(everyStep))
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, err := ParseScript("name", src); err != nil && !strings.HasPrefix(err.Error(), "name:") {
			t.Errorf("%v", err)
		}
	})
}
