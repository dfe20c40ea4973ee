package app

import (
	"os"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
)

// config returns the running configuration for the admin API, and reads its file again to compare them.
func (a *App) config() admin.Config {
	running := a.current.Load()
	text := config.Text(running.cfg)
	answer := admin.Config{File: a.opts.File, Since: running.since, Digest: config.TextDigest(text), Text: text}
	if a.opts.Config == nil {
		answer.Disk = a.onDisk(running)
	}
	return answer
}

// onDisk compares the running settings with the file.
func (a *App) onDisk(running *inForce) *admin.Disk {
	disk := &admin.Disk{Changes: []admin.ConfigChange{}, Files: []admin.ChangedFile{}}
	for _, f := range config.Files(running.cfg) {
		read := running.since
		if f.Restart {
			read = a.started
		}
		if info, err := os.Stat(f.Path); err == nil && info.ModTime().After(read) {
			disk.Files = append(disk.Files, admin.ChangedFile{Path: f.Path, NeedRestart: f.Restart})
		}
	}
	wanted, _, err := a.opts.load()
	if err != nil {
		disk.Error = inOneLine(err)
		return disk
	}
	next := config.Reloaded(running.cfg, wanted)
	keepAgreed(running.cfg, next)
	for _, c := range changesOf(running.cfg, wanted, next) {
		disk.Changes = append(disk.Changes, admin.ConfigChange{Setting: c.Path, NeedRestart: c.NeedsRestart})
	}
	disk.Digest = config.TextDigest(config.Text(wanted))
	disk.Same = len(disk.Changes) == 0 && len(disk.Files) == 0
	return disk
}
