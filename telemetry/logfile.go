package telemetry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
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

// sink writes the log's lines to the current file, or to w if there is none, and counts the lines that can't
// be written: a full disk must not stay unnoticed. Write is called by one goroutine at a time.
type sink struct {
	w    io.Writer
	file atomic.Pointer[os.File] // nil: w
	lost *atomic.Int64           // lines whose write failed
	torn bool                    // only a part of the last line was written; the next one begins with a line end
}

// Write writes one line. A line that fails isn't tried again, the next one is.
func (s *sink) Write(line []byte) (int, error) {
	if s.torn {
		if _, err := s.write([]byte("\n")); err != nil {
			s.lost.Add(1)
			return 0, err
		}
		s.torn = false
	}
	n, err := s.write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.lost.Add(1)
		s.torn = n > 0
	}
	return n, err
}

// write writes to the current destination. If SwitchLog has just closed the file, it writes to the next one.
func (s *sink) write(text []byte) (int, error) {
	for {
		f := s.file.Load()
		if f == nil {
			return s.w.Write(text)
		}
		n, err := f.Write(text)
		if errors.Is(err, fs.ErrClosed) && s.file.Load() != f {
			continue
		}
		return n, err
	}
}
