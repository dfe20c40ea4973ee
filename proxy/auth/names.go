package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxName is the length of the longest accepted user name, in bytes of UTF-8, both as sent and after
// normalisation (RFC 4616 §2 requires at least 255).
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
	// RefuseSeparators are characters that names from clients may not have (NewCredentials). A backend would
	// split the name at such a character: Dovecot reads "alice*admin" as the master user admin, who logs in
	// as alice (auth_master_user_separator).
	RefuseSeparators string
}

// Validate checks that DefaultDomain can be part of a name.
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
// Refused, with an error matching ErrName: an empty name; more than MaxName bytes before or after; invalid
// UTF-8; characters that aren't printable (NUL and the other controls, bidirectional and zero-width format
// characters, unassigned and private ones); the replacement character; white space, also at the ends; a name
// that begins or ends with '@'.
//
// Changed, in this order: the default domain is appended if there is no '@'; the case is folded if Lowercase
// is set; the result is converted to Unicode's normal form C, so that "é" is one name however it was typed.
//
// No other character has a meaning here: '*', '+', '%', '/' and '\' pass unchanged. Code that builds a path,
// a URL or a query from a name has to escape it.
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
		// Normal form C first: some capitals exist only in composed form.
		user = strings.ToLower(norm.NFC.String(user))
	}
	user = norm.NFC.String(user)
	// DefaultDomain may be invalid if Validate wasn't called.
	if err := checkRunes(user); err != nil {
		return "", err
	}
	if len(user) > MaxName {
		return "", fmt.Errorf("%w: longer than %d bytes with its domain", ErrName, MaxName)
	}
	return user, nil
}

// Given is Normalize for a name that a source gives for a user: no domain is appended, and it
// may have none of RefuseSeparators either. Its errors don't quote the name.
func (n Names) Given(user string) (string, error) {
	if n.separated(user) {
		return "", fmt.Errorf("%w: it has a character of users.refuse_separators", ErrName)
	}
	n.DefaultDomain = ""
	return n.Normalize(user)
}

// separated says whether a name contains a separator, as sent or after normalisation: normal form C of a
// Greek question mark is a semicolon. The default domain may contain one.
func (n Names) separated(user string) bool {
	if n.RefuseSeparators == "" {
		return false
	}
	n.DefaultDomain = ""
	canonical, err := n.Normalize(user)
	return strings.ContainsAny(user, n.RefuseSeparators) || err == nil && strings.ContainsAny(canonical, n.RefuseSeparators)
}

// checkRunes refuses the characters that Normalize's comment lists.
func checkRunes(user string) error {
	for _, r := range user {
		switch {
		case r == 0:
			return fmt.Errorf("%w: NUL in it", ErrName)
		case r == utf8.RuneError:
			// The name contains U+FFFD itself: a client has garbled it before.
			return fmt.Errorf("%w: replacement character in it", ErrName)
		case unicode.IsSpace(r) || r == ' ':
			return fmt.Errorf("%w: white space in it", ErrName)
		case !unicode.IsPrint(r):
			return fmt.Errorf("%w: unprintable character in it", ErrName)
		}
	}
	return nil
}
