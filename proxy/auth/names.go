package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxName is the longest user name that is accepted, in bytes of UTF-8, both as
// it came and after normalisation (RFC 4616 §2 asks for at least 255).
const MaxName = 255

// ErrName is matched by every error of Names.Normalize. Those errors never
// quote the name: it may be a password typed into the wrong field.
var ErrName = errors.New("user name not acceptable")

// Names are the rules for normalising user names. The zero value keeps case and adds no
// domain. All proxies in front of one fleet need the same rules, since
// routing uses the canonical name.
type Names struct {
	// DefaultDomain is appended, after an '@', to names that have none. Empty:
	// nothing is appended. It stands here without the '@'.
	DefaultDomain string
	// Lowercase folds the whole name, domain included, to lower case (Unicode's
	// simple case mapping).
	Lowercase bool
	// RefuseSeparators are characters that no name from a client may have (NewCredentials).
	// A backend would split the name at one: Dovecot takes "alice*admin" for the master user admin,
	// who logs in as alice (auth_master_user_separator).
	RefuseSeparators string
}

// Validate tells whether DefaultDomain can be part of a name.
func (n Names) Validate() error {
	if n.DefaultDomain == "" {
		return nil
	}
	if strings.Contains(n.DefaultDomain, "@") {
		return fmt.Errorf("default domain: write it without '@'")
	}
	if _, err := n.Normalize("x"); err != nil {
		return fmt.Errorf("default domain: %w", err)
	}
	return nil
}

// Normalize returns the canonical form of a user name, which is hashed, looked
// up, sent to the backend and logged. No other function changes a name. Normalize
// is idempotent: Normalize(Normalize(x)) == Normalize(x).
//
// Refused, with an error matching ErrName: an empty name; more than MaxName
// bytes before or after; what isn't valid UTF-8; every character that isn't
// printable (NUL and the other controls, bidirectional and zero-width format
// characters, unassigned and private ones) or is the replacement character; every
// kind of white space, at the ends too; a name that begins or ends with '@'.
//
// Changed, in this order: the default domain is appended when there is no '@';
// the case is folded when Lowercase is set; the result is put into Unicode's
// normal form C, so that "é" is one name however it was typed.
//
// Nothing else has a meaning here: '*', '+', '%', '/' and '\' pass unchanged.
// Code that builds a path, a URL or a query from a name escapes it there.
func (n Names) Normalize(user string) (string, error) {
	switch {
	case user == "":
		return "", fmt.Errorf("%w: empty", ErrName)
	case len(user) > MaxName:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrName, MaxName)
	case !utf8.ValidString(user):
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	}
	if err := checkRunes(user); err != nil {
		return "", err
	}
	if user[0] == '@' || user[len(user)-1] == '@' {
		return "", fmt.Errorf("%w: nothing before or after '@'", ErrName)
	}
	if n.DefaultDomain != "" && !strings.Contains(user, "@") {
		user += "@" + n.DefaultDomain
	}
	if n.Lowercase {
		// Normal form first: some capitals exist only composed.
		user = strings.ToLower(norm.NFC.String(user))
	}
	user = norm.NFC.String(user)
	// The domain may be anything where Validate wasn't called.
	if err := checkRunes(user); err != nil {
		return "", err
	}
	if len(user) > MaxName {
		return "", fmt.Errorf("%w: longer than %d bytes with its domain", ErrName, MaxName)
	}
	return user, nil
}

// separated says whether a name has a separator in it, as it came or as it becomes: normal form C
// of a Greek question mark is a semicolon. A default domain may have one.
func (n Names) separated(user string) bool {
	if n.RefuseSeparators == "" {
		return false
	}
	n.DefaultDomain = ""
	canonical, err := n.Normalize(user)
	return strings.ContainsAny(user, n.RefuseSeparators) || err == nil && strings.ContainsAny(canonical, n.RefuseSeparators)
}

// checkRunes refuses what Normalize's comment says.
func checkRunes(user string) error {
	for _, r := range user {
		switch {
		case r == 0:
			return fmt.Errorf("%w: NUL in it", ErrName)
		case r == utf8.RuneError:
			// Written out in the name: some client has garbled it already.
			return fmt.Errorf("%w: replacement character in it", ErrName)
		case unicode.IsSpace(r) || r == ' ':
			return fmt.Errorf("%w: white space in it", ErrName)
		case !unicode.IsPrint(r):
			return fmt.Errorf("%w: unprintable character in it", ErrName)
		}
	}
	return nil
}
