package dev

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

//go:embed mail/*.eml
var mail embed.FS // files, not state

// newsletters is how many messages the Archive begins with: enough that a
// client pages.
const newsletters = 60

// folders are what each user begins with, subscribed all.
func folders() []string {
	return []string{"INBOX", "Sent", "Drafts", "Trash", "Archive", "Projects", "Projects/2026"}
}

// letter is one message that a user begins with.
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

// newStore makes the users and their mail, whose age is counted from now.
func newStore(now time.Time) (*imapmemserver.Server, error) {
	store := imapmemserver.New()
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
		store.AddUser(u)
	}
	return store, nil
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
