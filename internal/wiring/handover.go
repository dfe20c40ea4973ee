package wiring

import (
	"path/filepath"

	"imapproxy/internal/config"
)

// HandoverSocket returns the path of the unix socket by which a process hands over to its successor: the setting, or a file in the
// folder that systemd makes for the unit (RuntimeDirectory=). "": there is none.
func HandoverSocket(c *config.Config, env func(string) string) string {
	if c.Shutdown.Socket != "" {
		return c.Shutdown.Socket
	}
	folder := env("RUNTIME_DIRECTORY") // systemd separates several by colons
	if list := filepath.SplitList(folder); len(list) > 0 {
		return filepath.Join(list[0], "handover.sock")
	}
	return ""
}
