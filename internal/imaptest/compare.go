package imaptest

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// CompareOptions say what may differ between two runs of one script. Always
// normalised: UIDVALIDITY (each value becomes v1, v2, … as it first appears),
// Dovecot's timing text and Cyrus' SESSIONID.
type CompareOptions struct {
	// Names of the two sides in the diff; "" = direct and proxy.
	NameA, NameB string
	// Normalise names further rules (see Normalisers), added to the script's
	// own.
	Normalise []string
	// IgnoreCaps are left out of capability lists. A trailing * is any suffix:
	// "AUTH=*".
	IgnoreCaps []string
	// Replace rewrites what the test knows to differ, e.g. user names.
	Replace *strings.Replacer
}

// Compare runs the script against a, then against b, and returns how what b
// said differs: "" when it doesn't. The error is that of a run.
func (s *Script) Compare(ctx context.Context, a, b RunOptions, o CompareOptions) (string, error) {
	ra, err := s.Run(ctx, a)
	if err != nil {
		return "", fmt.Errorf("%s: %w", orName(o.NameA, "direct"), err)
	}
	rb, err := s.Run(ctx, b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", orName(o.NameB, "proxy"), err)
	}
	return Diff(ra, rb, o)
}

// Diff compares two recordings of one script: per connection, untagged
// responses in their order, tagged ones in theirs unless commands were
// pipelined, then by tag. It's a unified diff of normalised transcripts; ""
// means no difference. The error is an unknown normaliser.
func Diff(a, b *Recording, o CompareOptions) (string, error) {
	ta, err := a.Transcript(o)
	if err != nil {
		return "", err
	}
	tb, err := b.Transcript(o)
	if err != nil {
		return "", err
	}
	return string(diff.Diff(orName(o.NameA, "direct"), []byte(ta), orName(o.NameB, "proxy"), []byte(tb))), nil
}

func orName(name, fallback string) string {
	if name == "" {
		return fallback
	}
	return name
}

// Transcript is the recording as text, normalised.
func (r *Recording) Transcript(o CompareOptions) (string, error) {
	n, err := newNormaliser(append(slices.Clone(r.Normalise), o.Normalise...), o.IgnoreCaps)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range r.Streams {
		for _, line := range s.lines(n) {
			if o.Replace != nil {
				line = o.Replace.Replace(line)
			}
			side, rest, _ := strings.Cut(line, ":")
			fmt.Fprintf(&b, "%s%s:%s\n", side, s.Name, rest)
		}
	}
	return b.String(), nil
}

// lines puts the dialogue into an order that two correct servers share. While
// one command at most is in flight that is the order it came in; where
// commands were pipelined their answers may overtake each other (RFC 9051
// §5.5), so the group's commands come first, then the untagged responses in
// their order, then the tagged ones by tag.
func (s *Stream) lines(n *normaliser) []string {
	var out []string
	var group []Entry
	// what looks like a tag in a SASL response or a payload is never answered
	answered := map[string]bool{}
	for _, e := range s.Entries {
		if e.Sent == "" && !e.EOF {
			answered[e.Response.Tag()] = true
		}
	}
	flying := map[string]bool{}
	pipelined := false
	flush := func() {
		if pipelined {
			sort.SliceStable(group, func(i, j int) bool { return rank(group[i]) < rank(group[j]) })
		}
		for _, e := range group {
			if e.Uncompare {
				continue
			}
			if e.Sent != "" || e.EOF {
				out = append(out, e.String())
				continue
			}
			out = append(out, "S: "+n.apply(e.Response))
		}
		group, pipelined = nil, false
	}
	for _, e := range s.Entries {
		group = append(group, e)
		for _, tag := range e.Tags {
			if answered[tag] {
				flying[tag] = true
				pipelined = pipelined || len(flying) > 1
			}
		}
		if e.Sent == "" && !e.EOF {
			delete(flying, e.Response.Tag())
		}
		if len(flying) == 0 {
			flush()
		}
	}
	flush()
	return out
}

func rank(e Entry) string {
	switch {
	case e.Sent != "":
		return "0"
	case e.EOF:
		return "3"
	case e.Response.Tag() == "*" || e.Response.Tag() == "+":
		return "1"
	}
	return "2" + e.Response.Tag()
}
