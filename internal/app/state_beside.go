package app

import (
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/handover"
	"imapproxy/internal/task"
	"imapproxy/routing/pair"
)

// beside is what a process has to do with the other processes of this proxy: its predecessor while it takes over, its
// successor once it is succeeded, and those before it that still serve sessions. nil: the settings have no socket for it.
//
// What each process does is in beside_new.go and beside_old.go. Steps that change an App's parts are made in Run's goroutine.
type beside struct {
	path  string
	table *pair.Table // nil: the agreement of all proxies decides where users are
	steps chan func() // for Run's goroutine
	ended chan struct{}
	still chan struct{} // closed when Run's goroutine makes no more steps
	over_ chan struct{} // receives when this process has left and has nothing more to do

	listener *handover.Listener   // the goroutine of Open and Run replaces it; where there is none, waiting makes one
	waiting  *task.Task           // for other processes
	leaving  *task.Task           // server.Leave; nil: it doesn't leave
	kept     *handover.Sockets    // from the successor's trial on: for the case that it ends early; Run's goroutine has them
	taken    chan struct{}        // of size 1: full while a successor has asked, and not gone away
	silence  time.Duration        // how long a successor that has asked may say nothing
	asks     time.Duration        // how long one that was started may take to ask
	alone    time.Duration        // how long no other process may be seen to serve before this one serves again
	starting chan struct{}        // of size 1: full while `imapproxy upgrade`, which has had a successor started, waits for it
	passed   atomic.Bool          // the successor accepts the clients
	to       atomic.Int64         // the successor's process, where passed
	up       atomic.Pointer[link] // to the successor; it may be broken
	orphaned atomic.Bool          // the successor has one of its own
	handing  atomic.Bool          // a successor serves, on trial or for good
	talking  sync.WaitGroup       // connections
	ends     ends

	first bool // this is process 1

	// Processes of this machine, which may end at any time.
	find func(pid int) (*handover.Process, error)
	kill func(*handover.Process) error

	// Guards what follows; nothing waits under it.
	mu    sync.Mutex
	older []*older
	conns map[*handover.Conn]bool
}

// besideClaim is the right of a connection to exist.
type besideClaim struct {
	of            *beside
	user, backend string
	released      atomic.Bool
}

// link carries messages to another process in their order; adding one never waits. It implements pair.Successor. Where too many wait, it
// gives the connection up.
type link struct {
	k     *handover.Conn
	mu    sync.Mutex // guards what follows
	queue []handover.Message
	more  chan struct{} // of size 1
	done  *task.Task
}

// older is a process before this one, which still serves sessions.
type older struct {
	pid       int
	link      atomic.Pointer[link] // to it; it may be broken, and is replaced when the process has connected again
	signs     *task.Task           // tells it that this process is starting
	processes []*handover.Process  // itself, and those before it, which hear watches; the list doesn't change
	version   string
	users     *pair.Predecessor          // nil: the agreement of all proxies decides
	begun     chan struct{}              // closed when it has said where it has users
	left      chan struct{}              // closed when it doesn't accept any more
	ended     chan struct{}              // closed when the processes have ended
	hearing   sync.Mutex                 // held while a connection to it is read; guards over
	over      bool                       // what it says doesn't count any more
	report    atomic.Pointer[leftReport] // what it said lately
}

// leftReport is what a process that leaves tells its successor every second.
type leftReport struct {
	// Processes are those that leave: the one that reports, and those before it.
	Processes []admin.Leaving
	// Connections is how many they have, by backend.
	Connections map[string]int
}

// Started is a process that was started to take over.
type Started struct {
	PID  int
	Wait func() error // waits for its end; called once
	Kill func() error // ends it at once
}

// successor is what this process knows of the one that takes over.
type successor struct {
	process *handover.Process
	sockets *handover.Sockets // those that it was sent, until it begins to serve on trial
	begun   bool              // it decides where users are
	ready   bool              // it has said that it serves
	broken  bool              // the connection to it has broken while it lived: what it said last may be lost
}
