package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// attribute evaluates one setting, checks it by its tags and stores it.
func (d *decoder) attribute(path string, f schemaField, attr *hclsyntax.Attribute, field reflect.Value) {
	value, diags := attr.Expr.Value(d.ctx)
	if diags.HasErrors() {
		d.failed[path] = true
		for _, diag := range diags {
			d.expression(path, f, attr, diag)
		}
		return
	}
	if !value.IsWhollyKnown() {
		d.failed[path] = true
		d.fail(attr.SrcRange, path+" can't be computed from what the file knows", "write the value itself")
		return
	}
	if value.IsNull() {
		return // null is how an expression says 'the default'
	}
	if err := setValue(field, value); err != nil {
		d.failed[path] = true
		d.fail(attr.Expr.Range(), path+": "+err.Error(), "%s", example(f))
		return
	}
	if what, instead := d.bounds(f, field); what != "" {
		d.failed[path] = true
		d.fail(attr.Expr.Range(), path+": "+what, "%s", instead)
		return
	}
	if f.Tag.Get("path") != "" && field.String() != "" {
		field.SetString(d.resolve(field.String()))
		switch kind := f.Tag.Get("path"); kind {
		case "own", "socket":
			d.writable(path, attr.Expr.Range(), field.String(), kind)
			return
		}
		d.readable(path, f, attr.Expr.Range(), field.String())
	}
}

// expression replaces HCL's text about an expression if the package's own is more helpful.
func (d *decoder) expression(path string, f schemaField, attr *hclsyntax.Attribute, diag *hcl.Diagnostic) {
	at := attr.Expr.Range()
	if diag.Subject != nil {
		at = *diag.Subject
	}
	if len(attr.Expr.Variables()) > 0 && strings.Contains(diag.Summary, "ariable") {
		d.bare(path, f, attr)
		return
	}
	what, instead := path+": "+diag.Summary, strings.ReplaceAll(diag.Detail, "\n", " ")
	// The detail of a failed call is: Invalid value for "name" parameter: <our words>.
	if _, ours, ok := strings.Cut(diag.Detail, "parameter: "); ok {
		what, instead = path+": "+strings.TrimSuffix(ours, "."), "set the variable, or write the value itself"
		if strings.Contains(ours, "file") || strings.Contains(ours, "read") {
			instead = "correct the name, or write the value itself"
		}
		if strings.Contains(ours, mayNotRead) {
			instead = "let the proxy's user read it (chgrp and chmod g+r), or write the value itself"
		}
	} else if strings.Contains(diag.Summary, "unknown function") {
		instead = "the functions are env(\"NAME\") and file(\"PATH\")"
	}
	d.fail(at, what, "%s", instead)
}

// bare reports a value that HCL takes for the name of a variable.
func (d *decoder) bare(path string, f schemaField, attr *hclsyntax.Attribute) {
	at := attr.Expr.Range()
	text := strings.TrimSpace(string(at.SliceBytes(d.src)))
	if !textual(f.Type) {
		d.fail(at, fmt.Sprintf("%s: %s isn't a value of it", path, text), "%s", example(f))
		return
	}
	instead := example(f)
	if _, _, fix, ok := unquoted(attr.Name + " = " + text); ok {
		instead = fix
	}
	d.fail(at, fmt.Sprintf("%s: %s stands there without quotes", path, text), "%s", instead)
}

// setValue converts an HCL value strictly: text needs quotes; a number, true and false mustn't have them.
func setValue(field reflect.Value, value cty.Value) error {
	switch field.Interface().(type) {
	case string, time.Duration, Percent, Size:
		if value.Type() != cty.String {
			return fmt.Errorf("%s isn't text in quotes", shown(value))
		}
		return setText(field, value.AsString())
	case bool:
		if value.Type() != cty.Bool {
			return fmt.Errorf("%s is neither true nor false", shown(value))
		}
		field.SetBool(value.True())
		return nil
	case int:
		if value.Type() != cty.Number {
			return fmt.Errorf("%s isn't a number", shown(value))
		}
		n, accuracy := value.AsBigFloat().Int64()
		if accuracy != big.Exact || n > math.MaxInt32 || n < math.MinInt32 {
			return fmt.Errorf("%s isn't a whole number of a sensible size", shown(value))
		}
		field.SetInt(n)
		return nil
	case []string, []netip.Prefix:
		texts, err := list(value)
		if err != nil {
			return err
		}
		return setList(field, texts)
	case map[string]string:
		t := value.Type()
		if !t.IsObjectType() && !t.IsMapType() {
			return errors.New("this isn't a group of names and values in braces")
		}
		m := map[string]string{}
		for it := value.ElementIterator(); it.Next(); {
			k, v := it.Element()
			if v.IsNull() || v.Type() != cty.String {
				return fmt.Errorf("the value of %q isn't text in quotes", k.AsString()) // not shown: it may be a secret
			}
			m[k.AsString()] = v.AsString()
		}
		field.Set(reflect.ValueOf(m))
		return nil
	}
	panic("a setting of type " + field.Type().String() + " has no conversion")
}

