package main

import (
	"bytes"
	"strings"

	"imapproxy/proxy/wire"
)

// Servers about which check has specific advice.
const (
	serverDovecot = "Dovecot"
	serverCyrus   = "Cyrus"
)

// serverName recognises a server by its answer to ID; "": it isn't known here.
func serverName(line []byte) string {
	for _, name := range []string{serverDovecot, serverCyrus} {
		if bytes.Contains(bytes.ToLower(line), []byte(strings.ToLower(name))) {
			return name
		}
	}
	return ""
}

// dovecot24 says whether a Dovecot's capabilities are those of 2.4.
func dovecot24(caps wire.Caps) bool { return caps.Has("INPROGRESS") || caps.Has("REPLACE") }
