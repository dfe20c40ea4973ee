package parking

import "imapproxy/internal/imaptest"

// watch logs in through the proxy and selects a mailbox that has the messages
// that truth has.
func (l *lab) watch(user, mailbox string, truth *imaptest.ModelMailbox) *imaptest.ModelWatcher {
	l.t.Helper()
	return l.watchBy(false, user, mailbox, truth)
}

// watchBy does the same with TLS, or without.
func (l *lab) watchBy(tls bool, user, mailbox string, truth *imaptest.ModelMailbox) *imaptest.ModelWatcher {
	l.t.Helper()
	c := l.login
	if tls {
		c = l.loginTLS
	}
	w := imaptest.NewModelWatcher(c(user), imaptest.ModelPlain, truth)
	w.MustOK("SELECT %s", mailbox)
	return w
}

// writer makes a mailbox with n messages, directly at the server.
func (l *lab) writer(user, mailbox string, n int) *imaptest.ModelWriter {
	l.t.Helper()
	return imaptest.NewModelWriter(l.direct(user), mailbox, n)
}
