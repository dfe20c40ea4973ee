package upstream

import "errors"

// ForUser returns the part of a backend's refusal that concerns the user: the response code and text of its
// NO or BYE, "" if there is none; and the ALERTs before it (RFC 9051 §7.1: they must be shown). mode is the
// login's; secure says that the client is under TLS.
//
// It passes on:
//   - ALERT; LIMIT, INUSE, OVERQUOTA, CONTACTADMIN (RFC 5530): they concern the user's mailbox, with any
//     login;
//   - EXPIRED, NOPERM (RFC 5530) and Gmail's WEBALERT: they concern the credential, so not in mode master,
//     where it is the proxy's;
//   - PRIVACYREQUIRED, if the client itself isn't under TLS; otherwise it concerns the proxy's connection to
//     the backend, which no client can change.
//
// All other refusals become AUTHENTICATIONFAILED or UNAVAILABLE with the proxy's text.
func ForUser(err error, mode string, secure bool) (words string, alerts []string) {
	var refused *Refused
	var down *Unavailable
	var said answer
	switch {
	case errors.As(err, &refused):
		said = answer{refused.Code, refused.args, refused.Text, refused.alerts}
	case errors.As(err, &down):
		said = answer{down.Code, down.args, down.Text, down.alerts}
		if down.AtLimit() { // some Dovecots send UNAVAILABLE
			said.code, said.args = "LIMIT", ""
		}
	}
	pass := false
	switch said.code {
	case "ALERT", "LIMIT", "INUSE", "OVERQUOTA", "CONTACTADMIN":
		pass = true
	case "EXPIRED", "NOPERM", "WEBALERT":
		pass = mode != ModeMaster
	case "PRIVACYREQUIRED":
		pass = mode != ModeMaster && !secure
	}
	if !pass {
		return "", said.alerts
	}
	code := said.code
	if said.args != "" {
		code += " " + said.args
	}
	if said.text == "" {
		said.text = "Login refused" // resp-text has at least one character
	}
	return "[" + code + "] " + said.text, said.alerts
}
