package imaptest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Match says whether a response fits a pattern, without variables or files.
func Match(pattern string, r Response) (bool, error) {
	p, err := compilePattern(pattern, nil, nil)
	if err != nil {
		return false, err
	}
	_, ok := p.match(r)
	return ok, nil
}

// A pattern is one expected line, compiled with the variables as they stand.
type pattern struct {
	re *regexp.Regexp
	// a /regexp/ sees the plain text, others the text with literals' digests
	plain bool
}

// match returns the variables that the pattern captured.
func (p pattern) match(r Response) (map[string]string, bool) {
	text := r.Text
	if !p.plain {
		text = r.digested()
	}
	m := p.re.FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	vars := map[string]string{}
	for i, name := range p.re.SubexpNames() {
		if name != "" {
			vars[name] = m[i]
		}
	}
	return vars, true
}

const anyDigest = `(?:<<[0-9a-f]+>>)?`

var reBareStatus = regexp.MustCompile(`^\S+ (?:OK|NO|BAD|BYE|PREAUTH)(?: \[[^\]]*\])?$`)

// isBareStatus says that the pattern is a status response whose human text was
// left out.
func isBareStatus(src string) bool {
	var plain strings.Builder // without variables, whose regexps may hold a ]
	for {
		i := strings.Index(src, "${")
		if i < 0 {
			break
		}
		plain.WriteString(src[:i] + "x")
		_, _, rest, err := cutVariable(src[i:])
		if err != nil {
			return false
		}
		src = rest
	}
	return reBareStatus.MatchString(plain.String() + src)
}

// compilePattern reads the pattern language of the package's comment.
func compilePattern(src string, vars map[string]string, files func(string) (Payload, error)) (pattern, error) {
	if n := len(src); n >= 2 && src[0] == '/' && src[n-1] == '/' {
		expanded, err := expand(src[1:n-1], vars, regexp.QuoteMeta)
		if err != nil {
			return pattern{}, err
		}
		re, err := regexp.Compile(`(?s)^(?:` + expanded + `)$`)
		return pattern{re: re, plain: true}, err
	}
	body, err := patternRegexp(src, vars, files)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", src, err)
	}
	switch {
	case src == "+" || isBareStatus(src):
		body += `(?: .*)?`
	case !strings.Contains(src, " ") && src != "*":
		body += `(?: .*)?`
	}
	re, err := regexp.Compile(`(?s)^` + body + `$`)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", src, err)
	}
	return pattern{re: re}, nil
}

var (
	reSizeMark = regexp.MustCompile(`^\{(\d+\+?)\}`)
	reFileRef  = regexp.MustCompile(`^<<([^<>]+)>>`)
)

func patternRegexp(src string, vars map[string]string, files func(string) (Payload, error)) (string, error) {
	var b strings.Builder
	for src != "" {
		switch {
		case src == " ...":
			b.WriteString(`(?: .*)?`)
			src = ""
		case strings.HasPrefix(src, "${"):
			name, re, rest, err := cutVariable(src)
			if err != nil {
				return "", err
			}
			src = rest
			if re != "" {
				fmt.Fprintf(&b, "(?P<%s>%s)", name, re)
				continue
			}
			v, ok := vars[name]
			if !ok {
				return "", fmt.Errorf("nothing has set ${%s}", name)
			}
			b.WriteString(regexp.QuoteMeta(v))
		case strings.HasPrefix(src, "{{n}}"):
			out, rest, err := literalMark(`\d+\+?`, src[5:], files)
			if err != nil {
				return "", err
			}
			b.WriteString(out)
			src = rest
		case reSizeMark.MatchString(src):
			m := reSizeMark.FindStringSubmatch(src)
			out, rest, err := literalMark(regexp.QuoteMeta(m[1]), src[len(m[0]):], files)
			if err != nil {
				return "", err
			}
			b.WriteString(out)
			src = rest
		default:
			if word, re := placeholder(src); word != "" {
				b.WriteString(re)
				src = src[len(word):]
				continue
			}
			b.WriteString(regexp.QuoteMeta(src[:1]))
			src = src[1:]
		}
	}
	return b.String(), nil
}

func placeholder(src string) (word, re string) {
	switch {
	case strings.HasPrefix(src, "{n}"):
		return "{n}", `\d+`
	case strings.HasPrefix(src, "{w}"):
		return "{w}", `[^ ]+`
	case strings.HasPrefix(src, "{s}"):
		return "{s}", `(?:NIL|"(?:[^"\\]|\\.)*")`
	case strings.HasPrefix(src, "{*}"):
		return "{*}", `.*`
	}
	return "", ""
}

// literalMark is a literal's marker, and its digest when <<FILE>> follows.
func literalMark(size, rest string, files func(string) (Payload, error)) (string, string, error) {
	m := reFileRef.FindStringSubmatch(rest)
	if m == nil {
		return `\{` + size + `\}` + anyDigest, rest, nil
	}
	if files == nil {
		return "", "", fmt.Errorf("<<%s>>: there are no files here", m[1])
	}
	p, err := files(m[1])
	if err != nil {
		return "", "", err
	}
	return `\{` + strconv.FormatInt(p.Size, 10) + `\+?\}<<` + p.SHA256() + `>>`, rest[len(m[0]):], nil
}

// cutVariable splits "${name=re}rest" or "${name}rest".
func cutVariable(src string) (name, re, rest string, err error) {
	depth := 0
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth > 0 {
				continue
			}
			name, re, _ = strings.Cut(src[2:i], "=")
			if !isName(name) {
				return "", "", "", fmt.Errorf("%q is no name for a variable", name)
			}
			return name, re, src[i+1:], nil
		}
	}
	return "", "", "", fmt.Errorf("%q has no end", src)
}

func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || (r|0x20 >= 'a' && r|0x20 <= 'z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// expand replaces each ${name} in a line that is sent.
func expand(s string, vars map[string]string, quote func(string) string) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			return b.String() + s, nil
		}
		b.WriteString(s[:i])
		name, re, rest, err := cutVariable(s[i:])
		if err != nil {
			return "", err
		}
		v, ok := vars[name]
		if !ok || re != "" {
			return "", fmt.Errorf("nothing has set ${%s}", name)
		}
		b.WriteString(quote(v))
		s = rest
	}
}
