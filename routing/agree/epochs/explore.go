package main

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// violation is a state in which a user is on two backends, and the steps that lead to it.
type violation struct {
	steps []did
	end   state
}

func (v *violation) String() string {
	var text strings.Builder
	for _, s := range v.steps {
		fmt.Fprintf(&text, "  %v\n", s)
	}
	for i, p := range v.end.proxies {
		if p.alive {
			fmt.Fprintf(&text, "  proxy %d: epoch %d, holds %v, its key %+v\n", i, p.epoch, p.holds, v.end.records[i])
		}
	}
	return text.String()
}

// explore goes through all states. It keeps a hash of 64 bits of each state that it has seen: with 10^8
// states the chance that two states have the same hash, and one of them is passed over, is 1 in 3,000. With
// two proxies it searches breadth first, which finds violations with few steps; with more it searches depth
// first, which needs less memory.
func (m *model) explore() (states int, bad *violation) {
	if m.proxies > 2 {
		return m.deep()
	}
	type node struct {
		state
		parent int
		step   did
	}
	seen := newHashes()
	queue := []node{{state: m.start(), parent: -1}}
	seen.add(queue[0].state)
	for n := 0; n < len(queue) && bad == nil; n++ {
		from := queue[n].state
		m.next(&from, func(step did, t state) {
			if bad != nil || !seen.add(t) {
				return
			}
			if t.parted() {
				bad = &violation{steps: []did{step}, end: t}
				for i := n; queue[i].parent >= 0; i = queue[i].parent {
					bad.steps = append(bad.steps, queue[i].step)
				}
				slices.Reverse(bad.steps)
			}
			queue = append(queue, node{t, n, step})
		})
	}
	return len(queue), bad
}

func (m *model) deep() (states int, bad *violation) {
	seen := newHashes()
	stack := []state{m.start()}
	seen.add(stack[0])
	for len(stack) > 0 && bad == nil {
		from := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		m.next(&from, func(step did, t state) {
			if bad != nil || !seen.add(t) {
				return
			}
			if t.parted() {
				bad = &violation{steps: []did{{-1, -1, fmt.Sprintf("from %+v", from)}, step}, end: t}
			}
			stack = append(stack, t)
		})
	}
	return seen.n, bad
}

// hashes is a set of hashes.
type hashes struct {
	seed  maphash.Seed
	slots []uint64 // 0: free
	n     int
}

func newHashes() *hashes { return &hashes{seed: maphash.MakeSeed(), slots: make([]uint64, 1<<12)} }

// add reports whether the state is new.
func (h *hashes) add(s state) bool {
	sum := maphash.Comparable(h.seed, s) | 1
	if h.n*4 > len(h.slots)*3 {
		old := h.slots
		h.slots = make([]uint64, 2*len(old))
		for _, v := range old {
			if v != 0 {
				h.put(v)
			}
		}
	}
	if !h.put(sum) {
		return false
	}
	h.n++
	return true
}

func (h *hashes) put(v uint64) bool {
	for i := v >> 1 & uint64(len(h.slots)-1); ; i = (i + 1) & uint64(len(h.slots)-1) {
		switch h.slots[i] {
		case 0:
			h.slots[i] = v
			return true
		case v:
			return false
		}
	}
}
