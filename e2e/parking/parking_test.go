package parking

import (
	"testing"

	"imapproxy/e2e/servers"
)

// A check is about one thing that a parked client may notice. It has a proxy and users
// of its own, and a server that it shares.
type check struct {
	name string
	on   string // words of which a variant's name has to contain one
	run  func(t *testing.T, s *site)
}

// withACL are the variants whose servers have ACLs, and say who is the first to see a
// message: not mox.
const withACL = "sdbox-idle maildir-idle cyrus-idle"

// checks are in the order in which they begin; what takes long comes first.
func checks() []check {
	return []check{
		// maildir differs in files alone, and they take it minutes
		{"a large mailbox with holes", "sdbox-idle cyrus-idle", aLargeMailboxWithHoles},
		{"a client can't tell that it is parked", "-", aClientCantTellThatItIsParked},
		{"changes at each step of parking", "-idle", changesAtEachStepOfParking},
		{"changes at each step of a resume", "-idle", changesAtEachStepOfAResume},
		{"numbers of before the park", "-idle", numbersOfBeforeThePark},
		{"leaving a mailbox", "-idle", leavingAMailbox},
		{"commands that come together", "-idle", commandsThatComeTogether},
		{"STORE by number during a quiet park", "-idle", storeByNumberDuringAQuietPark},
		{"DONE at any time", "-idle", doneAtAnyTime},
		{"the last of an empty mailbox is none", "-idle", theLastOfAnEmptyMailboxIsNone},
		{"random packets", "-idle", randomPacketsTellNothingUntrue},
		{"a NOOP sees what was acknowledged", "-", aNOOPSeesWhatWasAcknowledged},
		{"a silent STORE isn't followed by older flags", "sdbox-idle maildir-idle cyrus-idle", aSilentStoreIsNotFollowedByOlderFlags},
		{"own marks aren't told again", "sdbox-idle maildir-idle cyrus-idle", ownMarksAreNotToldAgain},
		{"what a NOOP costs", "sdbox-idle sdbox-push cyrus-idle", whatANOOPCosts},
		{"a resync that is delivered late", "-idle", aResyncThatIsDeliveredLate},
		{"whose is recent", withACL, whoseIsRecent},
		{"a caching client that is cut while VANISHED is owed", "-idle", aCachingClientThatIsCutWhileVanishedIsOwedMissesNothing},
		{"a purged history", "sdbox-idle cyrus-idle", aPurgedHistory},
		{"a client of IMAP4rev2", "mox-idle cyrus-idle", aClientOfRev2IsParked},
		{"a client of UIDONLY", "mox-idle cyrus-idle", aClientOfUIDOnlyIsParked},
		{"what doesn't keep a session attached", "sdbox-idle cyrus-idle mox-idle", whatDoesntKeepASessionAttached},
		{"what only the backend knows", "sdbox-idle cyrus-idle", whatOnlyTheBackendKnowsKeepsASessionAttached},

		{"a mailbox that is no more", "-idle", aMailboxThatIsNoMoreEndsTheSession},
		{"a successor with a lower UIDNEXT", withACL, aSuccessorWithALowerUIDNextEndsTheSession},
		{"a right that is taken away", withACL, aRightThatIsTakenAwayEndsTheSession},
		{"write access that is taken away", withACL, writeAccessThatIsTakenAwayEndsTheSession},
		{"a warm connection lets nobody in", "sdbox-idle cyrus-idle", aWarmConnectionLetsNobodyIn},
		{"a password that changed", "sdbox-idle cyrus-idle", aPasswordThatChangedEndsAParkedSession},

		{"a backend that dies in the middle", "sdbox-idle cyrus-idle", aBackendThatDiesInTheMiddle},
		{"a backend that is gone at a resume", "sdbox-idle cyrus-idle", aBackendThatIsGoneAtAResume},
		{"a backend that stays away", "sdbox-idle", aBackendThatStaysAwayEndsTheSession}, // nothing of it is the server's
		{"a resume that times out", "sdbox-idle cyrus-idle", aResumeThatTimesOutAndLaterSucceeds},

		{"resumes while others read nothing", "sdbox-idle", resumesWhileOthersReadNothing},
		{"notifications while others read nothing", "sdbox-idle sdbox-push", notificationsWhileOthersReadNothing},

		{"NOTIFY over the rotation of its log", "sdbox-notify", notifyOverTheRotationOfItsLog},
		{"events that don't come", "sdbox-push", eventsThatDontCome},
		{"a flood of events", "sdbox-push cyrus-push", aFloodOfEvents},
	}
}

// TestParking runs each check on each server that it is about, many at a time.
func TestParking(t *testing.T) {
	servers.Real(t)
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := v.start(t)
			for _, c := range checks() {
				if containsAny(v.name, c.on) {
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						c.run(t, s)
					})
				}
			}
		})
	}
}