// list is the texts of an HCL list.
func list(value cty.Value) ([]string, error) {
	t := value.Type()
	if !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return nil, fmt.Errorf("%s isn't a list", shown(value))
	}
	texts := []string{}
	for it := value.ElementIterator(); it.Next(); {
		_, v := it.Element()
		if v.IsNull() || v.Type() != cty.String {
			return nil, fmt.Errorf("%s isn't text in quotes", shown(v))
		}
		texts = append(texts, v.AsString())
	}
	return texts, nil
}

func setList(field reflect.Value, texts []string) error {
	if field.Type() == reflect.TypeFor[[]string]() {
		for _, text := range texts {
			if text == "" {
				return errors.New("an empty text in the list")
			}
		}
		field.Set(reflect.ValueOf(texts))
		return nil
	}
	networks := []netip.Prefix{}
	for _, text := range texts {
		network, err := parseNetwork(text)
		if err != nil {
			return err
		}
		networks = append(networks, network)
	}
	field.Set(reflect.ValueOf(networks))
	return nil
}

// setText reads a setting from its text: the value between quotes, or a default.
func setText(field reflect.Value, text string) error {
	switch field.Interface().(type) {
	case string:
		field.SetString(text)
	case time.Duration:
		t, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q isn't a duration", text)
		}
		field.SetInt(int64(t))
	case Percent:
		share, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
		if err != nil || !strings.HasSuffix(text, "%") || !(share >= 0 && share <= 100) {
			return fmt.Errorf("%q isn't a share between 0%% and 100%%", text)
		}
		field.SetFloat(share / 100)
	case Size:
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		field.SetInt(int64(n))
	case bool:
		field.SetBool(text == "true")
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q isn't a number", text)
		}
		field.SetInt(int64(n))
	case []string, []netip.Prefix:
		return setList(field, []string{}) // lists default to empty
	case map[string]string:
		field.Set(reflect.ValueOf(map[string]string{}))
	default:
		panic("a setting of type " + field.Type().String() + " has no text")
	}
	return nil
}

// parseNetwork takes 10.0.0.0/8 and, for a single host, 10.0.0.1.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, fmt.Errorf("%q isn't a network", text)
	}
	if network != network.Masked() {
		return network, fmt.Errorf("%q has bits beyond its length (the network is %q)", text, network.Masked())
	}
	return network, nil
}

// bounds checks enum, min and max.
func (d *decoder) bounds(f schemaField, field reflect.Value) (what, instead string) {
	if enum, ok := f.Tag.Lookup("enum"); ok {
		values := strings.Split(enum, "|")
		for _, v := range values {
			if v == field.String() {
				return "", ""
			}
		}
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = strconv.Quote(v)
		}
		return fmt.Sprintf("%q isn't a value of it", field.String()), "write one of " + strings.Join(quoted, ", ")
	}
	for _, tag := range []string{"min", "max"} {
		text, ok := f.Tag.Lookup(tag)
		if !ok {
			continue
		}
		bound := reflect.New(field.Type()).Elem()
		if err := setText(bound, text); err != nil {
			panic(fmt.Sprintf("the %s of %s can't be read: %v", tag, f.name, err))
		}
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			text = strconv.Quote(text) // durations and shares stand in quotes
		}
		order := 0
		if field.CanFloat() {
			order = cmp.Compare(field.Float(), bound.Float())
		} else {
			order = cmp.Compare(field.Int(), bound.Int())
		}
		if tag == "min" && order < 0 {
			return fmt.Sprintf("%v is too little", field.Interface()), "write " + text + " or more"
		}
		if tag == "max" && order > 0 {
			return fmt.Sprintf("%v is too much", field.Interface()), "write " + text + " or less"
		}
	}
	return "", ""
}

