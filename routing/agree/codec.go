package agree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// Errors of the decoding. They are wrapped in a sentence that says what is wrong.
var (
	// ErrForeign means that no proxy wrote the value.
	ErrForeign = errors.New("not a value of imapproxy's")
	// ErrNewer means that a later release wrote the value, in a format that this release doesn't know.
	ErrNewer = errors.New("written by a later release of imapproxy")
)

// DecodeFleet reads the value of the key `fleet`.
func DecodeFleet(value []byte) (*Fleet, error) {
	f := new(Fleet)
	if err := decode(value, f); err != nil {
		return nil, err
	}
	if err := f.valid(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if err := f.keepUnknown(value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return f, nil
}

// DecodeRecord reads the value of the key proxies/ID.
func DecodeRecord(id string, value []byte) (*Record, error) {
	r := new(Record)
	if err := decode(value, r); err != nil {
		return nil, err
	}
	if err := r.valid(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return r, nil
}

// DecodeOverrides reads the value of the key overrides/NN.
func DecodeOverrides(shard int, value []byte) (*Overrides, error) {
	o := new(Overrides)
	if err := decode(value, o); err != nil {
		return nil, err
	}
	if o.Users == nil {
		return nil, fmt.Errorf("%w: it has no users", ErrForeign)
	}
	if len(o.Users) > maxOverrides {
		return nil, fmt.Errorf("%w: it has %d users", ErrForeign, len(o.Users))
	}
	for user, backend := range o.Users {
		if err := errors.Join(validName(user), validName(backend)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrForeign, err)
		}
		if shardOf(user) != shard {
			return nil, fmt.Errorf("%w: user %q doesn't belong into this key", ErrForeign, clip(user))
		}
	}
	return o, nil
}

// decode distinguishes a later format from a foreign value before it looks at the other fields, which may
// differ in a later format. It ignores fields that it doesn't know: a later release may add fields to the
// same format.
func decode(value []byte, into any) error {
	if len(value) > maxValue {
		return fmt.Errorf("%w: it has %d bytes", ErrForeign, len(value))
	}
	var head struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	switch {
	case head.Format == nil:
		return fmt.Errorf("%w: it names no format", ErrForeign)
	case *head.Format > Format:
		return fmt.Errorf("%w: its format is %d, this release knows %d", ErrNewer, *head.Format, Format)
	case *head.Format < 1:
		return fmt.Errorf("%w: its format is %d", ErrForeign, *head.Format)
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return nil
}

// valid checks everything that other code relies on.
func (f *Fleet) valid() error {
	switch {
	case f.Epoch == 0:
		return errors.New("its epoch is 0")
	case f.Buckets < 1 || f.Buckets > routing.Buckets || routing.Buckets%f.Buckets != 0:
		return fmt.Errorf("it has %d buckets", f.Buckets)
	case f.Users == "":
		return errors.New("it doesn't say how users are normalised")
	case len(f.Backends) > maxBackends || len(f.Drains) > maxBackends || len(f.Pauses) > maxBackends:
		return fmt.Errorf("it has %d backends, %d drains and %d pauses", len(f.Backends), len(f.Drains), len(f.Pauses))
	case len(f.Kept) == 0 || len(f.Kept) > maxKept:
		return fmt.Errorf("it keeps %d fleets", len(f.Kept))
	case f.Kept[len(f.Kept)-1].Epoch != f.Epoch:
		return errors.New("the last fleet that it keeps isn't its own")
	case f.Move.Cycle < 0 || f.Move.Slow < 0 || f.Move.Slow > 1<<40 || f.Move.Pause < 0 || f.Move.Begin < 0 || f.Move.Users < 0 || f.Move.Users > 1<<50 || f.Move.Cycle > 1<<40 || f.Move.Pause > 1<<40 || f.Move.Begin > 1<<50:
		return errors.New("its schedule of moves is out of range")
	}
	if _, err := routing.ParseStorage(f.Storage); err != nil {
		return err
	}
	for i := range f.Backends {
		b := &f.Backends[i]
		if err := validName(b.ID); err != nil {
			return err
		}
		if i > 0 && f.Backends[i-1].ID >= b.ID {
			return errors.New("its backends aren't sorted by id")
		}
		if b.Weight < 0 || b.Weight > 65535 || b.Address == "" {
			return fmt.Errorf("its backend %q has the weight %d and the address %q", clip(b.ID), b.Weight, clip(b.Address))
		}
	}
	for i := range f.Kept {
		k := &f.Kept[i]
		if i > 0 && f.Kept[i-1].Epoch+1 != k.Epoch || k.Epoch == 0 {
			return errors.New("the fleets that it keeps aren't in order")
		}
		if err := k.valid(); err != nil {
			return fmt.Errorf("fleet %d: %w", k.Epoch, err)
		}
	}
	for i := range f.Drains {
		if err := f.Drains[i].valid(); err != nil {
			return err
		}
		if i > 0 && f.Drains[i-1].Backend >= f.Drains[i].Backend {
			return errors.New("its drains aren't sorted by backend")
		}
	}
	for i := range f.Pauses {
		if err := f.Pauses[i].valid(); err != nil {
			return err
		}
		if i > 0 && f.Pauses[i-1].Backend >= f.Pauses[i].Backend {
			return errors.New("its pauses aren't sorted by backend")
		}
	}
	if !slices.Equal(f.newest().Up, upOf(f.Backends)) {
		return errors.New("its own entry among the fleets that it keeps differs from its backends")
	}
	return nil
}

func (k *Kept) valid() error {
	if k.Made == "" || len(k.Up) > maxBackends || len(k.Changes) > maxOverrides {
		return errors.New("it lacks its maker, or is too large")
	}
	for i, s := range k.Up {
		if err := validName(s.ID); err != nil {
			return err
		}
		if s.Weight < 0 || s.Weight > 65535 || i > 0 && k.Up[i-1].ID >= s.ID {
			return errors.New("its backends aren't sorted, or have no valid weight")
		}
	}
	for _, c := range k.Changes {
		if err := validName(c.User); err != nil {
			return err
		}
		if c.From == c.To || len(c.From) > maxName || len(c.To) > maxName {
			return fmt.Errorf("its change for %q is none", clip(c.User))
		}
	}
	return nil
}

func (r *Record) valid(id string) error {
	switch {
	case r.ID != id || validName(id) != nil:
		return fmt.Errorf("it says that it is of proxy %q", clip(r.ID))
	case r.Acked == 0 || r.Seq == 0 || r.Made == "":
		return errors.New("it acks no fleet")
	case r.TTL < minTTL.Milliseconds() || r.TTL > 24*time.Hour.Milliseconds():
		return fmt.Errorf("its session's TTL is %d ms", r.TTL)
	case len(r.Buckets) > maxBackends || len(r.Users) > maxNamedStays || len(r.Unreachable) > maxBackends:
		return errors.New("it names too many stays or backends")
	}
	var seen Bitmap
	for backend, buckets := range r.Buckets {
		if err := validName(backend); err != nil {
			return err
		}
		for bucket := range buckets.All {
			if bucket >= routing.Buckets || seen.Has(bucket) {
				return fmt.Errorf("bucket %d is out of range, or at two backends", bucket)
			}
			seen.set(bucket)
		}
	}
	for user, backend := range r.Users {
		if err := errors.Join(validName(user), validName(backend)); err != nil {
			return err
		}
	}
	for _, backend := range r.Unreachable {
		if err := validName(backend); err != nil {
			return err
		}
	}
	return nil
}

// validName checks a user's name or an id.
func validName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("%q is neither a name nor an id", clip(name))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// Encode returns the JSON text of a Fleet, a Record or Overrides. A text that is too long for Consul is an
// error.
func Encode(value any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	out := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	if f, ok := value.(*Fleet); ok {
		out = f.withUnknown(out)
	}
	if len(out) > maxValue {
		return nil, fmt.Errorf("a value of %d bytes is more than the %d that a key may have", len(out), maxValue)
	}
	return out, nil
}

// keepUnknown keeps the fields of a fleet's value that this release doesn't know, so that the fleets made
// from this one have them too: while two releases run side by side, the older one doesn't remove what the
// later one has added.
func (f *Fleet) keepUnknown(value []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(value, &all); err != nil {
		return err
	}
	t := reflect.TypeFor[Fleet]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		maps.DeleteFunc(all, func(field string, _ json.RawMessage) bool { return strings.EqualFold(field, name) })
	}
	if len(all) > 0 {
		f.unknown = all
	}
	return nil
}

// withUnknown adds the fields that keepUnknown has kept to the text of a fleet.
func (f *Fleet) withUnknown(text []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(f.unknown)) {
		quoted, err := json.Marshal(name)
		if err != nil {
			continue // can't happen: the name comes from decoded JSON
		}
		text = append(text[:len(text)-1], ',')
		text = append(append(append(text, quoted...), ':'), f.unknown[name]...)
		text = append(text, '}')
	}
	return text
}
