package model

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
)

// traits are what a server has besides IMAP4rev1.
type traits struct {
	sort, thread, esearch, move, literalPlus, unselect bool
	prefix                                             string // of mailbox names
}

func modernTraits() traits {
	return traits{sort: true, thread: true, esearch: true, move: true, literalPlus: true, unselect: true}
}

// memory is a server in this process, which needs nothing installed.
func memory(o imaptest.ModelServerOptions) func(testing.TB, *lab) *servers.Server {
	return func(t testing.TB, l *lab) *servers.Server {
		o := o // several stacks begin here
		if l.network != nil {
			o.Changed = l.network.changed
		}
		l.has = modernTraits()
		l.has.thread, l.has.esearch, l.has.unselect = false, o.QResync, o.QResync
		return &servers.Server{Kind: "model", Name: "model", Addr: imaptest.NewModelServer(t, o).Addr}
	}
}

func dovecot(store, extra string) func(testing.TB, *lab) *servers.Server {
	return func(t testing.TB, l *lab) *servers.Server {
		o := servers.DovecotOptions{Store: store, Extra: extra}
		l.has = modernTraits()
		if l.network != nil {
			o.Push = push(t, l.network.url)
		}
		return servers.StartDovecot(t, o)
	}
}

// onlyIMAP4rev1 hides what the comparison strategy does without.
const onlyIMAP4rev1 = `
imap_capability = IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE UNSELECT UIDPLUS MOVE ESEARCH SORT NAMESPACE
`

// push is what docs/push-events.md tells operators of Dovecot.
func push(t testing.TB, url string) *servers.DovecotPush {
	dir := servers.Folder(t)
	lua, err := os.ReadFile(filepath.Join("..", "..", "contrib", "dovecot", "push.lua"))
	must(t, err)
	script, token := filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	must(t, os.WriteFile(script, lua, 0o644))
	must(t, os.WriteFile(token, []byte(apptest.EventsToken+"\n"), 0o644))
	return &servers.DovecotPush{Script: script, TokenFile: token, URLs: []string{url}}
}

func cyrus(t testing.TB, l *lab) *servers.Server {
	l.has = modernTraits()
	if l.network == nil {
		return servers.StartCyrus(t)
	}
	dir := servers.Folder(t)
	program := filepath.Join(dir, "notify")
	b, err := os.ReadFile(filepath.Join("..", "..", "contrib", "cyrus", "notify"))
	must(t, err)
	must(t, os.WriteFile(program, b, 0o755))
	must(t, os.MkdirAll(program+".d", 0o755))
	must(t, os.WriteFile(filepath.Join(program+".d", "0.conf"),
		[]byte(fmt.Sprintf("url = %q\nheader = %q\n", l.network.url, "Authorization: Bearer "+apptest.EventsToken)), 0o644))
	return servers.StartCyrusWith(t, servers.CyrusOptions{Notify: program})
}

func courier(t testing.TB, l *lab) *servers.Server {
	l.has = traits{sort: true, thread: true, prefix: "INBOX."}
	return servers.StartCourier(t)
}

func mox(t testing.TB, l *lab) *servers.Server {
	l.has = modernTraits()
	l.has.sort, l.has.thread = false, false
	return servers.StartMox(t)
}

// variant is what the test runs on.
type variant struct {
	name  string
	short time.Duration // how long in a run of all tests; 0: only when it is asked for
	labOptions
}

