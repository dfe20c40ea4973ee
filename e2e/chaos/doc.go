// Package chaos has the proof that all proxies together have a user on one backend: three Consul servers and their
// agents, three proxies (processes) and three Dovecots on one folder of mail, each in a network namespace of its own. Users log in and
// out through all proxies, park and work, while one part after another is killed, stopped, cut off or drained. What the Dovecots
// log of logins and logouts, and of commands, gives the verdict; the proxies aren't asked.
//
// TestMain runs the tests in a network namespace, so that nothing of them is seen outside; all namespaces end with the
// processes in them. That takes CAP_NET_ADMIN and CAP_SYS_ADMIN: where servers are prepared and these aren't there, the tests fail.
//
// CHAOS_MINUTES=30 goes on with faults at random for so long; CHAOS_SEED repeats their order, CHAOS_ISOLATED=serve runs the proxies
// with the other setting, CHAOS_USERS and CHAOS_SESSIONS size the load. CHAOS_FAULTS=drain,stop
// takes these faults alone. CHAOS_KEEP names a folder for the logs of a run that has failed. The package has tests only.
//
// Imports e2e/servers and internal/imaptest. Imported by none.
package chaos
