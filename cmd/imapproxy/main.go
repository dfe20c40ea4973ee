// Command imapproxy is an IMAP proxy, to whose hostname all mail clients of a provider connect. See the
// README for what it does and config.hcl for its settings.
//
// This package has the flags, the verbs and what they print, one file per verb, and what is
// the process's own: signals, memory, core dumps. What serves is internal/app, and what the
// settings mean to each package is internal/wiring.
//
// Imports docs, internal/admin, internal/app, internal/config, internal/dev,
// internal/handover, internal/task, internal/wiring, proxy, proxy/auth,
// proxy/imapclient, proxy/park, proxy/park/resync, proxy/session, proxy/upstream,
// proxy/wire, routing, routing/agree, routing/cluster, routing/discovery and
// telemetry. Imported by none.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"imapproxy/internal/config"
)

// commandLine has the verbs. Each verb's flags are in its own file.
type commandLine struct {
	Serve      serveCommand      `cmd:"" help:"Run the proxy. SIGHUP reloads the configuration, SIGTERM drains and ends."`
	Dev        devCommand        `cmd:"" help:"Run a proxy for trying out: with backends in the process and the users alice, bob and carol; needs no installation."`
	Check      checkCommand      `cmd:"" help:"Check the configuration, then test everything that it names: Consul, each backend, TLS, a login."`
	Status     statusCommand     `cmd:"" help:"Show the state of a running proxy."`
	Backends   backendsCommand   `cmd:"" help:"The backends of a running proxy: state, users, sessions."`
	Sessions   sessionsCommand   `cmd:"" help:"The sessions of a running proxy."`
	Bill       billCommand       `cmd:"" help:"What parking saves: connections and processes of backends, memory, logins; now, this hour, this day."`
	Events     eventsCommand     `cmd:"" help:"What has changed: backends, reloads with old and new values, certificates, what operators did."`
	Ended      endedCommand      `cmd:"" help:"The last 1,000 sessions that have ended, and why."`
	Failing    failingCommand    `cmd:"" help:"Who has failed to log in within 15 minutes: addresses, networks, users."`
	Slow       slowCommand       `cmd:"" help:"The last slow commands, and where their time went."`
	Commands   commandsCommand   `cmd:"" help:"One session's last 20 commands, where their time went, and when it was parked."`
	Top        topCommand        `cmd:"" help:"What happens now, in a terminal: problems, backends, the busiest users, the slowest commands."`
	Proxies    proxiesCommand    `cmd:"" help:"The proxies of the service: version, state, sessions, and whether their settings are the same."`
	User       userCommand       `cmd:"" help:"Where a user is and why: sessions on all proxies, pin, placement, last failures."`
	Config     configCommand     `cmd:"" help:"The settings of a running proxy, without secrets, and whether they are those of its file."`
	Kick       kickCommand       `cmd:"" help:"End a user's sessions, one session, or all on a backend."`
	Drain      drainCommand      `cmd:"" help:"Move a backend's users away, for all proxies, with their sessions connected; it holds until undrain."`
	Undrain    undrainCommand    `cmd:"" help:"End a drain: the backend takes users again."`
	Pause      pauseCommand      `cmd:"" help:"Hold a backend's sessions and logins while it is restarted, for all proxies; no client is disconnected, and no user is moved."`
	Resume     resumeCommand     `cmd:"" help:"End a pause: the backend's sessions go on."`
	Upgrade    upgradeCommand    `cmd:"" help:"Start the installed program in place of the running one: no client is refused, and sessions go on in the old process."`
	Move       moveCommand       `cmd:"" help:"Move one user to a backend, or with --auto back to where all others would go."`
	Flush      flushCommand      `cmd:"" help:"Forget a user's pin, warm connections and cached credentials: a changed password holds at once."`
	Explain    explainCommand    `cmd:"" help:"What a reason means (why a session ended, why it isn't parked), and what to do."`
	Completion completionCommand `cmd:"" help:"Print a script that has a shell complete verbs and flags."`
	Man        manCommand        `cmd:"" help:"Print the manual page: imapproxy man | man -l -"`
	Version    versionCommand    `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

func main() {
	memory := manageMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: the first one's handler is gone by then.
	context.AfterFunc(ctx, stop)
	code := run(environment{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr, stdin: os.Stdin, hangups: hangups}, os.Args[1:])
	memory.end()
	os.Exit(code)
}

// hangups are the process' SIGHUPs. One that comes while another is being dealt with
// isn't lost; a third would tell nothing new.
func hangups() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

// run parses and executes one command line and returns the exit code.
func run(env environment, args []string) (code int) {
	exited := -1
	parser, err := grammar(env, func(code int) { exited = code }) // after --help
	if err != nil {
		fmt.Fprintln(env.stderr, "imapproxy:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(env.stderr, "imapproxy: %v\n%s --help shows the commands and flags.\n", err, verbOf(err))
		return exitUsage
	}
	err = parsed.Run(env)
	var said failure
	var wrong config.Errors
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return said.code
	case errors.As(err, &wrong):
		for _, one := range wrong {
			fmt.Fprintln(env.stderr, one.Error())
		}
		fmt.Fprintf(env.stderr, "%s. config.hcl in imapproxy's source explains every setting.\n", count(len(wrong), "mistake"))
		return exitUsage
	default:
		fmt.Fprintln(env.stderr, "imapproxy:", err)
		return exitFailed
	}
}

// verbOf returns the command line up to the verb in whose arguments or flags a mistake is.
func verbOf(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		if node := wrong.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "imapproxy"
}

// grammar returns the parser of command lines, from which --help, completion and the manual page are made. exit is
// called after --help and --version.
func grammar(env environment, exit func(code int)) (*kong.Kong, error) {
	return kong.New(&commandLine{},
		kong.Name("imapproxy"),
		kong.Description("An IMAP proxy that finds backends in Consul, pins users to them and relays every extension unchanged."),
		kong.Writers(env.stdout, env.stderr),
		kong.Exit(exit),
		kong.Vars{"version": versionLine()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
}
