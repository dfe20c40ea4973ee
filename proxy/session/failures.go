package session

import (
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru"
)

// What is remembered of failures: of so many users, the last ones of each.
const (
	failedUsers    = 1024
	failuresOfUser = 5
	maxFailureText = 200 // bytes
)

// A Failure is a login or a resume of a user's that came to nothing, for people.
type Failure struct {
	Time    time.Time
	What    string // login, resume
	Reason  string
	Client  string // address and port
	Backend string // "": none was asked
	Error   string
}

// failures remembers users' last failures. Names that clients make up push others out.
type failures struct {
	mu    sync.Mutex // guards the lists; no I/O under it
	users *lru.Cache // of []Failure, the latest first; nil until there is one
}

// note remembers one. No password is in an error's text.
func (f *failures) note(user string, one Failure) {
	if len(one.Error) > maxFailureText {
		one.Error = one.Error[:maxFailureText]
	}
	one.Error = strings.ToValidUTF8(one.Error, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == nil {
		users, err := lru.New(failedUsers)
		if err != nil {
			return // the size is a constant, and one that can be
		}
		f.users = users
	}
	all := []Failure{one}
	if before, ok := f.users.Get(user); ok {
		all = append(all, before.([]Failure)...)
	}
	f.users.Add(user, all[:min(len(all), failuresOfUser)])
}

// Failures are the last failures of a user, the latest first.
func (r *Registry) Failures(user string) []Failure {
	r.failures.mu.Lock()
	defer r.failures.mu.Unlock()
	if r.failures.users == nil {
		return nil
	}
	if all, ok := r.failures.users.Peek(user); ok {
		return all.([]Failure) // never changed once stored
	}
	return nil
}
