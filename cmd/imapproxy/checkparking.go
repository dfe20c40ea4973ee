package main

import (
	"imapproxy/internal/config"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// watchWords describes the source of hints.
func watchWords(w park.Watch) string {
	return map[park.Watch]string{
		park.WatchPush: "push events", park.WatchNotify: "NOTIFY", park.WatchIdle: "EXAMINE + IDLE", park.WatchPoll: "polling",
	}[w]
}

// checkParking says how sessions on a backend would be parked and why so, and what
// to switch on there. caps are those after login.
func checkParking(r *report, what string, c *config.Config, caps wire.Caps, server string) {
	p := c.Park
	would := map[bool]string{true: "", false: "(off: park.enabled = false) "}[p.Enabled]
	r.ok(what, "%s%s", would, strategyWords(resync.Choose(caps, uint32(p.MaxDiffMessages)), p.MaxDiffMessages))
	by := park.WatchBy{Mode: p.Watch, Push: p.Events.TokenFile != "", Caps: caps}
	shared, whyShared := park.ChooseWatch(by)
	by.Personal = true
	others, whyOthers := park.ChooseWatch(by)
	by.Inbox = true
	inbox, whyInbox := park.ChooseWatch(by)
	r.ok(what, "hints for INBOX: %s (%s); other mailboxes: %s (%s); others' mailboxes: %s (%s)",
		watchWords(inbox), whyInbox, watchWords(others), whyOthers, watchWords(shared), whyShared)

	if !caps.Has("UNSELECT") && !caps.Has("IMAP4rev2") {
		r.skip(what, "", "no UNSELECT: a parked session's connection is closed, and each resume costs a login")
	}
	if inbox == park.WatchPoll && p.Watch != "poll" {
		r.skip(what, "", "no IDLE: the proxy has to look once a minute, and without push events only then learns of a change")
	}
	if inbox != park.WatchPush {
		r.skip(what, pushFix(p, server), "with push events parked sessions would hold no connection here")
	}
	if server == serverDovecot {
		r.skip(what, processFix(caps)+" and client_limit = 1 in its service imap { … }, unless it is so already",
			"a resume with a login costs a Dovecot that starts a process for each session about five times the CPU")
		if c.BackendLogin.Mode == upstream.ModeMaster {
			r.skip(what, aclUser(caps)+" there, where it has ACLs",
				"a watch opens mailboxes as the master user does: by the master's rights, unless Dovecot is told otherwise")
		}
	}
}

// processFix returns the setting with which a Dovecot process serves one session after another.
func processFix(caps wire.Caps) string {
	if dovecot24(caps) {
		return "restart_request_count = unlimited"
	}
	return "service_count = 0"
}

// aclUser returns the setting with which a Dovecot applies the user's rights when the master logs in.
func aclUser(caps wire.Caps) string {
	if dovecot24(caps) {
		return "acl_user = %{user}"
	}
	return "plugin { acl_user = %u }"
}

// pushFix says how push events are switched on.
func pushFix(p config.Park, server string) string {
	if p.Events.TokenFile != "" {
		return "watch = \"auto\" in park { … }: events are configured, and \"" + p.Watch + "\" doesn't use them"
	}
	switch server {
	case serverDovecot:
		return "install contrib/dovecot/push.lua there (mail_plugins notify, push_notification, mail_lua, push_notification_lua), and park { events { token_file = … } } here (docs/push-events.md)"
	case serverCyrus:
		return "install contrib/cyrus/notify there (notify_external, event_groups), and park { events { token_file = … } } here (docs/push-events.md)"
	}
	return "post events to the proxy: docs/push-events.md has the format"
}

func strategyWords(s resync.Strategy, most int) string {
	if s.Name() == (resync.ByQResync{}).Name() {
		return "QRESYNC: the backend reports changes"
	}
	return "no QRESYNC, so mailboxes are compared, up to " + count(most, "message")
}
