package imaptest

import (
	"strings"
	"testing"
)

func TestModelLeavingFindsFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		leaving ModelLeaving
		told    string
		want    string // a part of the error, "" for none
	}{
		"SELECT": {ModelLeaving{Selects: true},
			"* OK [CLOSED] bye\n* FLAGS (a)\n* 3 EXISTS\n* OK [UIDNEXT 4] next", ""},
		"SELECT, without CLOSED":        {ModelLeaving{Selects: true}, "* FLAGS (a)\n* 3 EXISTS", ""},
		"SELECT that resynchronises":    {ModelLeaving{Selects: true, Since: true}, "* OK [CLOSED] bye\n* 3 EXISTS\n* VANISHED (EARLIER) 1\n* 2 FETCH (FLAGS ())", ""},
		"CLOSE":                         {ModelLeaving{}, "* OK it goes on", ""},
		"EXPUNGE before CLOSED":         {ModelLeaving{Selects: true}, "* 1 EXPUNGE", "taken away"},
		"EXPUNGE behind CLOSED":         {ModelLeaving{Selects: true}, "* OK [CLOSED] bye\n* 3 EXISTS\n* 1 EXPUNGE", "taken away"},
		"VANISHED":                      {ModelLeaving{Selects: true, Since: true}, "* VANISHED 1", "taken away"},
		"EXISTS before CLOSED":          {ModelLeaving{Selects: true}, "* 4 EXISTS\n* OK [CLOSED] bye", "before CLOSED"},
		"FLAGS before CLOSED":           {ModelLeaving{Selects: true}, "* FLAGS (a)\n* OK [CLOSED] bye", "before CLOSED"},
		"VANISHED (EARLIER) too early":  {ModelLeaving{Selects: true, Since: true}, "* VANISHED (EARLIER) 1\n* OK [CLOSED] bye", "before CLOSED"},
		"two counts":                    {ModelLeaving{Selects: true}, "* 4 EXISTS\n* 3 EXISTS", "twice"},
		"CLOSED twice":                  {ModelLeaving{Selects: true}, "* OK [CLOSED] bye\n* OK [CLOSED] bye", "CLOSED twice"},
		"flags of before":               {ModelLeaving{Selects: true}, "* 1 FETCH (FLAGS ())", "that is left"},
		"VANISHED (EARLIER) unasked":    {ModelLeaving{Selects: true}, "* VANISHED (EARLIER) 1", "that is left"},
		"EXISTS where none is selected": {ModelLeaving{}, "* 4 EXISTS", "none is selected"},
		"CLOSED behind CLOSE":           {ModelLeaving{}, "* OK [CLOSED] bye", "no other mailbox"},
	} {
		var err error
		for line := range strings.SplitSeq(tc.told, "\n") {
			if err = tc.leaving.Response(Response{Text: line}); err != nil {
				break
			}
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if tc.want == "" && tc.leaving.Selects && tc.leaving.Exists != 3 {
			t.Errorf("%s: %d messages", name, tc.leaving.Exists)
		}
	}
}
