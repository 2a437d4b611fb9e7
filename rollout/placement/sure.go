package placement

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// visits bounds the search for the worst order, in looks at a class: 10 ms or so.
const visits = 200_000

// moving are the domains in which placing a pod changes something.
func (c *coupling) moving() (spread []*spreading, anti []*blocking) {
	for i := range c.spread {
		if c.spread[i].grows {
			spread = append(spread, &c.spread[i])
		}
	}
	for i := range c.avoid {
		if c.avoid[i].self {
			anti = append(anti, &c.avoid[i])
		}
	}
	return spread, anti
}

// classify groups nodes by their domains in all that moves.
func (t *trial) classify(nodes []int32) []class {
	spread, anti := t.c.moving()
	keys := make([]*domains, 0, len(spread)+len(anti))
	var coarsest *domains
	for _, sp := range spread {
		keys = append(keys, sp.domains)
		if coarsest == nil || sp.n < coarsest.n {
			coarsest = sp.domains
		}
	}
	for _, b := range anti {
		keys = append(keys, b.domains)
	}
	var out []class
	place := map[string]int{}
	ranks := map[int32]int{}
	tuple := make([]byte, 0, 4*len(keys))
	for _, at := range nodes {
		tuple = tuple[:0]
		for _, d := range keys {
			tuple = binary.LittleEndian.AppendUint32(tuple, uint32(d.of[at]))
		}
		j, ok := place[string(tuple)]
		if !ok {
			j = len(out)
			place[string(tuple)] = j
			out = append(out, class{})
			if coarsest != nil {
				out[j].rank = ranks[coarsest.of[at]]
				ranks[coarsest.of[at]]++
			}
		}
		out[j].nodes = append(out[j].nodes, at)
		out[j].room += t.p.capped[at]
	}
	return out
}

// sure is how many pods fit in whatever order the scheduler takes nodes, and whether that is all: where it is not, that many
// are sure and the search was given up.
func (t *trial) sure(limit int64, budget *int) (int64, bool) {
	if t.total == 0 || t.orderFree() {
		return t.total, true
	}
	return t.worst(min(limit, t.total), budget)
}

// orderFree reports whether every order of placing ends with as many pods. So it is in these cases:
//
//   - Nothing that is placed bears on what comes after.
//   - One spread constraint counts the shape. A domain with the fewest pods m is never refused, so when nothing fits any more it
//     is full: m is the least of what the domains can hold at all, M. Every other domain then is full or at M + maxSkew, or
//     above it from the start. With too few domains for minDomains M is 0 all along. So the end does not depend on the way.
//   - The shape avoids itself by one topology key: one for each of its domains, and what nodes without the label hold.
//   - Both, where each domain of the avoided key lies in one domain of the spread: these then hold one for each of those.
//   - Two spread constraints, of which the finer (hosts) lies in the coarser (zones) and has maxSkew 1. Let A be an end in which
//     nothing fits any more, with a pods on the least host. All ways stay within A's zones; so they all end with as many. For if
//     not, look at the first pod of another way that goes beyond either what a host can have in A, its own start or a + 1, or
//     what its zone has in A. A host beyond means that by then every host has a + 1; the least one of A then was not full, so
//     its zone was at its limit, and has more now than in A: its hosts have all that A's can have, and it one more. A zone
//     beyond means, where A's zone is at its limit, that the least zone has more than in A; and where it is not, all of its
//     hosts are full or at their limit in A, and so they are now.
//
// A key with one candidate in each of its domains (the hostname, mostly) only says one per node, which harms none of this.
func (t *trial) orderFree() bool {
	spread, anti := t.base.moving()
	anti = slices.DeleteFunc(anti, func(b *blocking) bool { return t.private(b.domains) })
	switch {
	case len(spread) == 2 && len(anti) == 0:
		return t.finer(spread[0], spread[1]) || t.finer(spread[1], spread[0])
	case len(spread) > 1 || len(anti) > 1:
		return false
	case len(spread) == 1 && len(anti) == 1:
		return t.nested(anti[0].domains, spread[0].domains)
	}
	return true
}