// variants are those on a server in this process, and those on real ones. A direct one has no
// proxy: what the server does by itself is no finding.
func variants() []variant {
	const memoryFor, realFor = 8 * time.Second, 4 * time.Second
	modern := memory(imaptest.ModelServerOptions{QResync: true})
	plain := memory(imaptest.ModelServerOptions{})
	sdbox, maildir := dovecot("sdbox", ""), dovecot("maildir", "")
	return []variant{
		{"memory-direct", memoryFor / 2, labOptions{start: modern}},
		{"memory-idle", memoryFor, labOptions{start: modern, watch: "idle"}},
		{"memory-push-tls", memoryFor, labOptions{start: modern, watch: "push", events: true, lose: 2, tls: true}},
		{"memory-moves-idle", memoryFor, labOptions{pair: twins(modern), watch: "idle"}},
		{"memory-comparison-idle", memoryFor, labOptions{start: plain, watch: "idle", plain: true}},
		{"memory-comparison-push", memoryFor, labOptions{start: plain, watch: "push", events: true, lose: 2, plain: true}},
		{"memory-idle-lost", memoryFor, labOptions{start: modern, watch: "idle", breaks: true}},
		{"memory-idle-compressed-tls", memoryFor / 2, labOptions{start: modern, watch: "idle", tls: true, compress: true}},
		{"memory-idle-lost-compressed", memoryFor / 2, labOptions{start: modern, watch: "idle", breaks: true, compress: true}},
		{"memory-comparison-idle-lost", memoryFor, labOptions{start: plain, watch: "idle", plain: true, breaks: true}},

		{"dovecot-sdbox-direct", 0, labOptions{start: sdbox}},
		{"dovecot-sdbox-idle", realFor, labOptions{start: sdbox, watch: "idle"}},
		{"dovecot-sdbox-idle-lost", realFor, labOptions{start: sdbox, watch: "idle", breaks: true}},
		{"dovecot-sdbox-notify-tls", realFor, labOptions{start: sdbox, watch: "notify", tls: true}},
		{"dovecot-sdbox-push", realFor, labOptions{start: sdbox, watch: "push", events: true, lose: 2}},
		{"dovecot-sdbox-push-compressed", realFor, labOptions{start: sdbox, watch: "push", events: true, lose: 2, compress: true}},
		{"dovecot-sdbox-idle-lost-compressed", 0, labOptions{start: sdbox, watch: "idle", breaks: true, compress: true}},
		{"dovecot-sdbox-push-shared", realFor, labOptions{start: sdbox, watch: "push", events: true, lose: 2, shared: true}},
		{"dovecot-sdbox-across", realFor, labOptions{across: apartDovecots, watch: "idle"}},
		{"dovecot-sdbox-comparison", realFor, labOptions{start: dovecot("sdbox", onlyIMAP4rev1), watch: "idle", plain: true}},
		{"dovecot-sdbox-moves-idle", realFor, labOptions{pair: dovecots("sdbox"), watch: "idle"}},
		{"dovecot-sdbox-moves-notify", 0, labOptions{pair: dovecots("sdbox"), watch: "notify"}},
		{"dovecot-maildir-direct", 0, labOptions{start: maildir, maildir: true}},
		{"dovecot-maildir-idle", 0, labOptions{start: maildir, maildir: true, watch: "idle"}},
		{"dovecot-maildir-push", realFor, labOptions{start: maildir, maildir: true, watch: "push", events: true, lose: 2}},

		{"cyrus-direct", 0, labOptions{start: cyrus}},
		{"cyrus-idle-tls", realFor, labOptions{start: cyrus, watch: "idle", tls: true}},
		{"cyrus-idle-lost", realFor, labOptions{start: cyrus, watch: "idle", breaks: true}},
		{"cyrus-idle-compressed", 0, labOptions{start: cyrus, watch: "idle", compress: true}},
		{"cyrus-push", realFor, labOptions{start: cyrus, watch: "push", events: true, lose: 2}},

		{"mox-direct", 0, labOptions{start: mox, calm: true, staleFlags: true}},
		{"mox-idle", realFor, labOptions{start: mox, calm: true, staleFlags: true, watch: "idle"}},
		{"mox-notify-tls", realFor, labOptions{start: mox, calm: true, staleFlags: true, watch: "notify", tls: true}},

		// Sessions of Courier lock each other out for minutes at times, those that watch for parked ones as well.
		{"courier-direct", 0, labOptions{start: courier, calm: true, plain: true, slowIdle: true, patience: 3 * time.Minute, settle: 4 * time.Minute}},
		{"courier-comparison", 0, labOptions{start: courier, calm: true, watch: "poll", plain: true, slowIdle: true, patience: 3 * time.Minute, settle: 4 * time.Minute}},
	}
}
