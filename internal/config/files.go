package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
)

// maxFile bounds what is read as a configuration, or by file(), in bytes: a
// path that points at a device or a mailbox must not fill the memory.
const maxFile = 1 << 20

// readFile reads a regular file of bounded size. Its errors don't name the path
// twice and never quote the content.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, notReadable{path}
	case err != nil:
		return nil, fmt.Errorf("%s can't be read: %w", path, errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s isn't a file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, notReadable{path}
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, errors.Unwrap(err))
	}
	return src, nil
}

// notReadable is a file that is there, or may be, and that the proxy's user may not read.
type notReadable struct{ path string }

// mayNotRead is the text of a notReadable.
const mayNotRead = "may not be read by the user that runs this"

func (e notReadable) Error() string {
	return fmt.Sprintf("%s %s (%s)", e.path, mayNotRead, self())
}

// Is says that a notReadable is an fs.ErrPermission.
func (e notReadable) Is(target error) bool { return target == fs.ErrPermission }

// self names the process' user.
func self() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("user id %d", os.Geteuid())
}

// letRead says what to do about a file that may not be read: about its folder where
// that may not be entered, else about the file.
func letRead(path string) string {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrPermission) {
		return "let the user that runs the proxy enter the folder " + filepath.Dir(path) + " (chgrp and chmod g+x, with each folder above it)"
	}
	return fmt.Sprintf("let the user that runs the proxy read it: chgrp imapproxy %s && chmod g+r %s", path, path)
}
