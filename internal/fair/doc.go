// Package fair shares a few slots between many callers so that no key (a user, a
// network) can keep the callers of other keys waiting: waiting keys are served in
// turn, callers of one key in the order in which they came.
//
// Imports none of our packages. Imported by internal/admin, proxy, proxy/auth,
// proxy/guessing, proxy/park and proxy/session.
package fair
