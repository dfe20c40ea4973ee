// Package deflate has the two directions of a compressed connection (RFC 4978: raw DEFLATE, RFC 1951), for connections that are silent for
// hours: neither holds more between two pieces of data than the text that the format may refer back to.
//
// A Deflater ends what it writes at an octet's boundary each time, and holds up to MaxHistory octets of what it sent last, which
// may be dropped at any time: the peer doesn't notice. An Inflater can stop at any bit of the stream, in the middle of
// a block as well. It holds the last 32 KB of its output, since the peer may refer to them. What either needs while it works (a
// Scratch, an Output) is lent to it for the call.
//
// The compression itself is github.com/klauspost/compress's. Readers of that and of other libraries can't stop inside a block: each would
// need a goroutine and 40 KB for as long as the peer is silent. Z_PARTIAL_FLUSH, which isn't followed by an octet's boundary, leaves
// a stream in this state.
//
// Imports none of our packages. Imported by proxy/conn.
package deflate
