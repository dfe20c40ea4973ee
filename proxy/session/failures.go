package session

import (
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru"
)

// Bounds of the failures that are remembered: how many users, and how many per user.
const (
	failedUsers    = 1024
	failuresOfUser = 5
	maxFailureText = 200 // bytes
)

// A Failure is a failed login or resume of a user, for the admin page.
type Failure struct {
	Time    time.Time
	What    string // login, resume
	Reason  string
	Client  string // address and port
	Backend string // "" if no backend was asked
	Error   string
}

// failures remembers users' last failures. Names that clients invent may displace others.
type failures struct {
	mu    sync.Mutex // guards the lists; no I/O under it
	users *lru.Cache // of []Failure, the latest first; nil until there is one
}

// note records a failure. The text of an error contains no password.
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
			return // can't happen: the size is a positive constant
		}
		f.users = users
	}
	all := []Failure{one}
	if before, ok := f.users.Get(user); ok {
		all = append(all, before.([]Failure)...)
	}
	f.users.Add(user, all[:min(len(all), failuresOfUser)])
}
