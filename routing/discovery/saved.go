package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"imapproxy/routing"
)

// The file in which the last good set of backends is kept.
const (
	savedFormat  = "imapproxy backends"
	savedVersion = 1
	maxSavedFile = 16 << 20 // bytes; 10,000 backends take about 4 MB
)

// SavedSet is the last good set of backends as it is kept in a file.
type SavedSet struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Of says which service's instances they are (ConsulOptions.savedOf): a file isn't
	// used for another one.
	Of       string         `json:"of"`
	Saved    time.Time      `json:"saved"` // when the set was last confirmed
	Backends []savedBackend `json:"backends"`
}

// savedBackend is a backend in the file. The format is the file's own, so that a change
// of routing.Backend doesn't change it by the way.
type savedBackend struct {
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"` // absent in files of earlier releases; then it is the id
	Service    string   `json:"service,omitempty"`
	Address    string   `json:"address"`
	Weight     int      `json:"weight"`
	State      string   `json:"state"`
	Reason     string   `json:"reason,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	TLS        string   `json:"tls,omitempty"`
	ServerName string   `json:"server_name,omitempty"`
	Datacenter string   `json:"datacenter,omitempty"`
	Node       string   `json:"node,omitempty"`
}

// ErrUnusable is wrapped by ReadSaved's error where there is a file whose content can't
// be used.
var ErrUnusable = errors.New("can't be used")

// ReadSaved reads and checks the file. The error says what is wrong and what to do; it
// wraps fs.ErrNotExist where there is no file yet, ErrUnusable where its content or its
// permissions are wrong.
func ReadSaved(path, of string) (routing.Snapshot, error) {
	var none routing.Snapshot
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe of that name mustn't hang
	if err != nil {
		return none, err
	}
	defer f.Close()
	if err := trusted(f, path); err != nil {
		return none, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSavedFile+1))
	if err != nil {
		return none, err
	}
	if len(text) > maxSavedFile {
		return none, fmt.Errorf("%s %w: it has more than %d bytes; remove it", path, ErrUnusable, maxSavedFile)
	}
	var set SavedSet
	if err := json.Unmarshal(text, &set); err != nil {
		return none, fmt.Errorf("%s %w: %w; remove it; the proxy writes a new one at Consul's next answer", path, ErrUnusable, err)
	}
	s, err := set.snapshot(of)
	if err != nil {
		return none, fmt.Errorf("%s %w: %w; remove it; the proxy writes a new one at Consul's next answer", path, ErrUnusable, err)
	}
	return s, nil
}

// trusted refuses a file that another user of the machine could have written: it says
// where passwords are sent.
func trusted(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s %w: it isn't a file", path, ErrUnusable)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s %w: other users may write it; chmod go-w %s", path, ErrUnusable, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s %w: it belongs to user id %d, not to the proxy's user; remove it", path, ErrUnusable, st.Uid)
	}
	return nil
}

// snapshot checks the set and makes it routing's.
func (set *SavedSet) snapshot(of string) (routing.Snapshot, error) {
	s := routing.Snapshot{Source: consulSource, Saved: set.Saved}
	switch {
	case set.Format != savedFormat:
		return s, fmt.Errorf("it isn't a file of imapproxy's (format %q)", clip(set.Format, 40))
	case set.Version != savedVersion:
		return s, fmt.Errorf("its version is %d, this proxy reads %d", set.Version, savedVersion)
	case set.Of != of:
		return s, fmt.Errorf("it is about %s, and the configuration names %s", clip(set.Of, 200), of)
	case set.Saved.IsZero():
		return s, errors.New("it doesn't say when it was saved")
	case len(set.Backends) == 0:
		return s, errors.New("it names no backend")
	}
	if now := time.Now(); set.Saved.After(now) { // a clock that was set back; an age isn't negative
		s.Saved = now
	}
	seen := make(map[string]bool, len(set.Backends))
	for _, b := range set.Backends {
		if err := b.valid(); err != nil {
			return s, fmt.Errorf("its backend %q: %w", clip(b.ID, 60), err)
		}
		if seen[b.ID] {
			return s, fmt.Errorf("its backend %q is there twice", clip(b.ID, 60))
		}
		seen[b.ID] = true
		r := routing.Backend{ID: b.ID, Name: b.Name, Service: b.Service, Address: b.Address, Weight: b.Weight, Reason: b.Reason, Tags: b.Tags, TLS: b.TLS,
			ServerName: b.ServerName, Datacenter: b.Datacenter, Node: b.Node}
		if err := r.State.UnmarshalText([]byte(b.State)); err != nil {
			return s, fmt.Errorf("its backend %q: %w", clip(b.ID, 60), err)
		}
		s.Backends = append(s.Backends, r)
	}
	return s, nil
}

// valid checks what routing and a dial rely on.
func (b savedBackend) valid() error {
	host, port, err := net.SplitHostPort(b.Address)
	number, numErr := strconv.Atoi(port)
	switch {
	case b.ID == "":
		return errors.New("it has no id")
	case err != nil || numErr != nil || !isHost(host) || number < 0 || number > 65535:
		return fmt.Errorf("%q isn't an address", clip(b.Address, 60))
	case b.Weight < 0 || b.Weight > 65535:
		return fmt.Errorf("the weight is %d", b.Weight)
	case !slices.Contains([]string{"", "none", "starttls", "implicit"}, b.TLS):
		return fmt.Errorf("tls is %q", clip(b.TLS, 40))
	}
	return nil
}

// encode returns the file's text. It leaves out invalid registrations (which are down):
// ReadSaved would refuse the whole file.
func encode(of string, saved time.Time, backends []routing.Backend) ([]byte, error) {
	set := SavedSet{Format: savedFormat, Version: savedVersion, Of: of, Saved: saved.UTC(), Backends: []savedBackend{}}
	for _, b := range backends {
		one := savedBackend{ID: b.ID, Name: b.Name, Service: b.Service, Address: b.Address, Weight: b.Weight, State: b.State.String(),
			Reason: b.Reason, Tags: b.Tags, TLS: b.TLS, ServerName: b.ServerName, Datacenter: b.Datacenter, Node: b.Node}
		if one.valid() == nil {
			set.Backends = append(set.Backends, one)
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", " ")
	err := e.Encode(set)
	return text.Bytes(), err
}

// writeFile replaces the file in one step: a reader sees the old text or the new
// one, also after a loss of power. Its mode is 0600.
func writeFile(path string, text []byte) (err error) {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