func (t *trial) finer(inner, outer *spreading) bool {
	return inner.MaxSkew == 1 && t.nested(inner.domains, outer.domains)
}

// private reports whether each domain has one candidate at most.
func (t *trial) private(d *domains) bool {
	seen := make([]bool, d.n)
	for i := range t.classes {
		for _, at := range t.classes[i].nodes {
			v := d.of[at]
			if v < 0 {
				continue
			}
			if seen[v] {
				return false
			}
			seen[v] = true
		}
	}
	return true
}

// nested reports whether each domain of inner lies within one of outer.
func (t *trial) nested(inner, outer *domains) bool {
	in := make([]int32, inner.n)
	for i := range t.classes {
		at := t.classes[i].nodes[0]
		v := inner.of[at]
		if v < 0 {
			continue
		}
		if in[v] != 0 && in[v] != outer.of[at]+1 {
			return false
		}
		in[v] = outer.of[at] + 1
	}
	return true
}

// worst goes through every order, pod by pod: the states that can be reached with d pods, of which those that differ only by
// which of several interchangeable classes got what are one. The first that is stuck ends it.
func (t *trial) worst(limit int64, budget *int) (int64, bool) {
	t.sortByKind()
	frontier := [][]int32{make([]int32, len(t.classes))}
	for depth := range limit {
		var next [][]int32
		known := map[string]bool{}
		for _, state := range frontier {
			if *budget -= len(t.classes); *budget < 0 {
				return depth, false
			}
			followers := t.follow(state)
			if len(followers) == 0 {
				return depth, true
			}
			for _, f := range followers {
				if name := stateName(f); !known[name] {
					known[name] = true
					next = append(next, f)
				}
			}
			*budget -= len(followers) * len(t.classes) / 8
		}
		frontier = next
	}
	return limit, true
}

func stateName(state []int32) string {
	name := make([]byte, 0, 4*len(state))
	for _, n := range state {
		name = binary.AppendUvarint(name, uint64(n))
	}
	return string(name)
}

// follow are the states one pod later.
func (t *trial) follow(state []int32) [][]int32 {
	c := t.base.clone()
	for i, n := range state {
		if n > 0 {
			c.put(int(t.classes[i].nodes[0]), int64(n))
		}
	}
	var out [][]int32
	for i := range t.classes {
		k := &t.classes[i]
		again := i > 0 && t.classes[i-1].kind == k.kind && state[i-1] == state[i]
		if again || int64(state[i]) == k.room {
			continue
		}
		if _, passes := c.check(int(k.nodes[0])); !passes {
			continue
		}
		f := slices.Clone(state)
		f[i]++
		// Within a kind the most come first: the one that grew moves up before its equals, and is the first of them already.
		out = append(out, f)
	}
	return out
}

// sortByKind finds interchangeable classes: as much room, the same domains or such as no other class is in, with the same
// counts.
func (t *trial) sortByKind() {
	spread, anti := t.base.moving()
	users := func(d *domains) []int {
		n := make([]int, d.n)
		for i := range t.classes {
			if v := d.of[t.classes[i].nodes[0]]; v >= 0 {
				n[v]++
			}
		}
		return n
	}
	names := make([][]byte, len(t.classes))
	describe := func(d *domains, count func(v int32) int64) {
		n := users(d)
		for i := range t.classes {
			v := d.of[t.classes[i].nodes[0]]
			if v >= 0 && n[v] == 1 {
				names[i] = binary.AppendVarint(append(names[i], 'p'), count(v))
			} else {
				names[i] = binary.AppendVarint(append(names[i], 's'), int64(v))
			}
		}
	}
	for _, sp := range spread {
		describe(sp.domains, func(v int32) int64 { return sp.count[v] })
	}
	for _, b := range anti {
		describe(b.domains, func(int32) int64 { return 0 })
	}
	kinds := map[string]int{}
	for i := range t.classes {
		name := string(binary.AppendVarint(names[i], t.classes[i].room))
		if _, ok := kinds[name]; !ok {
			kinds[name] = len(kinds)
		}
		t.classes[i].kind = kinds[name]
	}
	slices.SortStableFunc(t.classes, func(a, b class) int { return cmp.Compare(a.kind, b.kind) })
}
