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

// refreshSaved is how often an unchanged set is written again, so that the file says
// when it was last confirmed.
const refreshSaved = 5 * time.Minute

// keeper saves the last good set of backends in a file, for a start while Consul can't be reached. A
// goroutine of its own writes the file, so that a disk that hangs blocks nothing else.
type keeper struct {
	path, of string
	tel      *telemetry.Telemetry
	refresh  time.Duration

	good chan kept // the newest good set that isn't written yet; room for one

	// Of the goroutine that runs write.
	written []routing.Backend
	at      time.Time
	failure outage

	// unusable has an element where load found a file that can't be used: store sets it
	// aside then, since an operator may want to see it.
	unusable chan struct{}
}

// kept is a good set, and when it was learnt.
type kept struct {
	backends []routing.Backend
	at       time.Time
}

func newKeeper(path, of string, tel *telemetry.Telemetry) *keeper {
	return &keeper{path: path, of: of, tel: tel, refresh: refreshSaved, good: make(chan kept, 1), unusable: make(chan struct{}, 1),
		failure: outage{log: tel.Log, what: "discovery.consul.cache_file"}}
}

// load reads the file for a start without Consul; false where there is nothing to use,
// which is logged.
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

// keep hands over a good set. It doesn't block: a set that isn't written yet is
// replaced. It is called by one goroutine.
func (k *keeper) keep(backends []routing.Backend) {
	next := kept{slices.Clone(backends), time.Now()}
	select {
	case <-k.good:
	default:
	}
	k.good <- next
}

// write writes what is kept, until ctx ends and the last of it is on disk.
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

// store writes a set that differs from the one in the file, or that confirms it after
// a while; last is whether it is the proxy's end.
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

// replace writes the file; one that couldn't be read stays beside it as FILE.unusable.
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

// equalBackends compares what the file says of two backends.
func equalBackends(a, b routing.Backend) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Service == b.Service && a.Address == b.Address && a.Weight == b.Weight && a.State == b.State && a.Reason == b.Reason &&
		a.TLS == b.TLS && a.ServerName == b.ServerName && a.Datacenter == b.Datacenter && a.Node == b.Node && slices.Equal(a.Tags, b.Tags)
}
