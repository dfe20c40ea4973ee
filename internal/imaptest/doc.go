// Package imaptest is what the tests speak IMAP with: a client, a scripted server that can misbehave, one in
// memory that follows the standards and a model of what its clients may be told, a runner for transcripts, a
// comparison of two servers' answers, and a check for goroutines left behind.
//
// Nothing that ships may import it. Its reader of lines and literals shares no code with proxy/wire, so that
// tests notice a mistake made there.
//
// # Which fake for what
//
// Real servers come first (e2e/servers): a fake is for what they can't be made to do, for tests
// that need no preparation, and for exact timing. Of the fakes use the first that will do:
//
//   - [Tap] stands before a real server or a fake: it holds lines back, cuts connections, does
//     something just before a line goes on, and counts or keeps what went by.
//   - [ModelServer] is a whole server in memory that is right: mailboxes, IDLE, QRESYNC. For
//     tests in which many clients do things and only what they are told counts. With it go
//     [ModelClient] and [ModelWatcher], which know what a client may be told.
//   - [Dialogue] is a correct server without mailboxes, of which a test replaces single commands:
//     for logins, refusals, and one answer that has to be odd.
//   - [NewScripted] plays a transcript, the same language as the client's: for exact bytes in an
//     exact order, splits, cuts and resets.
//   - [NewBackend] with a [Handler] is the loopback listener beneath all of them: for what no
//     transcript can say. A package whose tests have a language of their own builds on it.
//
// internal/dev is none of these: it is go-imap's server, for people who try the proxy.
//
// # Transcripts
//
// A transcript is a txtar archive. Its comment is the dialogue, its files are
// payloads. One line is one step; # begins a comment:
//
//	C: a1 LOGIN ${user} ${password}
//	S: a1 OK
//	C1: i1 IDLE
//	S1: + idling
//	C2: a2 APPEND INBOX {<<hello.eml}
//	S2: ... a2 OK
//	S1: * {n} EXISTS
//	-- hello.eml --
//	Subject: hello
//
// The word before the colon names the connection (C1 and S1 are the two sides
// of connection "1"); it is opened when it is first used. When its first step
// is a C line the greeting is read silently, else the S line sees it.
//
// What a client sends:
//
//	C: a1 NOOP             the line and CRLF; ${name} is a variable
//	C: a1 APPEND x {<<F}   the file F as a literal; waits for the server's "+"
//	C: a1 APPEND x {<<F+}  the same as a non-synchronising literal (RFC 7888)
//	C: <<F                 the file F as it is, no CRLF of our own
//	C-raw: "a1 NO"         a Go string, nothing added
//	C-starttls:            the TLS handshake (Options.TLS)
//	C-compress:            compression begins, in both directions
//	C-halfclose: C-close: C-reset:
//
// Lines of files end in CRLF when they are sent, unless the name ends in .raw.
// A name "gen:SIZE:SEED" (gen:50MB:7) is a generated message of that size.
//
// What it must be answered:
//
//	S: * {n} EXISTS        the next response, matched by a pattern
//	S: /\* \d+ EXISTS/     the same by a regular expression over the whole line
//	S: ...                 any untagged responses until the next expected one
//	S: ... a1 OK           both in one line
//	S?: * {n} RECENT       may be missing
//	S|: * 1 EXISTS         consecutive S| lines come in any order
//	S-eof:                 the server closes; nothing but untagged before it
//	S-quiet: 300ms         nothing arrives for so long
//
// In a pattern {n} is a number, {w} a word, {s} a quoted string or NIL, {*}
// anything, a final " ..." any rest, ${name=regexp} captures and ${name} must
// be that again. {12} is a literal of 12 bytes, {{n}} of any size, {{n}}<<F>>
// one that is the file F. "a1 OK" alone, with or without a code, takes any
// text; "a1" any tagged answer; "+" any continuation.
//
// Other lines: timeout 30s · wait NAME ARGS (a hook of the test, see
// Options.Hooks) · require CAP… · compare (what comes before isn't compared) ·
// normalise NAME… · set name value. "[cond] step" and "[!cond] step" run as
// Options.Conditions say.
//
// The scripted backend reads the same language from the other side: C lines
// are expected, S lines are sent.
//
// Imports none of our packages. Imported by internal/apptest, internal/postfix,
// the end-to-end tests and the tests of all packages.
package imaptest
