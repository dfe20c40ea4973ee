package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"imapproxy/internal/config"
)

// checkLimits names the backend's settings that bound connections from the proxy; their values can't be read
// from outside. If one is too small, logins wait or are refused.
func checkLimits(r *report, what string, c *config.Config, server string) {
	r.skip(what, limitsFix(c, server), "its limits of connections can't be seen from here: all sessions, watches and connections that wait come from the proxy's address")
}

// limitsFix says which settings of a server are meant.
func limitsFix(c *config.Config, server string) string {
	waiting := "connections that wait are closed where there is no room; park.backend_connections bounds them beforehand"
	if c.Park.BackendConnections > 0 {
		waiting = fmt.Sprintf("none waits there beyond park.backend_connections = %d", c.Park.BackendConnections)
	}
	switch server {
	case serverDovecot:
		return "process_limit of service imap (sessions; 1,024 as shipped) and of service imap-login (with client_limit), mail_max_userip_connections (10 for a user from one address: trust the proxy's, or raise it); " + waiting
	case serverCyrus:
		return "maxchild of the imap services in cyrus.conf (100 as Debian ships it); " + waiting
	}
	return "look for limits of connections in all, and for one address or user; " + waiting
}

// inotifyLimit is the file with the number of inotify instances that one system user may have. Dovecot's IDLE
// takes one for each session.
const inotifyLimit = "/proc/sys/fs/inotify/max_user_instances"

// checkInotify reports a Dovecot on this machine that can watch only few mailboxes.
func checkInotify(r *report, what, server string, isLocal bool) {
	if server != serverDovecot {
		return
	}
	fix := "fs.inotify.max_user_instances there, one for each session or watch in IDLE of a user of the system: sysctl -w fs.inotify.max_user_instances=8192"
	if !isLocal {
		r.skip(what, fix, "its machine's limit of inotify instances can't be seen from here")
		return
	}
	text, err := os.ReadFile(inotifyLimit)
	if err != nil {
		return
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n < 1024 {
		r.skip(what, fix, "this machine allows %d inotify instances to a user of the system: IDLE beyond that reports new mail late", n)
	}
}
