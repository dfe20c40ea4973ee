package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// PlacementPrefix is the prefix of placements in Consul's KV. The value of imapproxy/placement/USER is the id
// of a backend.
const PlacementPrefix = "imapproxy/placement/"

const maxPlacement = 256 // bytes of a value

// PlacementKey returns the KV key for a user: the canonical name, url-escaped as in a path, so that a "/" in
// a name doesn't make a folder; "@" and "+" aren't escaped. It returns false for names for which Consul
// (since 1.22) accepts no key: names with a space, or with ".." and another escaped character. Such users
// can't be placed in KV.
func PlacementKey(user string) (string, bool) {
	key := url.PathEscape(user)
	switch {
	case user == "", user == ".", user == "..":
		return "", false
	case key != user && (strings.Contains(user, " ") || strings.Contains(user, "..")):
		return "", false
	}
	return PlacementPrefix + key, true
}

// Placement reads the user's placement from Consul's KV, consistently: a stale answer might send a user to
// the backend that had their mail before. It takes at most ConsulOptions.Call. A value that can't be an id is
// an error, since the operator meant to set a placement.
func (c *Consul) Placement(ctx context.Context, user string) (string, bool, error) {
	key, ok := PlacementKey(user)
	if !ok {
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.Call)
	defer cancel()
	q := (&api.QueryOptions{}).WithContext(ctx)
	pair, _, err := c.kv.get().KV().Get(key, q)
	if err != nil {
		if denied(err) {
			c.kv.refused()
		}
		return "", false, fmt.Errorf("placement from consul: %s", clip(err.Error(), 300))
	}
	if pair == nil {
		return "", false, nil
	}
	id := strings.TrimSpace(string(pair.Value))
	if id == "" || len(id) > maxPlacement || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' }) {
		return "", false, fmt.Errorf("placement from consul: the value of %s is not a backend's id", pair.Key)
	}
	return id, true, nil
}

// Placed implements PlacementLister. It takes at most ConsulOptions.Call.
func (c *Consul) Placed(ctx context.Context, max int) (users []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Call)
	defer cancel()
	keys, _, err := c.kv.get().KV().Keys(PlacementPrefix, "", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		if denied(err) {
			c.kv.refused()
		}
		return nil, fmt.Errorf("placements from consul: %s", clip(err.Error(), 300))
	}
	for _, key := range keys { // in order
		user, err := url.PathUnescape(strings.TrimPrefix(key, PlacementPrefix))
		if err == nil && user != "" && len(users) < max {
			users = append(users, user)
		}
	}
	return users, nil
}

// ErrNotPlaced is the error of Place where the placement isn't what it was taken for.
var ErrNotPlaced = errors.New("the placement in consul is another one by now")

// Place changes the user's placement in Consul's KV from one value to another, if it is still the first one; from = "" makes a
// placement where there is none. It takes at most ConsulOptions.Call.
func (c *Consul) Place(ctx context.Context, user, from, to string) error {
	key, ok := PlacementKey(user)
	switch {
	case !ok:
		return errors.New("placement in consul: no key can have the user's name")
	case to == "" || len(to) > maxPlacement || strings.ContainsFunc(to, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("placement in consul: %q isn't valid", clip(to, 60))
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.Call)
	defer cancel()
	kv := c.kv.get().KV()
	failed := func(err error) error {
		if denied(err) {
			c.kv.refused()
		}
		return fmt.Errorf("placement in consul: %s", clip(err.Error(), 300))
	}
	pair, _, err := kv.Get(key, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	switch {
	case err != nil:
		return failed(err)
	case pair == nil && from == "":
		pair = &api.KVPair{Key: key} // with the index 0, which CAS takes only where there is no key
	case pair == nil || strings.TrimSpace(string(pair.Value)) != from:
		return ErrNotPlaced
	}
	pair.Value = []byte(to)
	written, _, err := kv.CAS(pair, (&api.WriteOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return failed(err)
	case !written:
		return ErrNotPlaced
	}
	return nil
}
