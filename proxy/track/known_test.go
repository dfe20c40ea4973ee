package track

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// A client that believes what it is told and works out its own changes knows at least what is
// remembered of it, whatever happens in whatever order.
func TestWhatIsRememberedIsWhatTheClientKnows(t *testing.T) {
	words := []string{`\Seen`, `\Flagged`, `\Deleted`, `$A`}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		k := &known{}
		type message struct {
			uid   uint32
			flags view.Flags // as the client knows them
			sure  bool
		}
		var box []message
		for uid := range uint32(20) {
			box = append(box, message{uid: 2*uid + 1 + r.Uint32N(2)})
		}
		random := func() []byte {
			var list []string
			for _, w := range words {
				if r.IntN(3) == 0 {
					list = append(list, w)
				}
			}
			return []byte(strings.Join(list, " "))
		}
		fetch := func(n int, byUID bool) {
			raw := random()
			f := FetchResponse{Active: true, number: uint32(n + 1)}
			line := fmt.Sprintf("* %d FETCH (FLAGS (%s)", n+1, raw)
			if byUID {
				line += fmt.Sprintf(" UID %d", box[n].uid)
			}
			f.Text([]byte(line + ")\r\n"))
			flags, err := view.ParseFlags(raw)
			if err != nil {
				t.Fatal(err)
			}
			box[n].flags, box[n].sure = flags, true
			k.fetched(&f, 0)
		}
		for step := range 60 {
			if len(box) == 0 {
				break
			}
			n := r.IntN(len(box))
			switch r.IntN(6) {
			case 0: // all of a range
				byUID := r.IntN(2) == 0
				for i := n; i < len(box); i++ {
					fetch(i, byUID)
				}
			case 1, 2:
				fetch(n, r.IntN(2) == 0)
			case 3:
				box = slices.Delete(box, n, n+1)
				k.expunged(uint32(n + 1))
			default:
				byUID := r.IntN(2) == 0
				till := n + r.IntN(len(box)-n)
				sign := []string{"+", "-", ""}[r.IntN(3)]
				raw := random()
				given, err := view.ParseFlags(raw)
				if err != nil {
					t.Fatal(err)
				}
				line := fmt.Sprintf("t STORE %d:%d %sFLAGS.SILENT (%s)", n+1, till+1, sign, raw)
				if byUID {
					line = fmt.Sprintf("t UID STORE %d:%d %sFLAGS.SILENT (%s)", box[n].uid, box[till].uid, sign, raw)
				}
				h := wire.ParseCommandHead([]byte(line + "\r\n"))
				k.begins(uint64(step), h, true)
				k.stored(uint64(step), wire.ResponseHead{Status: wire.OK}, true)
				for i := n; i <= till; i++ {
					m := &box[i]
					switch sign {
					case "+":
						m.flags = m.flags.Union(given)
					case "-":
						m.flags = m.flags.Without(given)
					default:
						m.flags, m.sure = given, true
					}
				}
			}
			var uids []uint32
			for _, m := range box {
				uids = append(uids, m.uid)
			}
			frozen := k.frozen(view.UIDsOf(uids...), view.Plain)
			for i, m := range box {
				if flags, ok := frozen.Of(m.uid); ok && (!flags.Equal(m.flags) || !m.sure) {
					t.Fatalf("seed %d, step %d: message %d (UID %d) is remembered with %q, the client knows %q (%v)", seed, step, i+1, m.uid, flags, m.flags, m.sure)
				}
			}
		}
	}
}

// What is remembered has a bound, and stays true.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	k := &known{}
	var uids []uint32
	for n := range uint32(5000) {
		uids = append(uids, n+1)
		f := FetchResponse{number: n + 1}
		f.Text(fmt.Appendf(nil, "* %d FETCH (UID %d FLAGS (k%d))\r\n", n+1, n+1, n%3))
		k.fetched(&f, 0)
	}
	if k.uids.Len() > maxKnownRuns || len(k.sets) > maxKnownSets {
		t.Errorf("%d runs, %d sets", k.uids.Len(), len(k.sets))
	}
	frozen := k.frozen(view.UIDsOf(uids...), view.Plain)
	if flags, ok := frozen.Of(5000); !ok || flags != "k1" {
		t.Errorf("the last one is remembered with %q (%v)", flags, ok)
	}
	for n := range uint32(500) {
		f := FetchResponse{number: n + 1}
		f.Text(fmt.Appendf(nil, "* %d FETCH (UID %d FLAGS (w%d))\r\n", n+1, n+1, n))
		k.fetched(&f, 0)
	}
	if len(k.sets) > maxKnownSets {
		t.Errorf("%d sets", len(k.sets))
	}

	// Messages that go, one here and one there, make no runs.
	k = &known{}
	for n := range uint32(5000) {
		f := FetchResponse{number: n + 1}
		f.Text(fmt.Appendf(nil, "* %d FETCH (FLAGS ())\r\n", n+1))
		k.fetched(&f, 0)
	}
	for n := range uint32(2000) {
		k.expunged(2*n + 1)
	}
	if k.nums.Len() > maxKnownRuns {
		t.Errorf("%d runs of numbers", k.nums.Len())
	}

	// Long keywords have a bound together, where a session is parked as well.
	long := strings.Repeat("k", 1000)
	for n := range uint32(99) {
		f := FetchResponse{number: n + 1}
		f.Text(fmt.Appendf(nil, "* %d FETCH (UID %d FLAGS (%s%d))\r\n", n+1, n+1, long, n))
		k.fetched(&f, 0)
	}
	text := 0
	for _, s := range k.sets {
		text += len(s.Flags)
	}
	if text > maxKnownText {
		t.Errorf("%d octets of flags", text)
	}
	if flags, ok := k.frozen(view.UIDsOf(uids...), view.Plain).Of(99); !ok || flags != view.Flags(long+"98") {
		t.Errorf("the last one is remembered with %q (%v)", flags, ok)
	}
}

func TestFetchResponsesAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"* 1 FETCH (FLAGS (\\Seen x) UID 7)\r\n":                       `0007 \Seen x`,
		"* 1 FETCH (UID 7 MODSEQ (12) FLAGS ())\r\n":                   `0012 7 `,
		"* 1 FETCH (UID 7 ENVELOPE (\"FLAGS (a)\" NIL (FLAGS (b))))\n": `none`,
		"* 1 FETCH (UID 7 BODY[] {9}|)\r\n":                            `none`,
		"* 1 FETCH (UID 7 BODY[] {9}|| FLAGS (\\Seen))\r\n":            `doubt`,
		"* 1 FETCH (BODY[] {9}|\x20FLAGS (\\Seen) UID 9)\r\n":          `0009 \Seen`,
		"* 1 FETCH (UID 7 FLA|GS (a))\r\n":                             `doubt`,
	} {
		var f FetchResponse
		for i, piece := range strings.Split(text, "|") {
			if strings.HasSuffix(piece, "}") {
				piece += "\r\n"
			}
			_ = i
			f.Text([]byte(piece))
		}
		got := "none"
		switch {
		case f.doubt:
			got = "doubt"
		case f.HasFlags && f.modSeq != 0:
			got = fmt.Sprintf("%04d %d %s", f.modSeq, f.uid, f.flags)
		case f.HasFlags:
			got = fmt.Sprintf("%04d %s", f.uid, f.flags)
		}
		if got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// UIDs that were told without flags are kept as long as there is room, and push out no flags.
func TestUIDsAlonePushOutNoFlags(t *testing.T) {
	k := &known{}
	var f FetchResponse
	tell := func(n, uid int, items string) {
		f = FetchResponse{number: uint32(n), flags: f.flags[:0]}
		f.Text(fmt.Appendf(nil, "* %d FETCH (UID %d %s\r\n", n, uid, items))
		k.fetched(&f, 0)
	}
	for n := 1; n <= 2*maxKnownRuns; n++ {
		tell(n, 2*n, "BODY[] {7}")
	}
	told := k.told()
	if len(told) != maxKnownRuns/2 || told[1] != (view.Told{Number: 2, UID: 4, N: 1}) {
		t.Errorf("%d UIDs: %v", len(told), told)
	}
	tell(2*maxKnownRuns, 4*maxKnownRuns, "FLAGS ())")
	if k.pairs.lost || k.pairs.uid(2*maxKnownRuns) != 4*maxKnownRuns {
		t.Error("flags that were told by UID aren't recorded")
	}
}

// In steady state nothing is allocated for a FETCH response or a STORE.
func TestRememberingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Log("only that it works is tested")
	}
	k := &known{}
	lines := [][]byte{[]byte("* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n"), []byte("* 2 FETCH (FLAGS () UID 3)\r\n"), []byte("* 3 FETCH (FLAGS ($A))\r\n"), []byte("* 4 FETCH (UID 9 BODY[] {7}\r\n")}
	store := wire.ParseCommandHead([]byte("a UID STORE 1:3 +FLAGS.SILENT (\\Flagged)\r\n"))
	var f FetchResponse
	seq := uint64(0)
	once := func() {
		for i, line := range lines {
			f = FetchResponse{number: uint32(i + 1), flags: f.flags[:0]}
			f.Text(line)
			k.fetched(&f, 0)
		}
		seq++
		k.begins(seq, store, true)
		k.stored(seq, wire.ResponseHead{Status: wire.OK}, true)
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
