package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"imapproxy/internal/admin"
)

type configCommand struct {
	adminFlags
	clusterFlag
}

// Run prints /v1/config.
func (c configCommand) Run(env environment) error {
	return askOneOrAll(env, c.adminFlags, c.clusterFlag, (*admin.Client).Config, showConfig, (*admin.Client).ClusterConfig, each(showConfig))
}

// showConfig prints the settings below comments that say where they are from.
func showConfig(w io.Writer, c admin.Config) error {
	from := "not from a file"
	if c.File != "" {
		from = "from " + c.File
	}
	lines := []string{fmt.Sprintf("%s, read %s ago, digest %s", from, ago(time.Since(c.Since)), c.Digest)}
	for _, line := range append(lines, diskWords(c.Disk)...) {
		fmt.Fprintln(w, "# "+dash(line))
	}
	_, err := fmt.Fprint(w, "\n", strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, c.Text))
	return err
}

// diskWords says how the file differs from the running configuration.
func diskWords(d *admin.Disk) (lines []string) {
	switch {
	case d == nil:
		return nil
	case d.Same:
		return []string{"the file has the same settings"}
	case d.Error != "":
		lines = append(lines, "THE FILE CAN'T BE LOADED: "+d.Error)
	case len(d.Changes) > 0:
		lines = append(lines, "THE FILE DIFFERS, its digest is "+d.Digest)
	}
	for _, c := range d.Changes {
		lines = append(lines, after(c.NeedRestart)+" changes "+c.Setting)
	}
	for _, f := range d.Files {
		lines = append(lines, after(f.NeedRestart)+" reads again "+f.Path+", which has changed")
	}
	return lines
}

// after says what applies a change: a restart, or a reload.
func after(restart bool) string {
	if restart {
		return "a restart"
	}
	return "a reload"
}
