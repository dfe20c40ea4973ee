package ldapauth

import (
	"fmt"
	"strings"
)

// expand puts a user's name into a template, each part escaped: %u is the name, %n what stands before
// the last @, %d what stands behind it, %D the DN, %% a percent sign.
func expand(template, user, dn string, escape func(string) string) (string, error) {
	local, domain := user, ""
	if i := strings.LastIndexByte(user, '@'); i >= 0 {
		local, domain = user[:i], user[i+1:]
	}
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '%' {
			b.WriteByte(template[i])
			continue
		}
		if i++; i == len(template) {
			return "", fmt.Errorf("a %% at the end: write %%%%")
		}
		switch template[i] {
		case 'u':
			b.WriteString(escape(user))
		case 'n':
			b.WriteString(escape(local))
		case 'd':
			b.WriteString(escape(domain))
		case 'D':
			if dn == "" {
				return "", fmt.Errorf("%%D has no meaning here: the DN isn't known yet")
			}
			b.WriteString(escape(dn))
		case '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("%%%c means nothing: write %%u, %%n, %%d, or %%%% for a percent sign", template[i])
		}
	}
	return b.String(), nil
}
