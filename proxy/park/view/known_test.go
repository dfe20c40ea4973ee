package view

import "testing"

// A client goes on knowing flags that it was told when its bound rises over them, as it does on
// Cyrus with every resume: what a STORE .SILENT makes of them isn't told it again.
func TestWhatAClientKnowsOutlivesItsBound(t *testing.T) {
	var uids Runs
	uids.Put(1, 3, 1)
	v := &View{UIDs: UIDsOf(1, 2, 3), UIDNext: 4, ModSeq: 5, Known: NewKnown([]KnownFlags{{}, {Flags: `\Seen`}}, uids, Plain)}
	after := v.After(Difference{ModSeq: 9, UIDNext: 4, Changed: []FlagChange{{UID: 2, Flags: `\Flagged`, ModSeq: 8}}})
	for uid, want := range map[uint32]bool{1: true, 2: false, 3: true} {
		if got := after.Known.has(FlagChange{UID: uid, Flags: `\Seen`, ModSeq: 10}); got != want {
			t.Errorf("UID %d: the client knows it: %v", uid, got)
		}
	}
}
