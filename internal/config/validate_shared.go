package config

import "strings"

// shared checks shared mailboxes.
func (d *decoder) shared(c *Config) {
	s := c.Shared
	if s == nil {
		return
	}
	if c.Routing.Storage == "shared" && !d.failed["routing.storage"] {
		d.fail(d.at("shared"), "shared: with routing.storage = \"shared\" each backend has all mailboxes and lists those that users share itself", "remove the block")
	}
	if d.failed["shared.namespace"] {
		return
	}
	n := s.Namespace
	if len(n) < 2 || len(n) > 64 || !strings.HasSuffix(n, "/") && !strings.HasSuffix(n, ".") || strings.ContainsAny(n[:len(n)-1], n[len(n)-1:]) ||
		strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\%*&(){]`, r) }) || strings.EqualFold(n[:len(n)-1], "INBOX") {
		d.fail(d.at("shared.namespace"), "shared.namespace: it is one level of the hierarchy with the backends' separator behind it", "write namespace = \"shared/\", or \"shared.\" where the backends separate by a point")
	}
}
