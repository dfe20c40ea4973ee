// Package model has the model-based test of parking: several clients of one mailbox
// do things at random, one after the other and two at a time, through a proxy that parks and
// resumes them as often as it can; hints get lost, come late and twice; and after each response a
// model of what a client believes says whether it may be told that. The proxy is started from a
// configuration (internal/apptest), and push events come to it over HTTP. It runs on a server in
// this process (imaptest.ModelServer), and on the real ones where ./test has prepared them.
//
// In the variants named moves there are two servers with the same mail, and the user is moved from one to the other at
// random, by an agreement of proxies that a test scripts (internal/movetest).
//
// A case is a list of operations from a seed. A case that fails is run again with
// fewer and fewer operations, and the shortest one that still fails is logged as a transcript. The same cases
// are run without a proxy, too: a fault of a real server isn't a finding. The model tolerates the
// faults of servers that the cases can't avoid, and no more; separate tests show them
// (TestWhatDovecotSaysTooEarly, TestWhatMaildirDoes). Other tests plant faults in the responses to
// a client, in the hub's resyncs, and in the meaning of numbers that arrive together with DONE or
// NOOP; the model must find them.
//
// MODEL_ON=NAME takes the variant of this name; if there is none, those whose names begin so, also those that a run of
// all tests leaves out, but none without a proxy. They share MODEL_MINUTES=30, one after the other with -parallel 1, with other
// cases each time; without it the cases are always the same, as many as fit the time. MODEL_SEED runs one case. The package has tests only.
//
// Imports e2e/servers, internal/app, internal/apptest, internal/imaptest, proxy
// and proxy/park/view. Imported by none.
package model