// readable checks that a file is there and isn't empty. It warns if other users may write or replace the
// file, and, for a secret, if all users of the machine may read it. The content isn't kept, so that a Config
// contains no secret: the part that uses the file reads it again.
func (d *decoder) readable(path string, f schemaField, at hcl.Range, name string) {
	text, err := readFile(name)
	if err != nil {
		d.failed[path] = true
		instead := "correct the name or create the file (relative names are relative to the folder of this file)"
		if errors.Is(err, fs.ErrPermission) {
			instead = letRead(name)
		}
		d.fail(at, path+": "+err.Error(), "%s", instead)
		return
	}
	kind := f.Tag.Get("path")
	if kind != "users" && len(strings.TrimSpace(string(text))) == 0 {
		d.failed[path] = true
		d.fail(at, path+": "+name+" is empty", "write the content into it")
		return
	}
	info, err := os.Stat(name)
	if err != nil {
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o022 != 0: // a user who can write it decides who may log in
		d.warn(at, path+": users other than its owner may write "+name, "chmod go-w "+name)
	case kind != "cert" && mode&0o004 != 0:
		d.warn(at, path+": every user of this machine may read "+name, "chmod o= "+name)
	}
	// A user who can write the folder can replace the file.
	folder := filepath.Dir(name)
	if info, err := os.Stat(folder); err == nil && info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
		d.warn(at, path+": users other than its owner may write "+folder+", and so replace "+name, "chmod go-w "+folder)
	}
}

// writable checks that the proxy could make a file of its own: there is a folder for it,
// and nothing else has its name; kind is "own" or "socket". Nothing is written.
func (d *decoder) writable(path string, at hcl.Range, name, kind string) {
	if kind == "socket" && len(name) > maxSocketPath {
		d.failed[path] = true
		d.fail(at, fmt.Sprintf("%s: %s has %d bytes, and the path of a socket has %d at most", path, name, len(name), maxSocketPath), "name a shorter path")
		return
	}
	folder := filepath.Dir(name)
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail(at, fmt.Sprintf("%s: there is no folder %s", path, folder), "create it, owned by the proxy's user (install -d -o imapproxy -m 750 %s), or correct the name", folder)
	case err != nil:
		d.fail(at, fmt.Sprintf("%s: %s can't be looked at: %v", path, folder, errors.Unwrap(err)), "let the proxy's user enter the folder, or name another one")
	case !info.IsDir():
		d.fail(at, fmt.Sprintf("%s: %s isn't a folder", path, folder), "correct the name")
	default:
		file, err := os.Stat(name)
		switch {
		case err != nil, kind == "own" && file.Mode().IsRegular(), kind == "socket" && file.Mode().Type() == fs.ModeSocket:
			return
		case kind == "socket":
			d.fail(at, fmt.Sprintf("%s: %s isn't a socket", path, name), "name a path that isn't used; the proxy creates it")
		default:
			d.fail(at, fmt.Sprintf("%s: %s isn't a file", path, name), "name a file; the proxy creates it")
		}
	}
	d.failed[path] = true
}

// maxSocketPath is how long the path of a unix socket may be, in bytes: 107, less what stands behind it while the socket is made.
const maxSocketPath = 103

// example returns an example value of a field.
func example(f schemaField) string {
	text, ok := f.Tag.Lookup("default")
	if !ok {
		return "write " + f.Tag.Get("required")
	}
	switch reflect.New(f.Type).Elem().Interface().(type) {
	case string:
		if enum, ok := f.Tag.Lookup("enum"); ok && text == "" {
			_, text, _ = strings.Cut(enum, "|")
			text, _, _ = strings.Cut(text, "|")
		}
		if text == "" {
			text = "…"
		}
		return fmt.Sprintf("write %s = %q", f.name, text)
	case time.Duration:
		return fmt.Sprintf("write a number and its unit (ms, s, m, h), for example %s = %q", f.name, text)
	case Percent:
		return fmt.Sprintf("write it with its sign, for example %s = %q", f.name, text)
	case Size:
		return fmt.Sprintf("write a number and its unit (kB, MB, GB, or KiB, MiB, GiB), for example %s = \"4MiB\"", f.name)
	case bool:
		return fmt.Sprintf("write %s = true or %s = false", f.name, f.name)
	case int:
		return fmt.Sprintf("write it without quotes, for example %s = %s", f.name, text)
	case []string:
		return fmt.Sprintf("write %s = [\"one\", \"two\"]", f.name)
	case []netip.Prefix:
		return fmt.Sprintf("write networks, for example %s = [\"10.0.0.0/8\", \"2001:db8::/32\"]", f.name)
	case map[string]string:
		return fmt.Sprintf("write %s = { \"name\" = \"value\" }", f.name)
	}
	return ""
}

// shown returns a value in the form for errors.
func shown(value cty.Value) string {
	switch {
	case value.IsNull():
		return "null"
	case value.Type() == cty.String:
		return strconv.Quote(value.AsString())
	case value.Type() == cty.Number:
		return value.AsBigFloat().Text('g', 10)
	case value.Type() == cty.Bool:
		return strconv.FormatBool(value.True())
	default:
		return "a " + value.Type().FriendlyName()
	}
}
