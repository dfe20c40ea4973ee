package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A value without its quotes is the commonest mistake in a file, and HCL reads it as
// an expression: imap.example.org is an attribute of an attribute of a variable, 30m a
// number and the beginning of something else. What is said about it goes by the text of
// the line, which is what was meant.

// settingLine matches a line with one setting: its name and what stands behind the =.
var settingLine = regexp.MustCompile(`^\s*([a-z_]+)\s*=\s*(.*?)\s*$`)

// comment matches a comment at the end of a line that holds no quotes.
var comment = regexp.MustCompile(`\s*(?:#|\s//).*$`)

// unquoted reads a line whose value should stand in quotes and doesn't. It returns the
// setting's name, what stands there and what should; false where the line is something
// else, or where the value is an expression that could be meant.
func unquoted(line string) (name, text, instead string, ok bool) {
	m := settingLine.FindStringSubmatch(line)
	if m == nil || strings.ContainsAny(m[2], `"(`) {
		return "", "", "", false
	}
	name, text = m[1], strings.TrimSpace(comment.ReplaceAllString(m[2], ""))
	list := strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]")
	if text == "" || strings.ContainsAny(text, "{}<") || text == "true" || text == "false" || text == "null" {
		return "", "", "", false
	}
	if list {
		var all []string
		for _, one := range strings.Split(text[1:len(text)-1], ",") {
			if one = strings.Trim(strings.TrimSpace(one), "'"); one != "" {
				all = append(all, strconv.Quote(one))
			}
		}
		return name, text, fmt.Sprintf("write %s = [%s]", name, strings.Join(all, ", ")), len(all) > 0
	}
	return name, text, fmt.Sprintf("write %s = %s", name, strconv.Quote(strings.Trim(text, "'"))), true
}

// settingNamed finds a setting of this name anywhere in the schema, one that takes text
// before others: which block a broken line is in isn't known.
func settingNamed(name string) (found schemaField, ok bool) {
	walkSchema(reflect.TypeFor[Config](), "", func(_ string, f schemaField) {
		if f.kind == kindAttr && f.name == name && (!ok || textual(f.Type)) {
			found, ok = f, true
		}
	})
	return found, ok
}

// textual reports whether values of a type stand in quotes.
func textual(t reflect.Type) bool {
	switch reflect.New(t).Elem().Interface().(type) {
	case string, time.Duration, Percent, Size, []string, []netip.Prefix:
		return true
	}
	return false
}

// lineOf is a line of the source, counted from 1; "" beyond its end.
func lineOf(src []byte, line int) string {
	lines := strings.SplitN(string(src), "\n", line+1)
	if line < 1 || line > len(lines) {
		return ""
	}
	return lines[line-1]
}
