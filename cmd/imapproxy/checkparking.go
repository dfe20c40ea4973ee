package main

import (
	"bytes"
	"strings"

	"imapproxy/internal/config"
	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
)

// Servers that there is more to say about.
const (
	serverDovecot = "Dovecot"
	serverCyrus   = "Cyrus"
)

// serverName tells a server by its answer to ID, "" if it isn't known here.
func serverName(line []byte) string {
	for _, name := range []string{serverDovecot, serverCyrus} {
		if bytes.Contains(bytes.ToLower(line), []byte(strings.ToLower(name))) {
			return name
		}
	}
	return ""
}

// watches is where hints of changes would come from: for INBOX, for the user's
// other mailboxes, and for those that others share with him. It follows the hub's own
// choice (proxy/park, choose).
func watches(caps wire.Caps, mode string, push bool) (inbox, others, shared string) {
	shared = "EXAMINE + IDLE"
	if mode == "poll" || !caps.Has("IDLE") {
		shared = "polling"
	}
	switch {
	case push && (mode == "auto" || mode == "push"):
		return "push events", "push events", shared
	case caps.Has("NOTIFY") && mode == "notify":
		return "NOTIFY", "NOTIFY", shared
	case caps.Has("NOTIFY") && mode == "auto":
		return shared, "NOTIFY", shared
	}
	return shared, shared, shared
}

// checkParking says how sessions on a backend would be parked, and what to switch
// on there. caps are those after login.
func checkParking(r *report, what string, c *config.Config, caps wire.Caps, server string) {
	p := c.Park
	strategy := park.ChooseResync(caps, uint32(p.MaxDiffMessages))
	inbox, others, shared := watches(caps, p.Watch, p.Events.TokenFile != "")
	would := map[bool]string{true: "", false: "(off: park.enabled = false) "}[p.Enabled]
	r.ok(what, "%s%s; INBOX: %s, other mailboxes: %s, shared ones: %s", would, strategyWords(strategy, p.MaxDiffMessages), inbox, others, shared)
	if !caps.Has("UNSELECT") && !caps.Has("IMAP4rev2") {
		r.skip(what, "", "no UNSELECT: a parked session's connection is closed, and each resume costs a login")
	}
	if shared == "polling" && p.Watch != "poll" && inbox == "polling" {
		r.skip(what, "", "no IDLE: the proxy has to look once a minute, and without push events only then learns of a change")
	}
	if inbox != "push events" {
		fix := "post events to the proxy: docs/push-events.md has the format"
		switch server {
		case serverDovecot:
			fix = "install contrib/dovecot/push.lua there, and park { events { token_file = … } } here (docs/push-events.md)"
		case serverCyrus:
			fix = "install contrib/cyrus/notify there, and park { events { token_file = … } } here (docs/push-events.md)"
		}
		r.skip(what, fix, "with push events parked sessions would hold no connection here")
	}
	if server == serverDovecot {
		r.skip(what, "service_count = 0 and client_limit = 1 in its service imap { … }, unless it is so already",
			"a resume with a login costs a Dovecot that starts a process for each session about five times the CPU")
	}
}

func strategyWords(s park.Resyncer, most int) string {
	if s.Name() == (park.ByQResync{}).Name() {
		return "QRESYNC"
	}
	return "no QRESYNC, so mailboxes are compared, up to " + count(most, "message")
}
