package upstream

import "errors"

// ForUser returns what of a backend's refusal is about the user and meant for their eyes: the response
// code and text of its NO or BYE, "" where it said nothing of that kind; and its alerts (RFC 9051 §7.1: ALERT must be shown), which came before. mode is the
// login's; secure says that the client is under TLS.
//
// What is passed on:
//   - ALERT; LIMIT, INUSE, OVERQUOTA, CONTACTADMIN (RFC 5530): they speak of the user's
//     mailbox, by any login;
//   - EXPIRED, NOPERM (RFC 5530) and Gmail's WEBALERT: they speak of the credential, so not under
//     mode master, where it is the proxy's;
//   - PRIVACYREQUIRED, where the client itself isn't under TLS: else the proxy's own way to
//     the backend is meant, for which no client can do anything.
//
// Everything else stays AUTHENTICATIONFAILED or UNAVAILABLE in the proxy's words.
func ForUser(err error, mode string, secure bool) (words string, alerts []string) {
	var refused *Refused
	var down *Unavailable
	var said answer
	switch {
	case errors.As(err, &refused):
		said = answer{refused.Code, refused.args, refused.Text, refused.alerts}
	case errors.As(err, &down):
		said = answer{down.Code, down.args, down.Text, down.alerts}
		if down.AtLimit() { // some Dovecots say UNAVAILABLE
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
