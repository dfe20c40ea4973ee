package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

// refreshSaved is how often an unchanged set is written again, so that the file has the time of the last
// confirmation.
const refreshSaved = 5 * time.Minute

// keeper saves the last good set of backends in a file, for a start while Consul can't be reached. A
// goroutine of its own writes the file, so that a disk that hangs blocks nothing else.
type keeper struct {
	path, of string
	tel      *telemetry.Telemetry
	refresh  time.Duration

	good chan kept // the newest good set that isn't written yet; capacity 1

	// Used by the goroutine of write.
	written []routing.Backend
	at      time.Time
	failure outage

	// unusable has an element if load found a file that can't be used: store then renames the file, since an
	// operator may want to see it.
	unusable chan struct{}
}

// kept is a good set with the time when it was learnt.
type kept struct {
	backends []routing.Backend
	at       time.Time
}

func newKeeper(path, of string, tel *telemetry.Telemetry) *keeper {
	return &keeper{path: path, of: of, tel: tel, refresh: refreshSaved, good: make(chan kept, 1), unusable: make(chan struct{}, 1),
		failure: outage{log: tel.Log, words: outageWords{"the set of backends can't be saved on disk", "the set of backends is saved on disk again", "discovery.consul.cache_file"}}}
}

// load reads the file for a start without Consul. It returns false if there is no usable file, and logs why.
func (k *keeper) load() (routing.Snapshot, bool) {
	s, err := ReadSaved(k.path, k.of)
	switch {
	case err == nil:
		return s, true
	case errors.Is(err, fs.ErrNotExist):
		k.tel.Log.Warn("there is no saved set of backends on disk yet: logins wait for Consul", "file", k.path)
		return s, false
	case errors.Is(err, ErrUnusable):
		select {
		case k.unusable <- struct{}{}:
		default:
		}
	}
	k.tel.Log.Error("the saved set of backends on disk can't be used: logins wait for Consul", "error", err)
	return s, false
}

// keep passes on a good set. It doesn't block: a set that isn't written yet is replaced. One goroutine calls
// it.
func (k *keeper) keep(backends []routing.Backend) {
	next := kept{slices.Clone(backends), time.Now()}
	select {
	case <-k.good:
	default:
	}
	k.good <- next
}

// write writes the kept sets, until ctx has ended and the last one is on disk.
func (k *keeper) write(ctx context.Context) {
	for {
		select {
		case next := <-k.good:
			k.store(next, false)
		case <-ctx.Done():
			select {
			case next := <-k.good:
				k.store(next, true)
			default:
			}
			return
		}
	}
}

// store writes a set if it differs from the one in the file, or if the file is older than refreshSaved. last:
// the proxy ends.
func (k *keeper) store(next kept, last bool) {
	same := slices.EqualFunc(k.written, next.backends, equalBackends)
	if same && !last && next.at.Sub(k.at) < k.refresh {
		return
	}
	text, err := encode(k.of, next.at, next.backends)
	if err == nil {
		err = k.replace(text)
	}
	if err != nil {
		k.failure.failed(fmt.Errorf("%w (the proxy's user must be able to write the folder; until then a start without Consul has an older set or none)", err))
		return
	}
	k.failure.worked()
	k.written, k.at = next.backends, next.at
}

// replace writes the file. A file that couldn't be read is renamed to FILE.unusable.
func (k *keeper) replace(text []byte) error {
	select {
	case <-k.unusable:
		if err := os.Rename(k.path, k.path+".unusable"); err == nil {
			k.tel.Log.Warn("the unusable file was renamed", "file", k.path+".unusable")
		}
	default:
	}
	return writeFile(k.path, text)
}

// equalBackends compares the data of two backends in the file.
func equalBackends(a, b routing.Backend) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Service == b.Service && a.Address == b.Address && a.Weight == b.Weight && a.State == b.State && a.Reason == b.Reason &&
		a.TLS == b.TLS && a.ServerName == b.ServerName && a.Datacenter == b.Datacenter && a.Node == b.Node && slices.Equal(a.Tags, b.Tags)
}
