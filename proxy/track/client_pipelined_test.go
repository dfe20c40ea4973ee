package track

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// pipelined is a server whose client sends commands before it has read the answers to others,
// and what is true of the client's session on it.
type pipelined struct {
	r        *rand.Rand
	closes   bool // it says CLOSED
	exists   map[string]int
	selected string
	readOnly bool
	saved    bool
	byNumber bool
	renamed  bool
	modSeqs  bool // the client counts them
	out      []string
}

var validityOf = map[string]int{"A": 7, "B": 9}

func (p *pipelined) say(format string, args ...any) {
	p.out = append(p.out, fmt.Sprintf(format, args...))
}

// news may tell of a new message.
func (p *pipelined) news() {
	if p.selected != "" && p.r.IntN(3) == 0 {
		p.exists[p.selected]++
		p.say("* %d EXISTS", p.exists[p.selected])
	}
}

func (p *pipelined) deselect() {
	p.selected, p.saved, p.byNumber, p.renamed = "", false, false, false
}

// selects answers SELECT and EXAMINE, of which "bad" changes nothing and "closing" is answered BAD
// when the mailbox of before is closed, as servers do it by what is wrong.
func (p *pipelined) selects(readOnly bool, args string) (answer string) {
	name, params, _ := strings.Cut(args, " ")
	if name == "bad" {
		return "BAD"
	}
	if p.selected != "" && p.closes {
		p.say("* OK [CLOSED] closed")
	}
	p.deselect()
	switch {
	case name == "closing" && p.closes:
		return "BAD"
	case p.exists[name] == 0:
		return "NO"
	}
	p.selected, p.readOnly, p.modSeqs = name, readOnly, p.modSeqs || params != ""
	p.say(`* FLAGS (\Seen)`)
	p.say("* %d EXISTS", p.exists[name])
	p.say("* OK [UIDVALIDITY %d] v", validityOf[name])
	p.say("* OK [HIGHESTMODSEQ %d] m", validityOf[name])
	if readOnly {
		return "OK [READ-ONLY]"
	}
	return "OK [READ-WRITE]"
}

// answer answers a command.
func (p *pipelined) answer(tag, line string) {
	verb, args, _ := strings.Cut(line, " ")
	some := []string{"OK", "NO", "BAD"}[p.r.IntN(3)]
	answer := "OK"
	switch {
	case verb == "SELECT" || verb == "EXAMINE":
		answer = p.selects(verb == "EXAMINE", args)
	case verb == "RENAME":
		answer = some
		p.renamed = p.renamed || some == "OK" && strings.HasPrefix(args, p.selected+" ")
	case verb == "NOOP":
		p.news()
	case p.selected == "":
		answer = "BAD"
	case verb == "UNSELECT":
		p.deselect()
	case verb == "FETCH":
		p.byNumber = true
		p.news()
	default:
		answer = some
		p.saved = p.saved || some != "BAD" && strings.Contains(args, "SAVE")
		p.modSeqs = p.modSeqs || some != "BAD" && strings.Contains(args, "MODSEQ")
		p.news()
	}
	p.say("%s %s done", tag, answer)
}

// differs says what f has wrong, "" nothing.
func (p *pipelined) differs(f *InFlight) string {
	how, why := f.CanPark()
	b := &f.Client.Mailbox
	switch {
	case f.selected != (p.selected != ""):
		return fmt.Sprintf("selected: %v", f.selected)
	case p.modSeqs != (f.Client.Dialect != view.Plain):
		return fmt.Sprintf("%v", f.Client.Dialect)
	case how == ModeUnselected || how == ModeNone && why != BlockerModSeq:
		return ""
	case b.Name != p.selected || int(b.Exists) != p.exists[p.selected] || int(b.Validity) != validityOf[p.selected] ||
		int(b.ModSeq) != validityOf[p.selected] || b.ReadOnly != p.readOnly:
		return fmt.Sprintf("%+v, and selected is %+v", *b, *p)
	case p.saved || p.byNumber || p.renamed:
		return fmt.Sprintf("%s, %q, and selected is %+v", how, why, *p)
	}
	return ""
}

// begins has a flight see a command, whole or as a relay sees one with a literal.
func (f *InFlight) begins(n *NameBuffers, text string, literal bool) {
	if !literal {
		f.Begin(begun(text), true, time.Time{})
		return
	}
	var scan wire.Scanner
	var a Arguments
	for b := []byte(text); len(b) > 0; {
		first := scan.AtStart()
		p := scan.Next(b)
		if first {
			h := wire.ParseCommandHead(b[:p.N])
			a.Begin(n, h, b[:p.N])
			f.Begin(h, false, time.Time{})
		}
		if e := a.piece(n, b[:p.N], p, first); e != 0 {
			f.Leaves(e)
		}
		if p.Last && a.name != nil {
			f.named(wire.ParseCommandHead(*a.name), false)
			a.drop(n)
		}
		b = b[p.N:]
	}
}

// However commands, their effects and their answers lie between each other: what is known of a session
// is true when all are answered, or it isn't parked.
func TestWhatIsKnownOfPipelinedCommandsIsTrue(t *testing.T) {
	commands := []string{"SELECT A", "SELECT B", "EXAMINE A", "SELECT A (CONDSTORE)", "SELECT gone", "SELECT bad", "SELECT closing", "UNSELECT", "NOOP",
		"FETCH 1 FLAGS", "RENAME A C", "RENAME B C", "UID SEARCH RETURN (SAVE) ALL", "UID SEARCH MODSEQ 3", "UID FETCH 1 FLAGS"}
	var n NameBuffers
	for seed := range uint64(8000) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := &pipelined{r: r, closes: r.IntN(2) == 0, exists: map[string]int{"A": 3, "B": 50}}
		f := &InFlight{}
		f.Init(true, false)
		f.Texts = &Texts{}
		var lines []string
		var waiting [][2]string // tag and command
		for due := 2 + r.IntN(6); due > 0 || len(waiting) > 0 || len(p.out) > 0; {
			switch k := r.IntN(3); {
			case k == 0 && due > 0:
				tag, line := fmt.Sprintf("t%d", due), commands[r.IntN(len(commands))]
				due--
				text := tag + " " + line + "\r\n"
				verb, args, _ := strings.Cut(line, " ")
				literal := r.IntN(4) == 0 && (verb == "SELECT" || verb == "RENAME")
				if literal {
					name, rest, _ := strings.Cut(args, " ")
					text = strings.TrimSuffix(fmt.Sprintf("%s %s {%d+}\r\n%s %s", tag, verb, len(name), name, rest), " ") + "\r\n"
				}
				lines = append(lines, "C: "+text)
				f.begins(&n, text, literal)
				waiting = append(waiting, [2]string{tag, line})
			case k == 1 && len(waiting) > 0:
				p.answer(waiting[0][0], waiting[0][1])
				waiting = waiting[1:]
			case k == 2 && len(p.out) > 0:
				lines = append(lines, "S: "+p.out[0])
				if h := wire.ParseResponseHead([]byte(p.out[0])); h.Kind == wire.Tagged {
					f.Answered(h)
				} else {
					f.Untagged(h, true)
				}
				p.out = p.out[1:]
			}
		}
		if what := p.differs(f); what != "" {
			t.Fatalf("%d: %s\n%s", seed, what, strings.Join(lines, "\n"))
		}
	}
}
