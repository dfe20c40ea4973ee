package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// The null backend: any user has any mailbox, with the same 200 messages, which never change. It answers from memory, so that
// the proxy dominates what is measured. What it doesn't have, it answers BAD.

const (
	nullMessages = 200
	nullCaps     = "IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN ID IDLE ENABLE CONDSTORE QRESYNC ESEARCH UNSELECT NAMESPACE UIDPLUS NOTIFY"
)

// serveBackend listens for IMAP and for nginx's question where a user belongs, writes both addresses in one line, and serves until in ends.
func serveBackend(in io.Reader, out io.Writer) error {
	imap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _, _ = imap.Close(), web.Close() }()
	_, port, _ := net.SplitHostPort(imap.Addr().String())
	go func() { // ends with its listener
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Auth-Status", "OK")
			h.Set("Auth-Server", "127.0.0.1")
			h.Set("Auth-Port", port)
		}))
	}()
	go func() { // ends with its listener
		for {
			c, err := imap.Accept()
			if err != nil {
				return
			}
			go serveNull(c) // ends with the connection
		}
	}()
	if _, err := fmt.Fprintln(out, imap.Addr(), web.Addr()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

// serveNull serves one connection.
func serveNull(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := readers.Get().(*bufio.Reader)
	r.Reset(c)
	defer readers.Put(r)
	out := []byte("* OK [CAPABILITY " + nullCaps + "] null\r\n")
	idle := "" // the tag of an IDLE
	for {
		if r.Buffered() == 0 && len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		line = bytes.TrimRight(line, "\r\n")
		if idle != "" {
			out = append(append(out, idle...), " OK done\r\n"...)
			idle = ""
			continue
		}
		if n, ok := announced(line); ok { // nginx sends names and passwords as literals
			whole := string(line)
			if whole, err = readLiterals(c, r, whole, n); err != nil {
				return
			}
			line = []byte(whole)
		}
		tag, rest, _ := bytes.Cut(line, []byte(" "))
		verb, rest, _ := bytes.Cut(rest, []byte(" "))
		var over bool
		out, over = answerNull(out, string(tag), strings.ToUpper(string(verb)), rest)
		switch {
		case over:
			_, _ = c.Write(out)
			return
		case strings.EqualFold(string(verb), "IDLE"):
			idle = string(tag)
		}
	}
}

// announced returns the size of the literal that a line announces.
func announced(line []byte) (n int, ok bool) {
	open := bytes.LastIndexByte(line, '{')
	if open < 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	n, err := strconv.Atoi(string(line[open+1 : len(line)-1]))
	return n, err == nil && n <= 1024
}

// readLiterals asks for the literals of a command and returns it with them.
func readLiterals(c net.Conn, r *bufio.Reader, line string, n int) (string, error) {
	for more := true; more; {
		if _, err := io.WriteString(c, "+ go on\r\n"); err != nil {
			return "", err
		}
		literal := make([]byte, n)
		if _, err := io.ReadFull(r, literal); err != nil {
			return "", err
		}
		rest, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		rest = bytes.TrimRight(rest, "\r\n")
		line += string(literal) + string(rest)
		n, more = announced(rest)
	}
	return line, nil
}

// answerNull appends the answer to one command.
func answerNull(out []byte, tag, verb string, rest []byte) (answer []byte, over bool) {
	ok := "OK done"
	switch verb {
	case "CAPABILITY":
		out = append(out, "* CAPABILITY "+nullCaps+"\r\n"...)
	case "LOGIN", "AUTHENTICATE":
		ok = "OK [CAPABILITY " + nullCaps + "] in"
	case "ID":
		out = append(out, "* ID NIL\r\n"...)
	case "NAMESPACE":
		out = append(out, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n"...)
	case "ENABLE":
		out = append(append(append(out, "* ENABLED "...), rest...), "\r\n"...)
	case "NOOP", "CHECK", "NOTIFY", "UNSELECT", "CLOSE":
	case "SELECT", "EXAMINE":
		out = append(out, "* 200 EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen)\r\n* OK [PERMANENTFLAGS ()] none\r\n"+
			"* OK [UIDVALIDITY 9] ok\r\n* OK [UIDNEXT 201] ok\r\n* OK [HIGHESTMODSEQ 7] ok\r\n"...)
		ok = "OK [READ-WRITE] done"
		if verb == "EXAMINE" {
			ok = "OK [READ-ONLY] done"
		}
	case "STATUS":
		out = append(append(append(out, "* STATUS "...), bytes.Fields(rest)[0]...), " (MESSAGES 200 UIDNEXT 201 UIDVALIDITY 9 HIGHESTMODSEQ 7)\r\n"...)
	case "IDLE":
		return append(out, "+ idling\r\n"...), false
	case "FETCH":
		out, ok = fetchNull(out, rest)
	case "UID":
		what, rest, _ := bytes.Cut(rest, []byte(" "))
		if strings.EqualFold(string(what), "SEARCH") {
			out = append(append(append(out, "* ESEARCH (TAG \""...), tag...), "\") UID ALL 1:200 COUNT 200\r\n"...)
			break
		}
		out, ok = fetchNull(out, rest)
	case "LOGOUT":
		return append(append(append(out, "* BYE out\r\n"...), tag...), " OK out\r\n"...), true
	default:
		ok = "BAD the null backend doesn't have it"
	}
	out = append(append(append(append(out, tag...), ' '), ok...), "\r\n"...)
	return out, false
}

// fetchNull answers a FETCH of FLAGS and UID; message numbers are UIDs. Nothing has changed since any mod-sequence.
func fetchNull(out, rest []byte) (answer []byte, ok string) {
	set, items, _ := bytes.Cut(rest, []byte(" "))
	if bytes.Contains(items, []byte("CHANGEDSINCE")) {
		return out, "OK done"
	}
	first, last, ranged := bytes.Cut(set, []byte(":"))
	from, err := strconv.Atoi(string(first))
	if err != nil {
		return out, "BAD a set that the null backend doesn't know"
	}
	to := from
	if ranged {
		if to, err = strconv.Atoi(string(last)); err != nil {
			to = nullMessages
		}
	}
	for n := max(from, 1); n <= min(to, nullMessages); n++ {
		out = append(strconv.AppendInt(append(out, "* "...), int64(n), 10), " FETCH (UID "...)
		out = append(strconv.AppendInt(out, int64(n), 10), " FLAGS (\\Seen))\r\n"...)
	}
	return out, "OK done"
}
