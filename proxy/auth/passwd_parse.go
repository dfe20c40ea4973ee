package auth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of a passwd-file.
const (
	maxFile     = 256 << 20 // bytes
	maxLine     = 16 << 10  // bytes
	maxReported = 20        // errors that are listed; the others are counted
)

// LineError is one mistake in a passwd-file. It never contains a password.
type LineError struct {
	File string
	Line int // from 1; 0 = the file as a whole
	What string
}

// Error returns file:line: what.
func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.What
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What)
}

// entry is one user's line.
type entry struct {
	password  *verifier // nil: the account is locked
	placement string
	user      string         // as whom the client is logged in, if it is another name
	nets      []netip.Prefix // from which the user may log in; nil: from everywhere
	extra     string         // as in the file; split only when the user logs in
	line      int
	secret    string // the password field, to see whether it has changed
}

// keep reuses the entries of the previous table whose lines didn't change, so that sessions that were
// accepted with one of them needn't be checked again.
func (t *table) keep(before *table) {
	for user, e := range t.users {
		if old := before.users[user]; old != nil && old.secret == e.secret && old.extra == e.extra {
			t.users[user] = old
		}
	}
}

// table is a whole passwd-file, immutable once parsed.
type table struct {
	// users by canonical name.
	users map[string]*entry
	// placements has those of users whom lines name in user=.
	placements map[string]string
	// unknown is compared with the password of a user who isn't in the file, and the result is ignored. It
	// has the class that most users have, so it takes as long as theirs. Nil if every account is locked.
	unknown *verifier
}

// unsupportedExtra says why an extra field isn't supported. These fields restrict who may log in, or change
// the user: to ignore them would let users in that Dovecot keeps out, so a file with them is refused.
func unsupportedExtra(key string) (why string) {
	switch key {
	case "nopassword", "noauthenticate":
		return "would let the user in without a password: give the user one"
	case "allow_real_nets":
		return "isn't enforced by the proxy: write allow_nets, or restrict the user elsewhere"
	case "username", "destuser", "login_user", "master_user":
		return "can't change the user's name here: write user=NAME, or the name as the client sends it"
	}
	return ""
}

// parsePasswd parses Dovecot's passwd-file, user:{SCHEME}hash:uid:gid:gecos:home:shell:extra, of which it
// uses user, password and extra. Names are normalised as in a login. It returns all mistakes (at most
// maxReported, joined), or the table, never both.
func parsePasswd(file string, src []byte, names Names) (*table, error) {
	t := &table{users: make(map[string]*entry)}
	var errs []error
	fail := func(line int, format string, args ...any) {
		errs = append(errs, &LineError{File: file, Line: line, What: fmt.Sprintf(format, args...)})
	}
	line := 0
	for raw := range bytes.Lines(src) {
		line++
		raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
		if len(bytes.TrimSpace(raw)) == 0 || raw[0] == '#' {
			continue
		}
		if len(raw) > maxLine {
			fail(line, "longer than %d bytes", maxLine)
			continue
		}
		user, e, err := parseLine(string(raw), names)
		if err != nil {
			fail(line, "%v", err)
			continue
		}
		e.line = line
		if other := t.users[user]; other != nil {
			fail(line, "the same user as in line %d", other.line)
			continue
		}
		t.users[user] = e
	}
	t.place(fail)
	if len(errs) == 0 && len(t.users) == 0 {
		// The file may be being written, or on a volume that isn't mounted.
		fail(0, "no users in it")
	}
	if n := len(errs); n > maxReported {
		errs = append(errs[:maxReported], &LineError{File: file, What: fmt.Sprintf("and %d more lines like these", n-maxReported)})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	t.unknown = commonest(t.users)
	return t, nil
}

// place finds the placements of users whom lines name in user=. Lines that log their clients in as the same user have
// to place the user on the same backend.
func (t *table) place(fail func(line int, format string, args ...any)) {
	first := map[string]*entry{} // the user's own line, or else the first one that names the user
	byLine := slices.SortedFunc(maps.Values(t.users), func(a, b *entry) int { return cmp.Compare(a.line, b.line) })
	for _, e := range byLine {
		if e.user == "" {
			continue
		}
		as := first[e.user]
		if as == nil {
			as = e
			if own := t.users[e.user]; own != nil && own.user == "" {
				as = own
			}
			first[e.user] = as
		}
		if e.placement != as.placement {
			fail(max(e.line, as.line), "another backend than in line %d, for the same user", min(e.line, as.line))
			continue
		}
		if t.placements == nil {
			t.placements = map[string]string{}
		}
		t.placements[e.user] = e.placement
	}
}

// parseNets reads allow_nets: addresses and networks, between commas.
func parseNets(value string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for part := range strings.SplitSeq(value, ",") {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(part); err == nil {
				p, err = a.Unmap().WithZone("").Prefix(a.Unmap().BitLen())
			}
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, errors.New("extra field allow_nets: write addresses and networks, between commas and without spaces, as 192.0.2.7,2001:db8::/32")
		}
		nets = append(nets, p)
	}
	return nets, nil
}

