package config

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// redacted stands in a Text in the place of a secret.
const redacted = "[redacted]"

// Text returns a configuration as a file: every setting with its value, defaults included, but for settings that are empty or off by
// default. Secrets are redacted: values of headers and data source names as a whole, names, passwords and parameters in URLs.
// Files with secrets are only named in a configuration.
//
// The text of a configuration without redacted values can be read again, and means the same.
func Text(c *Config) string {
	file := hclwrite.NewEmptyFile()
	writeBody(file.Body(), reflect.ValueOf(c).Elem())
	return string(hclwrite.Format(file.Bytes()))
}

// TextDigest returns a short digest of a Text. As secrets are redacted there, none can be guessed from it.
func TextDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}

// writeBody writes the settings and blocks of a struct: settings first, as they read best.
func writeBody(body *hclwrite.Body, v reflect.Value) {
	fields := schema(v.Type())
	for _, f := range fields {
		if f.kind == kindAttr && says(f, v.FieldByIndex(f.Index)) {
			body.SetAttributeValue(f.name, public(f, v.FieldByIndex(f.Index)))
		}
	}
	for _, f := range fields {
		if f.kind == kindAttr || f.kind == kindLabel {
			continue
		}
		field := v.FieldByIndex(f.Index)
		switch field.Kind() {
		case reflect.Slice:
			for i := range field.Len() {
				writeBlock(body, f, field.Index(i))
			}
		case reflect.Pointer:
			if !field.IsNil() {
				writeBlock(body, f, field.Elem())
			}
		default:
			content := hclwrite.NewEmptyFile() // a block without settings would be taken for one that lacks some
			if writeBody(content.Body(), field); len(content.Bytes()) > 0 {
				writeBlock(body, f, field)
			}
		}
	}
}

// writeBlock writes one block, with its label if it has one.
func writeBlock(body *hclwrite.Body, f schemaField, v reflect.Value) {
	if f.kind == kindVariants {
		for _, variant := range schema(v.Type()) {
			if content := v.FieldByIndex(variant.Index); !content.IsNil() {
				labels := []string{variant.name}
				if label, ok := labelOf(content.Type().Elem()); ok {
					if own := content.Elem().FieldByIndex(label.Index).String(); own != "" {
						labels = append(labels, own)
					}
				}
				writeBody(body.AppendNewBlock(f.name, labels).Body(), content.Elem())
			}
		}
		return
	}
	var labels []string
	if label, ok := labelOf(v.Type()); ok {
		labels = []string{v.FieldByIndex(label.Index).String()}
	}
	writeBody(body.AppendNewBlock(f.name, labels).Body(), v)
}

// says reports whether a Text has a line for a setting's value. It has one for numbers and durations of 0, which mean that there is no limit, or
// that something is off.
func says(f schemaField, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() > 0
	case reflect.Bool:
		return v.Bool() || f.Tag.Get("default") == "true"
	case reflect.String:
		return v.String() != ""
	}
	return true
}

// public returns a setting's value for a file, without secrets.
func public(f schemaField, v reflect.Value) cty.Value {
	hidden := f.Tag.Get("secret")
	switch value := v.Interface().(type) {
	case string:
		switch hidden {
		case "all":
			value = redacted
		case "url":
			value = publicURL(value)
		}
		return cty.StringVal(value)
	case time.Duration:
		return cty.StringVal(duration(value))
	case Size:
		return cty.StringVal(value.String())
	case Percent:
		return cty.StringVal(value.String())
	case bool:
		return cty.BoolVal(value)
	case int:
		return cty.NumberIntVal(int64(value))
	case []string:
		return texts(value)
	case []netip.Prefix:
		var all []string
		for _, network := range value {
			all = append(all, network.String())
		}
		return texts(all)
	case map[string]string:
		all := map[string]cty.Value{}
		for name, text := range value {
			if hidden != "" {
				text = redacted
			}
			all[name] = cty.StringVal(text)
		}
		return cty.ObjectVal(all)
	}
	panic("a setting of type " + v.Type().String() + " can't be written")
}

// texts returns a list for a file.
func texts(all []string) cty.Value {
	values := make([]cty.Value, len(all))
	for i, text := range all {
		values[i] = cty.StringVal(text)
	}
	return cty.TupleVal(values)
}

// publicURL returns a URL, or a host and port, without what may be a secret in it.
func publicURL(text string) string {
	if !strings.ContainsAny(text, "@?#") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return redacted
	}
	u.Fragment, u.RawFragment = "", ""
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	return u.String()
}

// duration returns a duration as one would write it: 1h, not 1h0m0s.
func duration(d time.Duration) string {
	text := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, end) {
			text = text[:len(text)-2]
		}
	}
	return text
}
