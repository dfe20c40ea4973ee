// Package fair shares a few slots between many callers so that no key (a user, a
// network) can keep the callers of other keys waiting: waiting keys are served in
// turn, callers of one key in the order in which they came.
//
// It imports none of our packages, and any of them may import it.
package fair
