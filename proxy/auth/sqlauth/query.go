package sqlauth

import (
	"errors"
	"fmt"
	"strings"
)

// query is a statement with placeholders, as the database wants it, and which part of the user's name stands
// for each. A name is never part of the statement.
type query struct {
	text string
	args []byte // 'u', 'n' or 'd'
}

// parseQuery replaces %u, %n and %d outside of quotes by the driver's placeholders. %% is a percent sign;
// any other stays as it is (the modulo operator, LIKE).
func parseQuery(driver, text string) (query, error) {
	var q query
	var b strings.Builder
	var quote byte // that a literal or a name ends with
	for i := 0; i < len(text); i++ {
		c := text[i]
		part := byte(0)
		if c == '%' && i+1 < len(text) && strings.IndexByte("und", text[i+1]) >= 0 && (i+2 == len(text) || !word(text[i+2])) {
			part = text[i+1]
		}
		switch {
		case part != 0 && quote != 0:
			return q, fmt.Errorf("%%%c is in quotes: write it without quotes, since it is sent as a parameter", part)
		case part != 0:
			q.args = append(q.args, part)
			b.WriteString(placeholder(driver, len(q.args)))
			i++
			continue
		case c == '%' && quote == 0 && i+1 < len(text) && text[i+1] == '%':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"' || c == '`'):
			quote = c
		}
		b.WriteByte(c)
	}
	if len(q.args) == 0 {
		return q, errors.New("no %u, %n or %d is in it: it would find the same row for all users")
	}
	q.text = b.String()
	return q, nil
}

func placeholder(driver string, n int) string {
	if driver == Postgres {
		return fmt.Sprintf("$%d", n)
	}
	return "?"
}

func word(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// values are the parts of a user's name for the placeholders: all of it, what stands before the last @, and
// what stands behind it.
func (q query) values(user string) []any {
	local, domain := user, ""
	if i := strings.LastIndexByte(user, '@'); i >= 0 {
		local, domain = user[:i], user[i+1:]
	}
	all := make([]any, len(q.args))
	for i, part := range q.args {
		all[i] = map[byte]string{'u': user, 'n': local, 'd': domain}[part]
	}
	return all
}
