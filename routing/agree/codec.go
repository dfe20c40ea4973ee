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
			return nil, fmt.Errorf("%w: user %q doesn't belong in this key", ErrForeign, clip(user))
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
