package track

import (
	"strings"
	"testing"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// inPieces follows a command as a relay does whose client's bytes come in two parts. It returns what
// it leaves behind and the mailbox that it selects or renames.
func inPieces(t *testing.T, n *NameBuffers, command string, cut int) (e effects, name string, long bool) {
	t.Helper()
	var scan wire.Scanner
	var a Arguments
	var h wire.CommandHead
	kept := ""
	for _, part := range []string{command[:cut], command[cut:]} {
		b := []byte(kept + part)
		for kept = ""; len(b) > 0; {
			start := scan.AtStart()
			p := scan.Next(b)
			if p.N == 0 {
				kept = string(b)
				break
			}
			if start {
				h = wire.ParseCommandHead(b[:p.N])
				a.Begin(n, h, b[:p.N])
			}
			e |= a.piece(n, b[:p.N], p, start)
			if p.Last && a.name != nil {
				name, _, _ = wire.AString(wire.ParseCommandHead(*a.name).Args)
				a.drop(n)
			}
			b = b[p.N:]
		}
	}
	if !scan.AtStart() {
		t.Fatalf("%q isn't whole", command)
	}
	return e, name, a.long
}

func TestWordsThatHaveEffectsAreFoundHoweverACommandIsCutUp(t *testing.T) {
	long := strings.Repeat("1234567,", 40)
	for command, want := range map[string]effects{
		"UID SEARCH MODSEQ 3":                                       usesModSeq,
		"UID SEARCH CHARSET UTF-8 TEXT {3}\r\näb modseq 3":          usesModSeq,
		"UID SEARCH CHARSET UTF-8 TEXT {3+}\r\nabc":                 0,
		"UID SEARCH UID " + long + "9 Modseq 3":                     usesModSeq,
		"UID SEARCH UID " + long + "9 UNSEEN":                       0,
		"UID SEARCH SUBJECT MODSEQ":                                 0,
		`UID SEARCH SUBJECT "MODSEQ"`:                               0,
		`UID SEARCH SUBJECT "a \" MODSEQ 3 SAVE"`:                   0,
		`UID SEARCH BODY "\\" MODSEQ 3`:                             usesModSeq,
		"UID SEARCH SUBJECT {6}\r\nMODSEQ":                          0,
		"UID SEARCH {6}\r\nMODSEQ 3":                                usesModSeq,
		"UID SEARCH NOT (FROM {4}\r\nSAVE) SINCE 1-Jan-2020":        0,
		"UID SEARCH HEADER MODSEQ UPDATE":                           0,
		`UID SEARCH HEADER "" "" MODSEQ 3`:                          usesModSeq,
		"UID SEARCH HEADER {1}\r\nx {0}\r\n MODSEQ 3":               usesModSeq,
		"UID SEARCH KEYWORD SAVE":                                   0,
		"UID SEARCH RETURN (SAVE) TEXT {2}\r\nab":                   savesSearch,
		"UID SEARCH return (min save) ALL":                          savesSearch,
		"UID SEARCH RETURN (ALL UPDATE) MODSEQ 3":                   savesSearch | usesModSeq,
		"UID SEARCH RETURN (ALL) UNSAVED UPDATED":                   0,
		"UID SORT (SUBJECT) UTF-8 MODSEQ 3":                         usesModSeq,
		"UID SORT (REVERSE SUBJECT) UTF-8 TO MODSEQ":                0,
		"UID THREAD REFERENCES UTF-8 MODSEQ 3":                      usesModSeq,
		"UID FETCH 1 (BODY MODSEQ)":                                 usesModSeq,
		"UID FETCH 1 (FLAGS) (CHANGEDSINCE 3)":                      usesModSeq,
		"UID FETCH " + long + "9 (FLAGS) (CHANGEDSINCE 3)":          usesModSeq,
		"UID FETCH 1 BODY[HEADER.FIELDS (MODSEQ)]":                  0,
		"UID FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0> MODSEQ": usesModSeq,
		"UID STORE 1 (UNCHANGEDSINCE 3) FLAGS ()":                   usesModSeq,
		"UID STORE 1 +FLAGS (MODSEQ SAVE)":                          0,
		"STATUS MODSEQ (MESSAGES)":                                  0,
		"STATUS {13}\r\nHIGHESTMODSEQ (MESSAGES)":                   0,
		"STATUS {5}\r\nINBOX (MESSAGES HIGHESTMODSEQ)":              usesModSeq,
		`LIST "" {1}` + "\r\n* RETURN (STATUS (HIGHESTMODSEQ))":     usesModSeq,
		`LIST "" {1}` + "\r\n* RETURN (STATUS (MESSAGES))":          0,
		"SELECT {5}\r\nINBOX (CONDSTORE)":                           usesModSeq,
		"SELECT {9}\r\nCONDSTORE":                                   0,
		"APPEND INBOX {6}\r\nMODSEQ":                                0,
		"ESEARCH IN (mailboxes {1}\r\nx) RETURN (SAVE) UNSEEN":      savesSearch,
	} {
		command = "a " + command + "\r\n"
		if strings.Contains(command, "}\r\n") {
			want |= Conversed
		}
		var n NameBuffers
		for cut := range command {
			if e, _, _ := inPieces(t, &n, command, cut); e != want {
				t.Errorf("%q, cut at %d: %b, not %b", command, cut, e, want)
				break
			}
		}
		if e := wholly(command); e != want&^Conversed {
			t.Errorf("%q at once: %b", command, e)
		}
	}
}

// wholly looks at a command that came at once, with its literals.
func wholly(command string) effects {
	h := wire.ParseCommandHead([]byte(command))
	w := wordsOf(h.Verb.Rule())
	w.all(h.Args)
	return w.found
}

func TestAMailboxIsKnownThatIsNamedByALiteral(t *testing.T) {
	long := strings.Repeat("n", nameRoom)
	var n NameBuffers
	for _, c := range []struct {
		Command, name string
		long          bool
	}{
		{"SELECT {5}\r\nINBOX", "INBOX", false},
		{"SELECT {5+}\r\nA (CO (CONDSTORE)", "A (CO", false},
		{"EXAMINE {3}\r\na\r\n", "a\r\n", false},
		{"SELECT \"" + strings.Repeat("q", 300) + "\"", strings.Repeat("q", 300), false},
		{"DELETE {1}\r\nx", "x", false},
		{"RENAME {3}\r\nold {3}\r\nnew", "old", false},
		{"RENAME old {3}\r\nnew", "old", false},
		{"SELECT {4096}\r\n" + long, "", true},
		{"RENAME " + long + " b", "", true},
	} {
		command := "a " + c.Command + "\r\n"
		for cut := 0; cut < len(command); cut += 1 + len(command)/100 {
			if _, name, long := inPieces(t, &n, command, cut); name != c.name || long != c.long {
				t.Errorf("%.60q, cut at %d: %q, too long: %v", command, cut, name, long)
				break
			}
		}
	}
}

// A command that comes in pieces may be answered before its end.
func TestWhatIsFoundAfterTheAnswerCounts(t *testing.T) {
	f := follow("C: a SELECT INBOX\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 7] v\nS: a OK done\nC: b UID SEARCH FOO\nS: b NO early")
	f.Leaves(usesModSeq | savesSearch)
	if f.Client.Dialect != view.CondStore || f.Client.Mailbox.doubt != BlockerSaved {
		t.Errorf("%v, %q", f.Client.Dialect, f.Client.Mailbox.doubt)
	}
}
