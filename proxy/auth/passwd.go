package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"imapproxy/internal/fair"
)

// DefaultPoll is the default of PasswdFileOptions.Poll.
const DefaultPoll = time.Second

// PasswdFileOptions are the options of NewPasswdFile. The zero value works.
type PasswdFileOptions struct {
	Name string // of the source, in metrics and logs; empty: passwd_file

	// Names normalises the names in the file in the same way as those of clients.
	Names Names
	// Log gets a line for each reload and for each mistake in a new file. Nil: nothing is logged.
	Log *slog.Logger
	// Poll is the time between two looks at the file; 0 means DefaultPoll. A changed file is loaded if it is
	// the same at two looks, so that a file isn't read while it is written: a change takes effect after one
	// to two times Poll.
	Poll time.Duration
	// Hashing bounds concurrent hashes; nil means a bound for this source alone.
	Hashing *Hashing
	// Scram says what is done of SCRAM.
	Scram ScramOptions
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// PasswdFile is a Source that reads a passwd-file in Dovecot's format and follows its changes. A changed file
// is applied as a whole or not at all: if it has a bad line, the users stay as they were. Logins never wait
// for a reload.
type PasswdFile struct {
	path  string
	opts  PasswdFileOptions
	scram *Scram

	users   atomic.Pointer[table]
	changes atomic.Uint64 // how often users was replaced

	watch watch // used by the goroutine alone, once it runs

	// The goroutine runs run: NewPasswdFile starts it, Close calls stop and waits for stopped, which run
	// closes.
	stop    context.CancelFunc
	stopped chan struct{}
}

// watch is what the goroutine remembers between two looks.
type watch struct {
	judged  os.FileInfo // the file that was loaded or refused last; nil: look again
	seen    os.FileInfo // the file at the last look
	sum     [sha256.Size]byte
	problem string // the last error in reading the file, which is logged once
}

// NewPasswdFile reads the file and starts to follow it; Close stops that. The
// error lists all mistakes in the file, each as a LineError.
func NewPasswdFile(path string, opts PasswdFileOptions) (*PasswdFile, error) {
	p, err := openPasswdFile(path, opts)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.stopped = stop, make(chan struct{})
	go p.run(ctx)
	return p, nil
}

// openPasswdFile is NewPasswdFile without the goroutine.
func openPasswdFile(path string, opts PasswdFileOptions) (*PasswdFile, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Poll <= 0 {
		opts.Poll = DefaultPoll
	}
	if opts.Hashing == nil {
		opts.Hashing = NewHashing(0)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	p := &PasswdFile{path: path, opts: opts, scram: NewScram(opts.Scram)}
	src, info, err := readFile(path)
	if err != nil {
		return nil, err
	}
	t, err := parsePasswd(path, src, opts.Names)
	if err != nil {
		return nil, err
	}
	p.users.Store(t)
	t.show(p.scram)
	p.watch.sum = sha256.Sum256(src)
	// A file that was just written may be written again within the same tick of the file system's clock, so
	// it is read once more later.
	if opts.Now().Sub(info.ModTime()) > 2*opts.Poll {
		p.watch.judged = info
	}
	return p, nil
}

// Name implements Source.
func (p *PasswdFile) Name() string { return cmp.Or(p.opts.Name, "passwd_file") }

// Users returns how many users the file has.
func (p *PasswdFile) Users() int { return len(p.users.Load().users) }

// Placements returns how many users the file places on each backend, and under "" how many
// it places nowhere.
func (p *PasswdFile) Placements() map[string]int {
	all := make(map[string]int)
	for _, e := range p.users.Load().users {
		all[e.placement]++
	}
	return all
}

// Placed implements Placer.
func (p *PasswdFile) Placed(user string) (placement string, known bool) {
	t := p.users.Load()
	if e := t.users[user]; e != nil && e.user == "" {
		return e.placement, true
	}
	placement, known = t.placements[user]
	return placement, known
}

// PlacedUsers implements Lister.
func (p *PasswdFile) PlacedUsers(max int) (all []string) {
	for name, e := range p.users.Load().users {
		if e.placement != "" && e.user == "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all[:min(len(all), max)]
}

// Close stops following the file. It may be called more than once.
func (p *PasswdFile) Close() error {
	if p.stop != nil {
		p.stop()
		<-p.stopped
	}
	return nil
}

// Authenticate implements Source: Accepted, Rejected (bad_password,
// account_disabled), Unknown, or Unavailable when ctx ends before the password
// could be hashed.
func (p *PasswdFile) Authenticate(ctx context.Context, c Credentials) Verdict {
	t := p.users.Load()
	e := t.users[c.User]
	switch {
	case e == nil:
		return Unknown{}
	case e.password == nil:
		// Takes as long as a wrong password, so that the time doesn't show that an account is locked.
		if err := p.spend(ctx, t, c); err != nil {
			return Unavailable{err}
		}
		return Rejected{Reason: ReasonAccountDisabled}
	}
	ok, err := p.opts.Hashing.matches(ctx, e.password, c)
	switch {
	case err != nil:
		return Unavailable{err}
	case !ok:
		return Rejected{Reason: ReasonBadPassword}
	case e.nets != nil && !fair.In(e.nets, c.Client): // an address that isn't known is in none
		return Rejected{Reason: ReasonAccountDisabled}
	}
	return e.accepted()
}

// entryOf implements holder: a reload keeps the entries that didn't change.
func (p *PasswdFile) entryOf(user string, stamp any) (same, unknown bool) {
	e := p.users.Load().users[user]
	return e != nil && stamp == any(e), e == nil
}

func (p *PasswdFile) version() uint64 { return p.changes.Load() }

// Idle takes as long as a wrong password does, unless the file has no password.
func (p *PasswdFile) Idle(ctx context.Context, c Credentials) (spent bool, err error) {
	t := p.users.Load()
	return t.unknown != nil, p.spend(ctx, t, c)
}

func (p *PasswdFile) spend(ctx context.Context, t *table, c Credentials) error {
	if t.unknown == nil {
		return nil
	}
	_, err := p.opts.Hashing.matches(ctx, t.unknown, c)
	return err
}

// run looks at the file until ctx ends.
func (p *PasswdFile) run(ctx context.Context) {
	defer close(p.stopped)
	ticker := time.NewTicker(p.opts.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.look()
		}
	}
}

// look loads the file if it isn't the one that was loaded or refused last, and hasn't changed since the last
// look.
func (p *PasswdFile) look() {
	w := &p.watch
	info, err := os.Stat(p.path)
	if err != nil {
		w.seen = nil
		p.trouble(err)
		return
	}
	settled := same(w.seen, info)
	w.seen = info
	if !settled || same(w.judged, info) {
		return
	}
	src, info, err := readFile(p.path)
	if err != nil {
		if !errors.Is(err, errChanging) {
			p.trouble(err)
		}
		return
	}
	w.judged, w.problem = info, ""
	sum := sha256.Sum256(src)
	if sum == w.sum {
		return
	}
	w.sum = sum
	t, err := parsePasswd(p.path, src, p.opts.Names)
	if err != nil {
		p.report(err)
		return
	}
	t.keep(p.users.Load())
	before := p.users.Swap(t)
	t.show(p.scram)
	p.changes.Add(1)
	p.opts.Log.Info("passwd file reloaded", "path", p.path, "users", len(t.users), "users_before", len(before.users))
}

// trouble logs, once, that the file can't be read.
func (p *PasswdFile) trouble(err error) {
	if text := err.Error(); text != p.watch.problem {
		p.watch.problem = text
		p.opts.Log.Error("passwd file can't be read, its users stay as they were", "path", p.path, "error", text)
	}
}

// report logs each mistake in a new file.
func (p *PasswdFile) report(err error) {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		p.opts.Log.Error("passwd file has mistakes, its users stay as they were", "path", p.path, "error", err.Error())
	}
}

// errChanging: the file changed while it was read; the next look tries again.
var errChanging = errors.New("changed while it was read")

// readFile reads a whole file and its state.
func readFile(path string) ([]byte, os.FileInfo, error) {
	// Stat comes before Open, since opening a FIFO would wait for its writer.
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, &LineError{File: path, What: "not a regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, nil, err
	}
	if b.Len() > maxFile {
		return nil, nil, &LineError{File: path, What: fmt.Sprintf("larger than %d MiB", maxFile>>20)}
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !same(before, after) || after.Size() != int64(b.Len()) {
		return nil, nil, fmt.Errorf("%s: %w", path, errChanging)
	}
	return b.Bytes(), after, nil
}

// same says whether two looks saw the same file in the same state.
func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
