package admin

import "time"

// Config is GET /v1/config: the running configuration, and what differs in its file.
type Config struct {
	File string `json:"file"` // its path; "": the configuration isn't from a file
	// Since is when the running settings were read: at the start, or at the last reload that succeeded.
	Since  time.Time `json:"since"`
	Digest string    `json:"digest"` // of Text
	Text   string    `json:"text"`   // every setting, as in a file; secrets are redacted
	Disk   *Disk     `json:"disk"`   // null: the configuration isn't from a file
}

// Disk is the configuration's file as it is now.
type Disk struct {
	// Same says that a reload would change nothing, and that no change waits for a restart.
	Same   bool   `json:"same"`
	Error  string `json:"error"`  // the first mistake in the file, with its place; "": a reload would succeed as far as the file says
	Digest string `json:"digest"` // as Config.Digest, if the file's settings were the running ones; "": it has mistakes
	// Changes are the settings that differ, by name.
	Changes []ConfigChange `json:"changes"`
	// Files are those that settings name and that were written after they were read.
	Files []ChangedFile `json:"files"`
}

// ChangedFile is a file of certificates, secrets or users that was written after it was read.
type ChangedFile struct {
	Path        string `json:"path"`
	NeedRestart bool   `json:"need_restart"` // a reload doesn't read it
}

// ConfigChange is a setting that differs between the running configuration and its file.
type ConfigChange struct {
	Setting     string `json:"setting"`      // listener.imaps.address
	NeedRestart bool   `json:"need_restart"` // a reload can't apply it
}
