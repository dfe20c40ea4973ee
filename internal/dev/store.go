package dev

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

//go:embed mail/*.eml
var mail embed.FS // files, not state

// newsletters is how many messages the Archive begins with: enough that a
// client pages.
const newsletters = 60

// folders returns the initial folders of each user, all subscribed.
func folders() []string {
	return []string{"INBOX", "Sent", "Drafts", "Trash", "Archive", "Projects", "Projects/2026"}
}

// letter is an initial message of a user.
type letter struct {
	folder, file string
	age          time.Duration
	flags        []imap.Flag
}

func letters() []letter {
	const day = 24 * time.Hour
	seen := []imap.Flag{imap.FlagSeen}
	all := []letter{
		{"INBOX", "welcome", 9 * day, seen},
		{"INBOX", "thread2", 4 * day, []imap.Flag{imap.FlagSeen, imap.FlagAnswered}},
		{"INBOX", "lunch", 3 * day, nil},
		{"INBOX", "report", 26 * time.Hour, []imap.Flag{imap.FlagFlagged}},
		{"INBOX", "forwarded", 2 * time.Hour, nil},
		{"Sent", "thread1", 5 * day, seen},
		{"Drafts", "draft", time.Hour, []imap.Flag{imap.FlagSeen, imap.FlagDraft}},
		{"Projects/2026", "thread1", 5 * day, seen},
		{"Projects/2026", "thread2", 4 * day, seen},
	}
	for n := range newsletters {
		all = append(all, letter{"Archive", "newsletter", time.Duration(newsletters-n) * 7 * day, seen})
	}
	return all
}

// store has the mail of all users, and the number of their logged-in sessions.
type store struct {
	server *imapmemserver.Server
	users  map[string]*imapmemserver.User // not changed once made

	mu     sync.Mutex     // guards online
	online map[string]int // sessions that are logged in, by user
}

func (s *store) connections(user string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online[user]
}

func (s *store) count(user string, delta int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online[user] += delta
}

func (s *store) deliver(user string, at time.Time) error {
	u, ok := s.users[user]
	if !ok {
		return fmt.Errorf("there is no user %q", user)
	}
	return letter{folder: "INBOX", file: "lunch"}.deliver(u, user, 0, at)
}

// newSession returns a session of the memory server that is counted while it is logged in.
func (s *store) newSession() imapserver.Session {
	inner, ok := s.server.NewSession().(imapserver.SessionIMAP4rev2)
	if !ok {
		panic("dev: go-imap's memory server has lost MOVE or NAMESPACE") // the build decides it
	}
	return &session{SessionIMAP4rev2: inner, store: s}
}

// session is one connection's. imapserver calls it from one goroutine.
type session struct {
	imapserver.SessionIMAP4rev2
	store *store
	user  string // "" before login
}

// Login implements imapserver.Session.
func (s *session) Login(user, password string) error {
	err := s.SessionIMAP4rev2.Login(user, password)
	if err == nil {
		s.user = user
		s.store.count(user, 1)
	}
	return err
}

// Close implements imapserver.Session.
func (s *session) Close() error {
	if s.user != "" {
		s.store.count(s.user, -1)
		s.user = ""
	}
	return s.SessionIMAP4rev2.Close()
}

// newStore makes the users and their mail, whose age is counted from now.
func newStore(now time.Time) (*store, error) {
	s := &store{server: imapmemserver.New(), users: map[string]*imapmemserver.User{}, online: map[string]int{}}
	for _, name := range Users() {
		u := imapmemserver.NewUser(name, name)
		for _, f := range folders() {
			if err := u.Create(f, nil); err != nil {
				return nil, fmt.Errorf("%s of %s: %w", f, name, err)
			}
			if err := u.Subscribe(f); err != nil {
				return nil, fmt.Errorf("%s of %s: %w", f, name, err)
			}
		}
		for n, l := range letters() {
			if err := l.deliver(u, name, n, now.Add(-l.age)); err != nil {
				return nil, err
			}
		}
		s.server.AddUser(u)
		s.users[name] = u
	}
	return s, nil
}

func (l letter) deliver(u *imapmemserver.User, name string, n int, at time.Time) error {
	text, err := mail.ReadFile("mail/" + l.file + ".eml")
	if err != nil {
		return err
	}
	body := strings.NewReplacer(
		"\r\n", "\r\n", "\n", "\r\n",
		"{user}", name, "{name}", strings.ToUpper(name[:1])+name[1:],
		"{date}", at.Format(time.RFC1123Z), "{number}", strconv.Itoa(n),
	).Replace(string(text))
	_, err = u.Append(l.folder, literal{strings.NewReader(body)}, &imap.AppendOptions{Flags: l.flags, Time: at})
	return err
}

// literal is a message as imapserver hands them over.
type literal struct{ *strings.Reader }

// Size implements imap.LiteralReader.
func (l literal) Size() int64 { return l.Reader.Size() }

// Users are the fleet's users; each one's password is the name.
func Users() []string { return []string{"alice", "bob", "carol"} }
