package telemetry

import (
	"fmt"
	"os"
)

// LogFile is an open file for the log.
type LogFile struct{ f *os.File }

// OpenLogFile opens the file for appending, and creates it (mode 0640) if it doesn't
// exist. For "" it returns nil, which means Options.LogWriter. The caller passes it
// to SwitchLog, or closes it.
func OpenLogFile(path string) (*LogFile, error) {
	if path == "" {
		return nil, nil
	}
	// Opening a pipe would wait for its reader.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s isn't a file", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	return &LogFile{f}, nil
}

// Close closes a file that wasn't passed to SwitchLog. On nil it does nothing.
func (l *LogFile) Close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}

// SwitchLog writes the log to another file (nil: to Options.LogWriter) from the next line
// on, and closes the previous file. No line is lost or cut.
func (t *Telemetry) SwitchLog(l *LogFile) {
	if t.sink == nil {
		_ = l.Close() // a Discard writes no lines
		return
	}
	var f *os.File
	if l != nil {
		f = l.f
	}
	if old := t.sink.file.Swap(f); old != nil && old != f {
		_ = old.Close() // each of its lines was written, or counted as lost
	}
}