// parseLine reads one line that is neither empty nor a comment.
func parseLine(raw string, names Names) (user string, e *entry, err error) {
	fields := strings.SplitN(raw, ":", 8)
	if len(fields) < 2 {
		return "", nil, errors.New("no password field: write user:{SCHEME}hash")
	}
	if user, err = names.Normalize(fields[0]); err != nil {
		return "", nil, err
	}
	e = &entry{secret: fields[1]}
	if e.password, err = parsePassword(fields[1]); err != nil && !errors.Is(err, errLocked) {
		return "", nil, err
	}
	if len(fields) < 8 {
		return user, e, nil
	}
	placed := false
	e.extra = fields[7]
	for key, value := range extraFields(e.extra) {
		if why := unsupportedExtra(key); why != "" {
			return "", nil, fmt.Errorf("extra field %s %s", key, why)
		}
		switch key {
		case "nologin":
			e.password = nil
		case "backend":
			if value == "" || placed {
				return "", nil, errors.New("extra field backend: write it once, as backend=ID")
			}
			e.placement, placed = value, true
		case "allow_nets":
			nets, err := parseNets(value)
			if err != nil {
				return "", nil, err
			}
			if e.nets != nil {
				return "", nil, errors.New("extra field allow_nets: write it once")
			}
			e.nets = nets
		case "user":
			as, err := names.Given(value)
			if err != nil || e.user != "" {
				return "", nil, errors.New("extra field user: write it once, as user=NAME with the name of a user")
			}
			e.user = as
		}
	}
	if e.user == user {
		e.user = ""
	}
	return user, e, nil
}

// extraFields yields the key=value fields of an entry's last column, which are
// separated by spaces or tabs; value is empty for a key alone.
func extraFields(s string) func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for field := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == '\t' }) {
			key, value, _ := strings.Cut(field, "=")
			if !yield(strings.ToLower(key), value) {
				return
			}
		}
	}
}

// extraMap returns an entry's extra fields without those that the proxy itself uses and without fields named like a password
// (Dovecot's proxying has such fields).
func (e *entry) extraMap() map[string]string {
	var m map[string]string
	for key, value := range extraFields(e.extra) {
		switch {
		case key == "backend", key == "user", key == "allow_nets", strings.Contains(key, "pass"):
			continue
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[key] = value
	}
	return m
}

// group has the users whose passwords are of one class.
type group struct {
	v *verifier // one of theirs
	n int       // how many
}

// commonest returns a verifier of the class that most users have; hashes take precedence over clear text,
// then class names decide.
func commonest(users map[string]*entry) *verifier {
	groups := make(map[string]*group)
	for _, e := range users {
		if e.password == nil {
			continue
		}
		g := groups[e.password.class]
		if g == nil {
			g = &group{v: e.password}
			groups[e.password.class] = g
		}
		g.n++
	}
	var best *group
	for _, g := range groups {
		if best == nil || g.dearer(best) {
			best = g
		}
	}
	if best == nil {
		return nil
	}
	return best.v
}

// dearer orders groups by kind (hashes first), then by number, then by class, so that the choice doesn't
// depend on a map's order.
func (g *group) dearer(than *group) bool {
	if g.v.cheap() != than.v.cheap() {
		return than.v.cheap()
	}
	if g.n != than.n {
		return g.n > than.n
	}
	return g.v.class < than.v.class
}

// accepted is the verdict of an entry whose password is right.
func (e *entry) accepted() Accepted {
	return Accepted{User: e.user, Placement: e.placement, Extra: e.extraMap(), Stamp: e}
}

// show has keys that are made up look like those that most users have.
func (t *table) show(s *Scram) {
	if s == nil {
		return
	}
	for _, m := range s.mechanisms {
		of := map[string]*entry{}
		for user, e := range t.users {
			if e.password != nil && e.password.keys != nil && e.password.keys.mechanism == m {
				of[user] = e
			}
		}
		if v := commonest(of); v != nil {
			s.saw(*v.keys)
		}
	}
}
