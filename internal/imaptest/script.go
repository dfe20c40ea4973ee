package imaptest

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

// A Script is a parsed transcript.
type Script struct {
	Name     string
	Requires []string // capabilities, from "require" lines
	steps    []step
	files    map[string][]byte
}

// A step is one line of a transcript.
type step struct {
	line int    // in the file, from 1
	cond string // "", "dovecot" or "!dovecot"
	verb string // see parseStep
	conn string // "" or "1", "2", …
	arg  string
}

const (
	stepSend      = "C"
	stepRaw       = "C-raw"
	stepStartTLS  = "C-starttls"
	stepCompress  = "C-compress"
	stepHalfClose = "C-halfclose"
	stepClose     = "C-close"
	stepReset     = "C-reset"

	stepExpect    = "S"
	stepOptional  = "S?"
	stepUnordered = "S|"
	stepEOF       = "S-eof"
	stepQuiet     = "S-quiet"

	// these are the scripted backend's own
	stepServerRaw       = "S-raw"
	stepServerClose     = "S-close"
	stepServerReset     = "S-reset"
	stepServerHalfClose = "S-halfclose"
	stepServerStartTLS  = "S-starttls"
	stepServerSplit     = "S-split"
	stepServerCut       = "S-cut"
	stepServerWait      = "S-wait"
	stepServerFire      = "S-fire"
	stepClientEOF       = "C-eof"

	stepTimeout   = "timeout"
	stepWait      = "wait"
	stepFire      = "fire"
	stepRequire   = "require"
	stepCompare   = "compare"
	stepNormalise = "normalise"
	stepSet       = "set"
)

var (
	reDialogue = regexp.MustCompile(`^([CS])([A-Za-z0-9]*)(-[a-z]+|[?|])?:(?: (.*))?$`)
	reCond     = regexp.MustCompile(`^\[(!?[A-Za-z0-9_.+-]+)\] *(.*)$`)
)

func knownSteps() map[string]bool {
	known := map[string]bool{}
	for _, v := range []string{
		stepSend, stepRaw, stepStartTLS, stepCompress, stepHalfClose, stepClose, stepReset,
		stepExpect, stepOptional, stepUnordered, stepEOF, stepQuiet,
		stepServerRaw, stepServerClose, stepServerReset, stepServerHalfClose,
		stepServerStartTLS, stepServerSplit, stepServerCut, stepServerWait, stepServerFire, stepClientEOF,
		stepTimeout, stepWait, stepFire, stepRequire, stepCompare, stepNormalise, stepSet,
	} {
		known[v] = true
	}
	return known
}

// LoadScript reads a transcript from a file.
func LoadScript(path string) (*Script, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseScript(path, src)
}

// ParseScript reads a transcript; the error names file and line.
func ParseScript(name string, src []byte) (*Script, error) {
	ar := txtar.Parse(src)
	s := &Script{Name: name, files: map[string][]byte{}}
	for _, f := range ar.Files {
		s.files[f.Name] = f.Data
	}
	known := knownSteps()
	for i, line := range strings.Split(string(ar.Comment), "\n") {
		st, err := parseStep(strings.TrimRight(line, "\r"), known)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		if st.verb == "" {
			continue
		}
		st.line = i + 1
		if st.verb == stepRequire {
			s.Requires = append(s.Requires, strings.Fields(st.arg)...)
			continue
		}
		s.steps = append(s.steps, st)
	}
	if len(s.steps) == 0 {
		return nil, fmt.Errorf("%s: no dialogue in it", name)
	}
	return s, nil
}

func parseStep(line string, known map[string]bool) (step, error) {
	if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
		return step{}, nil
	}
	var st step
	if m := reCond.FindStringSubmatch(line); m != nil {
		st.cond, line = m[1], m[2]
	}
	if m := reDialogue.FindStringSubmatch(line); m != nil {
		st.verb, st.conn, st.arg = m[1]+m[3], m[2], m[4]
	} else {
		st.verb, st.arg, _ = strings.Cut(strings.TrimSpace(line), " ")
		if len(st.verb) < 3 { // a dialogue line without its colon
			return step{}, fmt.Errorf("%q: want \"C: …\", \"S: …\" or a directive", line)
		}
	}
	if !known[st.verb] {
		return step{}, fmt.Errorf("%q: %q is neither a side of the dialogue nor a directive", line, st.verb)
	}
	if st.verb == stepTimeout || st.verb == stepQuiet {
		if _, err := time.ParseDuration(st.arg); err != nil {
			return step{}, fmt.Errorf("%q: want a duration such as 300ms", line)
		}
	}
	return st, nil
}

// payload finds a file of the archive or makes a generated one.
func (s *Script) payload(name string) (Payload, error) {
	if strings.HasPrefix(name, "gen:") {
		return parseGenerated(name)
	}
	data, ok := s.files[name]
	if !ok {
		return Payload{}, fmt.Errorf("%s has no file %q", s.Name, name)
	}
	if !strings.HasSuffix(name, ".raw") {
		data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	return BytesPayload(data), nil
}

// wanted says whether the step's condition holds.
func (st step) wanted(conditions map[string]bool) bool {
	if st.cond == "" {
		return true
	}
	if name, not := strings.CutPrefix(st.cond, "!"); not {
		return !conditions[name]
	}
	return conditions[st.cond]
}
