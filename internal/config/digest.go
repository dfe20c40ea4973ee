package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// machines are the settings that differ from one proxy of a service to the next, and those that
// may hold a secret themselves. Digest leaves them out.
var machines = []string{
	"hostname", "listener.address", "admin.address", "park.events.address", "register.address", "backend_defaults.source_addresses", "cluster.peers",
	"telemetry.traces.headers", "telemetry.metrics.headers", "telemetry.log.headers", "discovery.consul.address", "discovery.consul.cache_file", "telemetry.log.file",
	"auth.http.url", "auth.http.headers", "auth.sql.dsn",
}

// Digest returns a short digest of the settings: proxies of one service with the same behaviour have the same
// digest. Files count by their last name, not by content, so that no secret is in it.
func Digest(c *Config) string {
	h := sha256.New()
	digest(h, "", "", reflect.ValueOf(c).Elem())
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// digest writes each setting below a struct; path has the blocks' names, here those of the schema alone.
func digest(w io.Writer, path, here string, v reflect.Value) {
	for _, f := range schema(v.Type()) {
		field := v.FieldByIndex(f.Index)
		path, here := join(path, f.name), join(here, f.name)
		switch {
		case f.kind == kindLabel || slices.Contains(machines, here):
		case f.kind == kindAttr:
			value := plain(field)
			if f.Tag.Get("path") != "" && value != "" {
				value = filepath.Base(value)
			}
			fmt.Fprintf(w, "%s=%q\n", path, value)
		case field.Kind() == reflect.Pointer:
			if !field.IsNil() {
				fmt.Fprintf(w, "%s\n", path)
				digest(w, path, here, field.Elem())
			}
		case field.Kind() == reflect.Slice:
			for i := range field.Len() {
				one := field.Index(i)
				name := fmt.Sprint(i)
				if label, ok := labelOf(one.Type()); ok {
					name = one.FieldByIndex(label.Index).String()
				}
				fmt.Fprintf(w, "%s.%s\n", path, name)
				digest(w, join(path, name), here, one)
			}
		default:
			digest(w, path, here, field)
		}
	}
}

// plain is a setting's value as text. Maps are written in the order of their keys.
func plain(v reflect.Value) string {
	if networks, ok := v.Interface().([]netip.Prefix); ok {
		var all []string
		for _, n := range networks {
			all = append(all, n.String())
		}
		return strings.Join(all, " ")
	}
	return fmt.Sprintf("%v", v.Interface())
}
