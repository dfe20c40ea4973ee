package session

import (
	"bytes"
	"errors"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A client may have its connection compressed after login (RFC 4978), where its listener's settings say so. Compression ends at the proxy: backends are asked
// for none. What the client sends is inflated, and what it is sent is compressed, below everything else that is done with its connection
// (proxy/conn). The tagged OK is the last line that is sent as it is.

// compression returns the answer to COMPRESS, and whether compression begins behind it. more says that bytes have arrived behind the command:
// RFC 4978 §3 has clients wait for the answer, and whether such bytes are compressed can't be told.
func (s *Session) compression(h wire.CommandHead, whole, more bool) (answer []byte, begins bool) {
	mechanism := bytes.TrimRight(h.Args, " ")
	text := "OK Begin compression"
	switch active := s.client.Inflates(); {
	case !active && !s.lis.Settings().Compress:
		return intercept(h), false
	case !whole || len(mechanism) == 0 || bytes.ContainsAny(mechanism, " \"(){}%*\\"):
		text = "BAD Expected the name of a compression mechanism"
	case active:
		text = "NO [COMPRESSIONACTIVE] The connection is compressed already"
	case !wire.Is(mechanism, "DEFLATE"):
		text = "NO Unknown compression mechanism"
	case more:
		text = "BAD Nothing may follow COMPRESS before its answer"
	default:
		begins = true
	}
	return []byte(string(h.Tag) + " " + text + "\r\n"), begins
}

// offersCompression says whether the capability lists that the client is sent have COMPRESS=DEFLATE. Any goroutine may call it.
func (s *Session) offersCompression() bool { return s.lis.Settings().Compress && !s.out.compresses() }

// countCompressed reports what compression has done since it was reported last. The caller owns the session.
func (s *Session) countCompressed() {
	sum := s.client.Compressed()
	s.env.Telemetry.Compressed(telemetry.In, sum.InPlain, sum.In)
	s.env.Telemetry.Compressed(telemetry.Out, sum.OutPlain, sum.Out)
}

// clientLost returns why a session ends whose client can't be read any more.
func (s *Session) clientLost(err error) Reason {
	if errors.Is(err, conn.ErrInflate) {
		s.log().Info("the client can't be followed", "error", err)
		return ReasonClientProtocol
	}
	return ReasonClientLost
}
