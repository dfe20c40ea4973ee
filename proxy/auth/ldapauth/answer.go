package ldapauth

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/go-ldap/ldap/v3"

	"imapproxy/proxy/auth"
)

// codeOf is the result code of an error of the library; -1: it is none.
func codeOf(err error) int {
	var e *ldap.Error
	if errors.As(err, &e) {
		return int(e.ResultCode)
	}
	return -1
}

// serviceBind is that the directory refuses the proxy's own bind.
type serviceBind struct{ err error }

func (e *serviceBind) Error() string { return "bind as bind_dn: " + e.err.Error() }
func (e *serviceBind) Unwrap() error { return e.err }

// ofActiveDirectory is where Active Directory says in the text of result 49 what is wrong.
var ofActiveDirectory = regexp.MustCompile(`, data ([0-9a-f]{2,4}),`)

// refused is the verdict of a user's bind that failed. The cases of the result code:
//
//	49 invalidCredentials         wrong; where Active Directory says so, unknown (525) or locked
//	                              (530 531 532 533 701 773 775)
//	32 noSuchObject               unknown
//	19 constraintViolation        locked: 389 Directory Server after too many wrong passwords
//	48 inappropriateAuthentication  locked: the entry has no password
//	53 unwillingToPerform         locked: 389 Directory Server, eDirectory
//	any other, or none            unavailable
func refused(err error) auth.Verdict {
	var own *serviceBind
	if errors.As(err, &own) {
		return auth.Unavailable{Err: auth.Said(err)}
	}
	switch codeOf(err) {
	case ldap.LDAPResultInvalidCredentials:
		if m := ofActiveDirectory.FindStringSubmatch(err.Error()); m != nil {
			switch m[1] {
			case "525":
				return auth.Unknown{}
			case "530", "531", "532", "533", "701", "773", "775":
				return auth.Rejected{Reason: auth.ReasonAccountDisabled}
			}
		}
		return auth.Rejected{Reason: auth.ReasonBadPassword}
	case ldap.LDAPResultNoSuchObject:
		return auth.Unknown{}
	case ldap.LDAPResultConstraintViolation, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultUnwillingToPerform:
		return auth.Rejected{Reason: auth.ReasonAccountDisabled}
	}
	return auth.Unavailable{Err: fmt.Errorf("bind: %w", auth.Said(err))}
}

var (
	// errSeveral: one user's password would be another's.
	errSeveral = errors.New("the filter finds several entries for one user")
	// errAnyone: any name would be that user's, with that user's password.
	errAnyone = errors.New("the filter finds an entry for a user that doesn't exist")
)

// mend says what to do about an error.
func mend(err error) string {
	var own *serviceBind
	switch code := codeOf(err); {
	case errors.As(err, &own) && code == ldap.LDAPResultInvalidCredentials:
		return "correct bind_dn and password_file"
	case errors.As(err, &own) && code == ldap.LDAPResultInvalidDNSyntax:
		return "correct bind_dn: it isn't a DN, such as cn=imapproxy,dc=example,dc=org"
	case code == ldap.LDAPResultInvalidDNSyntax:
		return "correct that DN: it isn't one, such as ou=people,dc=example,dc=org"
	case errors.Is(err, errSeveral), errors.Is(err, errAnyone):
		return "have filter find the entry of %u alone"
	case code == ldap.LDAPResultNoSuchObject:
		return "correct base and group_base, or let bind_dn read them"
	case code == ldap.LDAPResultInsufficientAccessRights, code == ldap.LDAPResultInappropriateAuthentication:
		return "let bind_dn read the users' entries, or write bind_dn and password_file"
	case code == ldap.LDAPResultConfidentialityRequired, code == ldap.LDAPResultStrongAuthRequired:
		return "write start_tls = true, or an ldaps:// URL"
	case code == ldap.LDAPResultProtocolError:
		return "write an ldaps:// URL instead of start_tls, or configure TLS at the directory"
	case code == ldap.ErrorNetwork && auth.MendConnection(err, "", "") == "":
		err = io.EOF // the library has its own words for it
	}
	return cmp.Or(auth.MendConnection(err, "the directory", "url"), "correct url")
}
