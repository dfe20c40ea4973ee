// Package model has the model-based test of parking: several clients of one mailbox
// do things at random, through a proxy that parks and resumes them as often as it
// can, on real servers; and after each response a model of what a client believes says
// whether the server may say that.
//
// A case is a list of operations from a seed. One that fails is run again, with
// fewer and fewer operations, and what is left is logged as a transcript. The same cases
// are run without a proxy, too: what a real server does by itself is no finding.
//
// ./test sets what it needs. MODEL_MINUTES makes it run for so long on each server,
// MODEL_SEED runs one case. It has tests only, and nobody imports it.
package model
