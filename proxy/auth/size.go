package auth

// maxToken is the length of the longest token. Those of providers that write a user's groups into them have
// several kilobytes.
const maxToken = 16 << 10

// MaxResponse is the length of the longest accepted SASL response with a password, in bytes after decoding;
// MaxResponseLine is its length in base64, as on the line. MaxTokenResponse and MaxTokenLine are those of a
// response with a token.
const (
	MaxResponse      = 8<<10 + 768 // a password of 8 KiB and two names
	MaxResponseLine  = (MaxResponse + 2) / 3 * 4
	MaxTokenResponse = maxToken + 2<<10 // a name, of which each character may be escaped, a host and a port
	MaxTokenLine     = (MaxTokenResponse + 2) / 3 * 4
)
